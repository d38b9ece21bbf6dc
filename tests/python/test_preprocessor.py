# SPDX-License-Identifier: Apache-2.0
"""From tables to inputs: against NumPy and scikit-learn, edges, to JSON and back."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest

import fusednn
from fusednn import data

NAN = float("nan")


def table_of(rng, rows=200):
    return data.Table(
        {
            "size": np.where(rng.random(rows) < 0.1, NAN, rng.lognormal(3, 1, rows)),
            "color": np.array(["red", "blue", "green", None], object)[rng.integers(0, 4, rows)],
            "grade": np.array(["low", "mid", "high"], object)[rng.integers(0, 3, rows)],
            "same": np.ones(rows),
            "void": np.full(rows, NAN),
            "name": np.array([f"person {i}" for i in range(rows)], object),
            "price": rng.standard_normal(rows) * 5 + 100,
        }
    )


def prepared(rng, **options):
    table = table_of(rng)
    kinds = {"grade": ["low", "mid", "high"]}
    return table, data.Preprocessor("price", kinds=kinds, **options).fit(table)


def test_values_are_those_of_numpy(rng):
    table, preprocessor = prepared(rng)
    x = preprocessor.transform(table)
    assert x.dtype == np.float32
    columns = dict(zip(preprocessor.feature_names, x.T.astype(np.float64), strict=True))
    size = table["size"]
    filled = np.where(np.isnan(size), np.nanmedian(size), size)
    z = (filled - np.nanmean(size)) / np.nanstd(size)
    np.testing.assert_allclose(columns["size"], np.clip(z, -5, 5), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(columns["size is missing"], np.isnan(size))
    ranks = {"low": -1, "mid": 0, "high": 1}
    assert columns["grade"].tolist() == [ranks[g] for g in table["grade"]]
    frequent = max(("red", "blue", "green"), key=table["color"].tolist().count)
    for color in ("red", "blue", "green"):
        expected = [c == color or (c is None and color == frequent) for c in table["color"]]
        assert columns[f"color={color}"].tolist() == expected
    assert columns["color is missing"].tolist() == [c is None for c in table["color"]]
    out = {c.name: c.describe() for c in preprocessor.columns if not c.outputs}
    assert set(out) == {"same", "void", "name"}
    assert "1 in every row" in out["same"]
    y = preprocessor.transform_target(table)
    assert (y.mean(), y.std()) == pytest.approx((0, 1), abs=1e-12)


def test_values_are_those_of_scikit_learn(rng):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    numbers = rng.standard_normal((50, 3)) * [1, 100, 1e-4] + [0, 5, 1]
    words = rng.choice(["a", "b", "c"], (50, 2))
    columns = {f"n{i}": numbers[:, i] for i in range(3)} | {f"w{i}": words[:, i] for i in range(2)}
    x = data.Preprocessor().fit(columns).transform(columns)
    expected = np.concatenate(
        [
            preprocessing.StandardScaler().fit_transform(numbers),
            preprocessing.OneHotEncoder(sparse_output=False).fit_transform(words),
        ],
        axis=1,
    )
    np.testing.assert_allclose(x, expected, rtol=2e-6, atol=1e-6)


def test_json_and_back_is_the_same(rng):
    table, preprocessor = prepared(rng)
    again = data.Preprocessor.from_json(preprocessor.to_json())
    assert again.get_config() == preprocessor.get_config()
    np.testing.assert_array_equal(again.transform(table), preprocessor.transform(table))
    np.testing.assert_array_equal(
        again.transform_target(table), preprocessor.transform_target(table)
    )


def test_every_damage_to_the_json_is_a_value_error(rng):
    """Each plain value in turn is replaced by nonsense: a clear error, or a preprocessor."""
    table, preprocessor = prepared(rng)
    whole = preprocessor.get_config()

    def places(value, path=()):
        if isinstance(value, dict):
            for key, item in value.items():
                yield from places(item, (*path, key))
        elif isinstance(value, list):
            for place, item in enumerate(value):
                yield from places(item, (*path, place))
        yield path

    for path in places(whole):
        for nonsense in (None, True, -1, "text", [], {}, [1], {"kind": "number"}, 1e400, 10**400):
            config = json.loads(json.dumps(whole))
            if path:
                at = config
                for key in path[:-1]:
                    at = at[key]
                at[path[-1]] = nonsense
            else:
                config = nonsense
            with contextlib.suppress(ValueError, data.ColumnNotFoundError):
                data.Preprocessor.from_config(config).transform(table)


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"columns": []}', "[" * 100_000])
def test_json_that_is_none(text):
    with pytest.raises(ValueError):
        data.Preprocessor.from_json(text)


def test_what_was_never_seen(rng):
    table, preprocessor = prepared(rng)
    new = table.take([0, 0]).with_column("color", ["purple", None])
    new = new.with_column("grade", ["superb", "mid"]).with_column("size", [1e300, 1])
    x = dict(zip(preprocessor.feature_names, preprocessor.transform(new).T, strict=True))
    assert [x[f"color={c}"][0] for c in ("red", "blue", "green")] == [0, 0, 0]
    assert x["color is missing"].tolist() == [0, 1]
    assert x["grade"][0] in (-1, 0, 1)
    assert x["size"][0] == 5  # cut


def test_rare_categories_are_together():
    cells = ["a"] * 50 + ["b"] * 30 + [f"rare {i % 9}" for i in range(18)]
    preprocessor = data.Preprocessor(max_categories=2).fit({"c": cells})
    assert preprocessor.feature_names == ["c=a", "c=b", "c is another"]
    x = preprocessor.transform({"c": ["a", "rare 3", "never seen"]})
    assert x.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]


def test_numbers_as_categories_and_text_among_numbers():
    preprocessor = data.Preprocessor(kinds={"code": "category"}).fit({"code": [1, 2, 2, 1.5]})
    assert preprocessor.feature_names == ["code=1", "code=1.5", "code=2"]
    numbers = data.Preprocessor().fit({"n": [1.0, 2.0, 3.0]})
    assert numbers.transform({"n": ["2", None, "3"]})[0, 0] == 0
    with pytest.raises(ValueError, match="column 'n' holds 'many' in row 2"):
        numbers.transform({"n": ["2", "many", "3"]})


@pytest.mark.parametrize(
    ("columns", "options", "says"),
    [
        ({"a": [1.0, 2.0]}, {"target": "b"}, "no column 'b'"),
        ({"a": [1.0, 2.0]}, {"kinds": {"aa": "drop"}}, "did you mean 'a'"),
        ({"a": [1.0, np.inf]}, {}, "column 'a' holds inf in row 2"),
        ({"a": [1.0, 1e200]}, {}, "within ±1e150"),
        ({"a": [1.0, 1.0]}, {}, "no column can be an input"),
        ({"a": []}, {}, "no rows"),
        ({}, {}, "no columns"),
        ({"a": [1.0, 2.0], "y": ["x", "x"]}, {"target": "y"}, "one class only, 'x'"),
        ({"a": [1.0, 2.0], "y": [3.0, 3.0]}, {"target": "y"}, "is 3 in every row"),
        ({"a": [1.0, 2.0], "y": [NAN, NAN]}, {"target": "y"}, "no rows"),
        ({"a": [1.0, 2.0], "y": ["p", "q"]}, {"target": "y", "task": "regression"}, "holds text"),
        (
            {"a": [1.0, 2, 3, 4], "y": ["p", "q", "r", "p"]},
            {"target": "y", "task": "binary"},
            "has 3 classes",
        ),
        (
            {"a": np.arange(9.0), "y": list("abcdefghi")},
            {"target": "y"},
            "too many to be classes",
        ),
        ({"a": [1.0], "y": [1.0]}, {"target": "y", "task": "regresion"}, "did you mean"),
        ({"g": ["low", "odd"]}, {"kinds": {"g": ["low", "high"]}}, "'odd', which is not in"),
        ({"g": ["low", "odd"]}, {"kinds": {"g": "categories"}}, "did you mean 'category'"),
    ],
)
def test_refusals(columns, options, says):
    with pytest.raises((ValueError, KeyError), match=says):
        data.Preprocessor(**options).fit(columns)


@pytest.mark.parametrize(
    ("cells", "task"),
    [
        (["a", "b"] * 30, "binary"),
        ([0, 1] * 30, "binary"),
        (["a", "b", "c"] * 30, "multiclass"),
        ([3, 4, 5] * 30, "multiclass"),
        ([1.5, 2.5] * 30, "regression"),
        (list(range(60)), "regression"),
        ([0, 1, 2] * 3, "regression"),  # nine rows are too few to say that these are classes
    ],
)
def test_the_task_is_seen(cells, task):
    table = {"x": np.arange(len(cells)), "y": cells}
    assert data.Preprocessor("y").fit(table).target.task == task


def test_rows_without_a_target_teach_nothing():
    whole = {"x": [1.0, 2.0, 3.0, 1000.0], "y": [1.5, 2.5, 4.0, NAN]}
    part = {name: cells[:3] for name, cells in whole.items()}
    config = [data.Preprocessor("y").fit(t).get_config() for t in (whole, part)]
    assert config[0] == config[1]
    preprocessor = data.Preprocessor("y").fit(whole)
    with pytest.raises(ValueError, match="target 'y' is missing in row 4"):
        preprocessor.transform_target(whole)


def test_labels_come_back_as_they_were():
    numbers = data.Preprocessor("y").fit({"x": np.arange(60.0), "y": [7, -3] * 30}).target
    assert numbers.labels == ("-3", "7")
    assert numbers.predictions(np.array([[0.9], [0.1]])).tolist() == [7, -3]
    three = data.Preprocessor("y").fit({"x": np.arange(60.0), "y": ["b", "a", "c"] * 20})
    assert three.target.predictions(np.eye(3)).tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="target 'y' is 'd' in row 1; the classes are a, b, c"):
        three.transform_target({"x": [1.0], "y": ["d"]})


def test_pieces_teach_what_the_whole_teaches(rng):
    table = table_of(rng, 1000)
    pieces = [table.take(slice(at, at + 37)) for at in range(0, 1000, 37)]
    whole = data.Preprocessor("price").fit(table)
    parts = data.Preprocessor("price").fit(pieces)
    np.testing.assert_allclose(parts.transform(table), whole.transform(table), rtol=1e-6, atol=1e-6)
    assert parts.feature_names == whole.feature_names


def test_statistics_far_from_zero(rng):
    """Chan's update keeps the deviation where the sum of squares would lose all its digits."""
    numbers = 1e9 + rng.standard_normal(1000)
    pieces = [{"a": numbers[at : at + 50]} for at in range(0, 1000, 50)]
    column = data.Preprocessor().fit(pieces).columns[0]
    assert column.scale == pytest.approx(numbers.std(), rel=1e-6)


def test_the_sample_for_the_median_is_fair(rng, monkeypatch):
    from fusednn.data import statistics

    monkeypatch.setattr(statistics, "SAMPLE", 2000)
    found = statistics.NumberStatistics(seed=0)
    values = np.sort(rng.standard_normal(50_000))  # the worst order
    for piece in np.array_split(values, 73):
        found.add("a", piece)
    assert abs(found.median) < 0.1  # three deviations of the median of 2000
    assert len(found._sample) == 2000


# ---- splits ------------------------------------------------------------------------------------


def test_split_covers_all_rows_once(rng):
    labels = rng.permutation(np.repeat(["a", "b", "c"], [700, 250, 50]))
    parts = data.split(1000, validation=0.1, test=0.2, stratify=labels, seed=3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
    for part, share in zip(parts, (0.7, 0.1, 0.2), strict=True):
        counts = [(labels[part] == label).sum() for label in "abc"]
        np.testing.assert_allclose(counts, np.array([700, 250, 50]) * share, atol=1)
    again = data.split(1000, validation=0.1, test=0.2, stratify=labels, seed=3)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))
    assert (data.split(1000, seed=4).test != data.split(1000, seed=3).test).any()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"validation": 0.5, "test": 0.5}, "leave nothing"),
        ({"test": 1.0}, "test"),
        ({"stratify": [1, 2]}, "stratify must have shape"),
    ],
)
def test_split_refuses(options, says):
    with pytest.raises(ValueError, match=says):
        data.split(10, **options)


# ---- larger than memory ------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path, rng):
    x = rng.standard_normal(500)
    lines = [f"{a:.6f},{'' if place % 50 == 0 else 2 * a + 1}" for place, a in enumerate(x)]
    path = tmp_path / "line.csv"
    path.write_text("x,y\n" + "\n".join(lines))
    return data.CSVFile(path)


def test_batches_are_all_rows_in_other_orders(file):
    preprocessor = data.Preprocessor("y", task="regression").fit(file.pieces(64))
    batches = data.TableBatches(file, preprocessor, batch_size=32, piece_rows=100)
    first, second = list(batches), list(batches)
    assert [len(x) for x, _ in first] == [32] * 15 + [10]
    rows = [np.concatenate([x[:, 0] for x, _ in epoch]) for epoch in (first, second)]
    assert (rows[0] != rows[1]).any()
    np.testing.assert_array_equal(np.sort(rows[0]), np.sort(rows[1]))
    again = list(data.TableBatches(file, preprocessor, batch_size=32, piece_rows=100))
    np.testing.assert_array_equal(np.concatenate([x[:, 0] for x, _ in again]), rows[0])


def test_parts_share_the_rows(file):
    preprocessor = data.Preprocessor("y", task="regression").fit(file.pieces(64))
    parts = {
        part: np.concatenate(
            [x[:, 0] for x, _ in data.TableBatches(file, preprocessor, part=part, validation=0.3)]
        )
        for part in ("all", "train", "validation")
    }
    joined = np.concatenate([parts["train"], parts["validation"]])
    np.testing.assert_array_equal(np.sort(joined), np.sort(parts["all"]))
    assert 0.2 < len(parts["validation"]) / len(parts["all"]) < 0.4


def test_fit_from_a_file_in_pieces(file):
    preprocessor = data.Preprocessor("y", task="regression").fit(file.pieces(64))
    model = fusednn.Sequential([fusednn.layers.Dense(1)])
    model.compile(fusednn.optimizers.SGD(0.1), "mse", seed=0)
    batches = data.TableBatches(file, preprocessor, batch_size=16, part="train", piece_rows=128)
    held = data.TableBatches(file, preprocessor, part="validation", shuffle=False)
    history = model.fit(batches, epochs=5, validation_data=held, verbose=0)
    assert history.history["val_loss"][-1] < 1e-6  # a line is learned


# ---- models of tables --------------------------------------------------------------------------


def test_table_model_keeps_its_preparation(rng, tmp_path):
    table, preprocessor = prepared(rng)
    width = len(preprocessor.feature_names)
    model = fusednn.Sequential([fusednn.layers.Dense(1)], input_shape=(width,), seed=1)
    path = tmp_path / "model.safetensors"
    made = data.TableModel(model, preprocessor, {"note": "größer"})
    made.save(path)
    read = data.TableModel.load(path)
    np.testing.assert_array_equal(read.predict(table), made.predict(table))
    assert read.about == {"note": "größer"}
    raw = model.predict(preprocessor.transform(table))[:, 0].astype(np.float64)
    expected = raw * table["price"].std() + table["price"].mean()
    np.testing.assert_allclose(made.predict(table), expected, rtol=1e-12)
    assert fusednn.load(path).output_shape == (None, 1)  # a model file like others
    with pytest.raises(data.ColumnNotFoundError, match="'size'"):
        read.predict(table.drop("size"))


def test_table_model_of_another_model(tmp_path, rng):
    _, preprocessor = prepared(rng)
    model = fusednn.Sequential([fusednn.layers.Dense(1)], input_shape=(2,))
    with pytest.raises(ValueError, match=r"needs a model from .* inputs to 1 outputs"):
        data.TableModel(model, preprocessor)
    path = tmp_path / "plain.safetensors"
    model.save(path)
    with pytest.raises(ValueError, match="it has no preprocessor"):
        data.TableModel.load(path)
