# SPDX-License-Identifier: Apache-2.0
"""Tables and the files they come from, among them files that lie."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest

from fusednn import data

NAN = float("nan")


def csv(tmp_path, text, name="table.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


# ---- tables ------------------------------------------------------------------------------------


def test_columns_are_numbers_or_text():
    columns = {"a": [1, None, 3], "b": [True, False, None], "d": ["", "x", "y"]}
    table = data.Table({**columns, "c": np.array([1, 2, 3], np.int8)})
    np.testing.assert_array_equal(table["a"], [1, NAN, 3])
    assert table["b"].tolist() == ["True", "False", None]
    assert table["c"].dtype == np.float64
    assert table["d"].tolist() == ["", "x", "y"]
    assert table.missing("b").tolist() == [False, False, True]
    assert table.take([2, 0])["a"].tolist() == [3, 1]
    assert table.drop("a", "b").names == ["d", "c"]
    assert "a" in table


@pytest.mark.parametrize(
    ("columns", "error", "says"),
    [
        ({"a": [1], "b": [1, 2]}, ValueError, "'a' has 1 rows, 'b' has 2"),
        ({"a": np.zeros((2, 2))}, ValueError, "must have one axis"),
        ([1, 2], TypeError, "must be a mapping"),
    ],
)
def test_tables_refuse(columns, error, says):
    with pytest.raises(error, match=says):
        data.Table(columns)


def test_unknown_column_suggests_the_nearest():
    table = data.Table({"income": [1.0], "age": [2.0]})
    with pytest.raises(data.ColumnNotFoundError, match="no column 'incme'; did you mean 'income'"):
        table["incme"]


def test_tables_of_pandas():
    pandas = pytest.importorskip("pandas", exc_type=ImportError)
    frame = pandas.DataFrame(
        {
            "a": pandas.array([1, None, 3], dtype="Int64"),
            "b": pandas.Categorical(["x", None, "y"]),
            "c": [True, False, True],
            "d": pandas.to_datetime(["2020-01-01", None, "2021-01-01"]),
        }
    )
    table = data.Table(frame)
    np.testing.assert_array_equal(table["a"], [1, NAN, 3])
    assert table["b"].tolist() == ["x", None, "y"]
    assert table["c"].tolist() == ["True", "False", "True"]
    assert table["d"][1] is None
    twice = pandas.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(ValueError, match="two columns named 'a'"):
        data.Table(twice)


# ---- CSV ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_csv_as_it_is_found(tmp_path, delimiter, mark, ending):
    rows = [["größe", "Stadt ", "n"], [" 1.5", "Köln", "1e3"], ["?", '"a, b; c"', "-2"], [""] * 3]
    text = mark + ending.join(delimiter.join(row) for row in rows) + ending * 2
    table = data.read_csv(csv(tmp_path, text))
    assert table.names == ["größe", "Stadt", "n"]
    np.testing.assert_array_equal(table["größe"], [1.5, NAN, NAN])
    assert table["Stadt"].tolist() == ["Köln", "a, b; c", None]
    np.testing.assert_array_equal(table["n"], [1000, -2, NAN])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a,b\n", "has a line of names but no rows"),
        ("a,b\n\n\n", "has a line of names but no rows"),
        ("a,b\n1,2\n1\n", "line 3: 1 cells, but the first line names 2 columns"),
        ("a,b\n1,2,3\n", "line 2: 3 cells"),
        ("a,b, a\n1,2,3\n", "two columns named 'a' .columns 1 and 3."),
        ("1,2\n3,4\n", "begins with a line of numbers"),
        (b"a,b\n1,\xff\xfa\n", "not utf-8"),
        (b"\xfc,b\n1,2\n", "not utf-8"),
        (gzip.compress(b"a,b\n1,2\n" * 100)[:-9], "line"),
        ('a,b\n1,"' + "x" * 200_000 + '"\n', "field larger than field limit"),
    ],
)
def test_csv_refuses_with_file_and_line(tmp_path, text, says):
    path = csv(tmp_path, text)
    with pytest.raises(ValueError, match=says) as caught:
        data.read_csv(path)
    assert str(path) in str(caught.value)


def test_csv_in_other_encodings(tmp_path):
    assert data.read_csv(csv(tmp_path, "a,b\nü,1\n", encoding="utf-16"))["a"].tolist() == ["ü"]
    latin = csv(tmp_path, "a,b\nü,1\n", encoding="latin-1")
    assert data.read_csv(latin, encoding="latin-1")["a"].tolist() == ["ü"]
    zipped = csv(tmp_path, gzip.compress(b"a\n1\n"), "a.csv.gz")
    assert data.read(zipped)["a"].tolist() == [1]


def test_what_counts_as_a_number(tmp_path):
    path = csv(tmp_path, "a,b,c,d,e\n1_000,1e999,-inf,007,\n2,3,4,x,\n")
    table = data.read_csv(path, text=["b"])
    assert table["a"].tolist() == ["1_000", "2"]
    assert table["b"].tolist() == ["1e999", "3"]
    assert table["c"].tolist() == [-np.inf, 4]
    assert table["d"].tolist() == ["007", "x"]
    assert np.isnan(table["e"]).all()
    with pytest.raises(data.ColumnNotFoundError, match="'f'"):
        data.read_csv(path, text=["f"])


def test_pieces_are_the_whole(tmp_path, rng):
    rows = 101
    cells = rng.standard_normal(rows).round(3).astype(str)
    late = ["1"] * (rows - 1) + ["text"]  # only the last piece shows that it is text
    lines = [f"{a},{b}" for a, b in zip(cells, late, strict=True)]
    file = data.CSVFile(csv(tmp_path, "a,b\n" + "\n".join(lines)))
    whole, pieces = file.read(), list(file.pieces(10))
    assert [len(piece) for piece in pieces] == [10] * 10 + [1]
    for name in whole.names:
        joined = np.concatenate([piece[name] for piece in pieces])
        assert joined.tolist() == whole[name].tolist()
    assert file.numbers == {"a"}


def test_round_trip(tmp_path, rng):
    table = data.Table({"x": rng.standard_normal(50), "n": np.arange(50), "t": ["a,b", None] * 25})
    path = tmp_path / "out.csv"
    data.write_csv(table, path)
    again = data.read_csv(path)
    for name in table.names:
        assert again[name].tolist() == table[name].tolist()


# ---- other kinds of files ----------------------------------------------------------------------


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    columns = {"a": [1, None, 3], "b": ["x", None, "z"], "c": [True, False, None], "d": [1.5, 2, 3]}
    parquet.write_table(pyarrow.table(columns), path)
    table = data.read(path)
    np.testing.assert_array_equal(table["a"], [1, NAN, 3])
    assert table["b"].tolist() == ["x", None, "z"]
    assert table["c"].tolist() == ["True", "False", None]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"a\.parquet"):
        data.read(path)


def test_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.arange(6).reshape(3, 2), y=np.array(["a", "b", "c"]))
    table = data.read(path)
    assert table.names == ["x_0", "x_1", "y"]
    assert table["x_1"].tolist() == [1, 3, 5]
    assert table["y"].tolist() == ["a", "b", "c"]


def malformed_npz():
    whole = io.BytesIO()
    np.savez(whole, x=np.arange(9.0))
    yield "cut", whole.getvalue()[:-30]
    yield "empty", b""
    lie = bytearray(whole.getvalue())
    place = lie.index(b"(9,)")
    lie[place : place + 4] = b"(8,)"
    yield "other header", bytes(lie)
    objects = io.BytesIO()
    np.savez(objects, x=np.array([{}, 1], dtype=object))
    yield "objects", objects.getvalue()
    cube = io.BytesIO()
    np.savez(cube, x=np.zeros((2, 2, 2)))
    yield "three axes", cube.getvalue()
    none = io.BytesIO()
    np.savez(none)
    yield "nothing", none.getvalue()


@pytest.mark.parametrize("content", [pytest.param(c, id=i) for i, c in malformed_npz()])
def test_npz_refuses_malformed_files(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz"):
        data.read(path)


def test_unknown_kind_of_file(tmp_path):
    with pytest.raises(ValueError, match=r"known endings: \.csv"):
        data.read(tmp_path / "a.xlsx")
