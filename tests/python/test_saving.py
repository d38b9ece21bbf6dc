# SPDX-License-Identifier: Apache-2.0
"""Model files: what is written comes back, and what is broken is refused."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest

import fusednn
from fusednn import layers, optimizers, safetensors

FIXTURES = Path(__file__).parents[1] / "fixtures"


def make(seed=0, units=6, **compile_):
    model = fusednn.Sequential(
        [
            layers.Dense(units, activation=fusednn.activations.elu(alpha=0.5), name="first"),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(3),
        ],
        input_shape=(4,),
        seed=seed,
    )
    arguments = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", **compile_}
    model.compile(**arguments)
    return model


@pytest.fixture
def data(rng):
    return rng.normal(size=(50, 4)), rng.integers(0, 3, 50)


def assert_same(a, b):
    for one, other in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# ---- what is written comes back ------------------------------------------------------------------

OPTIMIZERS = [
    optimizers.SGD(),
    optimizers.SGD(momentum=0.9, nesterov=True),
    optimizers.Adagrad(),
    optimizers.RMSprop(centered=True, momentum=0.5),
    optimizers.Adadelta(),
    optimizers.Adam(amsgrad=True, use_ema=True),
    optimizers.AdamW(clipnorm=1.0),
    optimizers.Adamax(l1=0.01),
    optimizers.Nadam(),  # keeps a number of its own from step to step
    optimizers.RAdam(),
    optimizers.Lion(global_clipnorm=0.5),
    optimizers.Lamb(weight_decay=0.1),
]


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_training_goes_on_with_the_same_bits(tmp_path, data, optimizer, precision):
    x, y = data
    optimizer = optimizers.get(optimizers.serialize(optimizer))
    whole = make(optimizer=optimizer, precision=precision, metrics=["accuracy"])
    whole.fit(x, y, batch_size=8, epochs=2, verbose=0)
    whole.optimizer.learning_rate = 0.02
    whole.save(tmp_path / "model.safetensors")
    resumed = fusednn.load(tmp_path / "model.safetensors")
    assert_same(whole, resumed)
    a = whole.fit(x, y, batch_size=8, epochs=2, verbose=0)
    b = resumed.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert a.history == b.history
    assert_same(whole, resumed)
    assert resumed.optimizer.get_config() == whole.optimizer.get_config()
    if optimizer.get_config()["use_ema"]:
        pairs = zip(*(m.get_weights(averaged=True) for m in (whole, resumed)), strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(one, other)


def test_a_graph_with_several_inputs_and_outputs(tmp_path, rng):
    a, b = layers.Input((2,), name="a"), layers.Input((3,), name="b")
    both = layers.Concatenate()([a, b])
    first = layers.Dense(1, name="first", trainable=False)(both)
    second = layers.Softmax(name="second")(layers.Dense(3)(layers.Add()([b, b])))
    model = fusednn.Model([a, b], [first, second], name="fork")
    model.compile(
        "rmsprop",
        {"first": "mse", "second": "categorical_crossentropy"},
        metrics={"second": ["accuracy", "kld"]},
        loss_weights={"first": 0.25, "second": 1},
        convention="keras",
        precision="float64",
    )
    x = {"a": rng.normal(size=(8, 2)), "b": rng.normal(size=(8, 3))}
    y = [rng.normal(size=8), rng.dirichlet(np.ones(3), 8)]
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "fork.safetensors")
    copy = fusednn.load(tmp_path / "fork.safetensors")
    assert type(copy) is fusednn.Model
    assert copy.name == "fork"
    assert not copy.get_layer("first").trainable
    assert copy.get_config() == model.get_config()
    assert copy.evaluate(x, y, return_dict=True) == model.evaluate(x, y, return_dict=True)
    model.fit(x, y, verbose=0)
    copy.fit(x, y, verbose=0)
    assert_same(model, copy)


def test_without_optimizer(tmp_path, data):
    model = make()
    model.save(tmp_path / "m", include_optimizer=False)
    copy = fusednn.load(tmp_path / "m")
    assert copy.optimizer is None
    model.save(tmp_path / "m")
    assert fusednn.load(tmp_path / "m", compile=False).optimizer is None
    assert_same(model, copy)
    np.testing.assert_array_equal(model.predict(data[0]), copy.predict(data[0]))


def test_weights_alone(tmp_path):
    model, other = make(seed=1), make(seed=2, precision="float64")
    model.save_weights(tmp_path / "w")
    other.load_weights(tmp_path / "w")
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        assert two.dtype == np.float64
        np.testing.assert_array_equal(one, two)
    whole = make(seed=3)
    model.save(tmp_path / "m")
    whole.load_weights(tmp_path / "m")  # a whole model will do
    assert_same(model, whole)
    with pytest.raises(ValueError, match="holds weights alone"):
        fusednn.load(tmp_path / "w")


def test_the_file_is_what_other_readers_expect(tmp_path):
    model = make()
    path = tmp_path / "m.safetensors"
    model.save(path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    assert json.loads(header["__metadata__"]["model"])["class_name"] == "Sequential"
    entry = header["first/kernel"]
    assert (entry["dtype"], entry["shape"]) == ("F32", [4, 6])
    first, end = entry["data_offsets"]
    kernel = np.frombuffer(data[8 + length + first : 8 + length + end], "<f4").reshape(4, 6)
    np.testing.assert_array_equal(kernel, model.get_layer("first").get_weights()[0])
    assert "optimizer/exp_avg/first/kernel" in header
    theirs = pytest.importorskip("safetensors.numpy").load_file(path)
    for name, value in safetensors.read(path)[0].items():
        np.testing.assert_array_equal(theirs[name], value)


@pytest.mark.parametrize("dtype", sorted(map(str, safetensors._NAMES)))
def test_arrays_of_every_dtype(tmp_path, dtype):
    arrays = {
        "scalar": np.ones((), dtype),
        "empty": np.ones((0, 3), dtype),
        "turned": np.arange(6).reshape(2, 3).astype(dtype).T,
    }
    safetensors.write(tmp_path / "a", arrays, {"key": "Wert ü"})
    read, metadata = safetensors.read(tmp_path / "a")
    assert metadata.pop("checksum").startswith("sha256:")
    assert metadata == {"key": "Wert ü"}
    for name, value in arrays.items():
        assert read[name].dtype == value.dtype
        np.testing.assert_array_equal(read[name], value)


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "m"
    make(seed=1).save(path)
    before = path.read_bytes()

    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        make(seed=2).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m"]
    monkeypatch.undo()
    make(seed=2).save(path)
    assert path.read_bytes() != before
    if os.name == "posix":
        mask = os.umask(0)
        os.umask(mask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    with pytest.raises(IsADirectoryError):
        make().save(tmp_path)
    with pytest.raises(FileNotFoundError):
        make().save(tmp_path / "nowhere" / "m")
    with pytest.raises(FileNotFoundError):
        fusednn.load(tmp_path / "nothing")


def test_an_unbuilt_model_has_nothing_to_save(tmp_path):
    with pytest.raises(ValueError, match="is not built"):
        fusednn.Sequential([layers.Dense(1)]).save(tmp_path / "m")
    assert os.listdir(tmp_path) == []


# ---- what is broken is refused -------------------------------------------------------------------


def test_weights_of_another_architecture_change_nothing(tmp_path):
    model = make(seed=1)
    before = model.get_weights()
    make(units=7).save(tmp_path / "units")
    other = fusednn.Sequential([layers.Dense(3)], input_shape=(4,))
    other.save_weights(tmp_path / "fewer")
    more = fusednn.Sequential([*map(layers.deserialize, model.get_config()["layers"][1:])])
    more.add(layers.Dense(2))
    more._build_for(np.zeros((1, 4)))
    more.save_weights(tmp_path / "more")
    for name, message in [
        ("units", r"'first/kernel' has shape \(4, 7\), the model needs \(4, 6\)"),
        ("fewer", "no array 'first/kernel'"),
        ("more", "has an array 'dense_1/kernel' that the model has not"),
    ]:
        with pytest.raises(ValueError, match=f"{name}: .*{message}.* nothing was changed"):
            model.load_weights(tmp_path / name)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def small(tmp_path):
    """Bytes of a small checkpoint."""
    model = fusednn.Sequential([layers.Dense(1)], input_shape=(1,), seed=0)
    model.compile("sgd", "mse")
    model.fit([1.0], [1.0], verbose=0, resume=fusednn.Checkpoints(tmp_path / "run", keep=1))
    return next((tmp_path / "run").glob("checkpoint-*")).read_bytes()


def assert_refused(path, model):
    before = model.get_weights()
    for read in (fusednn.load, model.load_weights):
        with pytest.raises(ValueError, match=f"^{path}: "):
            read(path)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_truncation_is_refused(tmp_path):
    data = small(tmp_path)
    model = fusednn.Sequential([layers.Dense(1)], input_shape=(1,))
    cut = tmp_path / "cut"
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        assert_refused(cut, model)
    for more in (b"\0", b" ", data):
        cut.write_bytes(data + more)
        assert_refused(cut, model)


def test_every_changed_byte_is_noticed(tmp_path, rng):
    """Of the length, the header, its padding, the checksum itself and the arrays."""
    data = small(tmp_path)
    model = fusednn.Sequential([layers.Dense(1)], input_shape=(1,))
    broken = tmp_path / "broken"
    for place in range(len(data)):
        for flipped in (1 << int(rng.integers(0, 8)), 0xFF):
            other = bytes([data[place] ^ flipped])
            broken.write_bytes(data[:place] + other + data[place + 1 :])
            assert_refused(broken, model)


def test_no_changed_byte_of_an_old_file_does_harm(tmp_path, rng):
    """Files of version 1 have no checksum: nothing but ValueError comes out."""
    data = (FIXTURES / "model-v1.safetensors").read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    messages = []
    for place in [*range(8), *rng.integers(8, end, 400)]:
        broken = bytearray(data)
        broken[place] ^= 1 << int(rng.integers(0, 8))
        (tmp_path / "b").write_bytes(broken)
        try:
            fusednn.load(tmp_path / "b")
        except ValueError as error:
            messages.append(str(error))
    assert all(message.startswith(f"{tmp_path / 'b'}: ") for message in messages)
    assert len(messages) > 200


def test_a_header_that_another_program_changed(tmp_path):
    """Its checksum is stale; without one it is a file of nobody's."""
    make().save(tmp_path / "m")
    arrays, metadata = safetensors.read(tmp_path / "m")
    official = pytest.importorskip("safetensors.numpy")
    official.save_file(arrays, tmp_path / "m", metadata)
    with pytest.raises(ValueError, match="m: its checksum is not that of its bytes"):
        fusednn.load(tmp_path / "m")
    del metadata["checksum"]
    official.save_file(arrays, tmp_path / "m", metadata)
    with pytest.raises(ValueError, match="m: it has no checksum"):
        fusednn.load(tmp_path / "m")
    with pytest.raises(ValueError, match="m: it has no checksum"):
        make().load_weights(tmp_path / "m")


# ---- files of others, and of older versions ------------------------------------------------------

EXPECTED = {
    version: json.loads((FIXTURES / f"expected-v{version}.json").read_text()) for version in (1, 2)
}


@pytest.mark.parametrize("version", EXPECTED)
def test_files_of_every_version_load(version):
    expected = EXPECTED[version]
    x = np.array(expected["x"])
    model = fusednn.load(FIXTURES / f"model-v{version}.safetensors")
    np.testing.assert_allclose(model.predict(x), expected["model"], rtol=1e-5, atol=1e-6)
    assert model.optimizer.iterations == 10
    model.fit(x, [0, 1, 2, 0, 1], verbose=0)
    graph = fusednn.load(FIXTURES / f"graph-v{version}.safetensors")
    outputs = graph.predict({"a": x[:, :2], "b": x[:, 1:]})
    for got, want in zip(outputs, expected["graph"], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)
    other = make(units=5)
    other.load_weights(FIXTURES / f"weights-v{version}.safetensors")
    np.testing.assert_array_equal(other.get_weights()[0], other.weights[0])


def test_a_layer_named_as_the_optimizer(tmp_path):
    model = fusednn.Sequential([layers.Dense(2, name="optimizer")], input_shape=(2,), seed=0)
    model.compile("adam", "mse")
    model.fit(np.ones((2, 2)), np.ones((2, 2)), verbose=0)
    model.save(tmp_path / "m")
    assert_same(fusednn.load(tmp_path / "m"), model)


def test_files_of_the_safetensors_package(tmp_path, rng):
    official = pytest.importorskip("safetensors.numpy")
    model = make()
    arrays = {
        n: rng.normal(size=v.shape).astype("f4") for n, v in model._named_parameters().items()
    }
    official.save_file(arrays, tmp_path / "theirs")
    model.load_weights(tmp_path / "theirs")
    for name, value in model._named_parameters().items():
        np.testing.assert_array_equal(value, arrays[name])
    model.save_weights(tmp_path / "ours")
    for name, value in official.load_file(tmp_path / "ours").items():
        np.testing.assert_array_equal(value, arrays[name])


def test_bfloat16_of_others(tmp_path):
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    model = fusednn.Sequential([layers.Dense(3, name="a")], input_shape=(2,))
    kernel = torch.linspace(-3, 3, 6, dtype=torch.bfloat16).reshape(2, 3)
    save_file({"a/kernel": kernel, "a/bias": torch.zeros(3)}, tmp_path / "t")
    model.load_weights(tmp_path / "t")
    np.testing.assert_array_equal(model.get_weights()[0], kernel.float().numpy())
    eighth = torch.zeros(3).to(torch.float8_e4m3fn)
    save_file({"a/kernel": kernel, "a/bias": eighth}, tmp_path / "t")
    with pytest.raises(ValueError, match="'a/bias' has no known dtype, but 'F8_E4M3'"):
        model.load_weights(tmp_path / "t")


def rewritten(tmp_path, change):
    """Path of a model file whose arrays and metadata `change` has changed in place."""
    make().save(tmp_path / "m")
    arrays, metadata = safetensors.read(tmp_path / "m")
    model, training = json.loads(metadata["model"]), json.loads(metadata["training"])
    change(arrays, metadata, model, training)
    for key, value in (("model", model), ("training", training)):
        if key in metadata:
            metadata[key] = json.dumps(value)
    safetensors.write(tmp_path / "m", arrays, metadata)
    return tmp_path / "m"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, m, model, t: m.pop("format"), "not of a fusednn model"),
        (lambda a, m, model, t: m.update(format_version="3"), "reads up to 2"),
        (lambda a, m, model, t: m.update(format_version="one"), "format_version is 'one'"),
        (lambda a, m, model, t: model.update(class_name="os.system"), "os.system"),
        (
            lambda a, m, model, t: model["config"]["layers"][1].update(class_name="Lambda"),
            "class_name='Lambda' is unknown",
        ),
        (
            lambda a, m, model, t: model["config"]["layers"][1]["config"].update(units=-1),
            "units must be at least 1",
        ),
        (
            lambda a, m, model, t: model["config"]["layers"][1]["config"].update(evil=1),
            "has no argument 'evil'",
        ),
        (lambda a, m, model, t: model.pop("config"), "architecture cannot be built"),
        (lambda a, m, model, t: model.update(config=[1]), "architecture cannot be built"),
        (lambda a, m, model, t: model.update(precision="float8"), "precision"),
        (lambda a, m, model, t: model.update(seed="x"), "seed must be an integer"),
        (lambda a, m, model, t: a.pop("first/kernel"), "no array 'first/kernel'"),
        (lambda a, m, model, t: a.update(extra=a["first/bias"]), "'extra' that the model has not"),
        (
            lambda a, m, model, t: a.update({"first/bias": np.arange(6)}),
            "'first/bias' has dtype int64",
        ),
        (
            lambda a, m, model, t: a.pop("optimizer/exp_avg/first/bias"),
            "no array 'optimizer/exp_avg/first/bias'",
        ),
        (lambda a, m, model, t: t.pop("loss"), "state of training cannot be restored"),
        (lambda a, m, model, t: t.update(loss="cross"), "loss='cross' is unknown"),
        (lambda a, m, model, t: t.update(optimizer_steps=-1), "optimizer_steps"),
        (lambda a, m, model, t: t.update(optimizer_steps="x"), "cannot be restored"),
        (lambda a, m, model, t: t.update(optimizer_memory=[1, 2]), "optimizer_memory"),
        (lambda a, m, model, t: t.update(training_steps=-1), "m: "),
        (lambda a, m, model, t: t.update(epochs=-1), "epochs must be at least 0"),
        (lambda a, m, model, t: model.update(class_name=["Model"]), "not Sequential or Model"),
        (
            lambda a, m, model, t: model["config"]["layers"][1]["config"].update(units=10**15),
            "architecture cannot be built",
        ),
    ],
)
def test_files_that_say_nonsense(tmp_path, change, message):
    path = rewritten(tmp_path, change)
    with pytest.raises(ValueError, match=message) as caught:
        fusednn.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[]", "not a JSON object"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": 1}', "'a' has no known dtype"),
        (b'{"a":{"dtype":"F99"}}', "no known dtype"),
        (b'{"a":{"dtype":["F32"]}}', "no known dtype"),
        (b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', "no valid shape"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}', "no valid shape"),
        (b'{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', "no valid shape"),
        (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', "does not fill its place"),
        (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', "ends at byte 8 of 4"),
        (b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}}', "hole"),
        (b'{"__metadata__":{"a":1}}', "__metadata__"),
        (b'{"a":1,"a":2}', "twice"),
        (
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
            b'"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            "overlap",
        ),
        (
            b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}',
            "does not fill",
        ),
    ],
)
def test_headers_that_are_wrong(header, message):
    with pytest.raises(ValueError, match=message):
        safetensors.decode(len(header).to_bytes(8, "little") + header + b"\0" * 4)


def test_an_absurd_header_length():
    with pytest.raises(ValueError, match="truncated or no safetensors file"):
        safetensors.decode(b"\xff" * 8 + b"{}")
