# SPDX-License-Identifier: Apache-2.0
"""train, predict, export, inspect and data on the command line: files, numbers, exit codes."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fusednn
from fusednn import data, datasets
from fusednn.cli import main
from fusednn.cli.training import scores
from fusednn.cli.training.settings import default_settings, random_settings

FAST = ["--epochs=30", "--no-compare", "--quiet"]


def write(path, columns):
    data.write_csv(data.Table(columns), path)
    return path


@pytest.fixture
def flats(tmp_path):
    """Rents that follow from size and district, with holes."""
    rng = np.random.default_rng(5)
    rows = 600
    size, place = rng.uniform(20, 120, rows), rng.integers(0, 3, rows)
    rent = 10 * size + np.array([0, 300, 900])[place] + rng.standard_normal(rows) * 10
    size[::37] = np.nan
    names = np.array(["north", "süd", 'the "old" town, east'], object)
    columns = {"size": size, "district": names[place], "id": np.arange(rows) * 7.0, "rent": rent}
    return write(tmp_path / "flats.csv", columns)


@pytest.fixture
def flowers(tmp_path):
    """Three kinds, told apart by two lengths."""
    rng = np.random.default_rng(6)
    kinds = np.repeat(["iris", "rose", "tulip"], [200, 100, 60])
    places = {"iris": (0, 0), "rose": (3, 0), "tulip": (0, 3)}
    x = np.array([places[k] for k in kinds]) + rng.standard_normal((360, 2)) * 0.5
    order = rng.permutation(360)
    columns = {"a": x[order, 0], "b": x[order, 1], "kind": kinds[order].astype(object)}
    return write(tmp_path / "flowers.csv", columns)


def failed(capsys, *arguments):
    """Exit code and what is said on standard error."""
    try:
        code = main(list(map(str, arguments)))
    except SystemExit as error:
        code = error.code
    printed = capsys.readouterr()
    assert not printed.out
    assert "Traceback" not in printed.err
    return code, printed.err


# ---- train -------------------------------------------------------------------------------------


def test_train_and_predict_a_regression(flats, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "flats.csv", "--target", "rent", "--no-compare", "--epochs=100"]) == 0
    printed = capsys.readouterr()
    assert "always the mean" in printed.out
    assert "regression: rent" in printed.err
    folder = tmp_path / "flats-model"
    found = json.loads((folder / "metrics.json").read_text())
    assert found["task"] == "regression"
    assert found["scores"]["r2"] > 0.95
    assert found["competitors"][0]["scores"]["r2"] < 0.01
    assert found["importance"][0]["column"] in ("size", "district")
    assert found["rows"] == {"train": 420, "validation": 60, "test": 120}

    capsys.readouterr()
    model = data.TableModel.load(folder / "model.safetensors")
    table = data.read_csv("flats.csv")
    new = table.drop("rent", "id").with_column("id", np.zeros(len(table)))
    data.write_csv(new, "new.csv")
    assert main(["predict", "flats-model", "new.csv", "--out", "said.csv"]) == 0
    assert capsys.readouterr().err == ""
    said = data.read_csv("said.csv")
    np.testing.assert_allclose(said["rent"], model.predict(new), rtol=1e-12)


def test_scores_are_those_of_the_test_rows(flats, tmp_path, capsys):
    out = tmp_path / "model"
    assert main(["train", str(flats), "--target=rent", f"--out={out}", *FAST]) == 0
    found = json.loads((out / "metrics.json").read_text())
    table = data.read_csv(flats)
    test = table.take(data.split(len(table), validation=0.1, test=0.2, seed=0).test)
    truth = test["rent"]
    said = data.TableModel.load(out / "model.safetensors").predict(test)
    r2 = 1 - np.square(truth - said).sum() / np.square(truth - truth.mean()).sum()
    assert found["scores"]["r2"] == pytest.approx(r2, abs=1e-6)
    assert found["scores"]["mae"] == pytest.approx(np.abs(truth - said).mean(), rel=1e-5)


def test_stream(flats, tmp_path, monkeypatch, capsys):
    """The same file read in pieces: as good, and nothing is left over."""
    monkeypatch.setattr("fusednn.data.csv_files.CSVFile.read", None)  # never as a whole
    monkeypatch.setattr("fusednn.data.csv_files.CSVFile.pieces", in_pieces_of(100))
    out = tmp_path / "m"
    command = ["train", str(flats), "--target=rent", f"--out={out}", "--no-compare", "--stream"]
    assert main([*command, "--epochs=100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(found["rows"].values()) == 600
    assert found["rows"]["train"] == pytest.approx(420, abs=40)
    assert found["scores"]["r2"] > 0.95
    assert "streamed" in found["notes"][-1]
    assert sorted(p.name for p in out.iterdir()) == [
        "metrics.json", "model.safetensors", "report.html",
    ]  # fmt: skip


def in_pieces_of(rows):
    whole = data.CSVFile.pieces
    return lambda self, _=None: whole(self, rows)


def test_stream_refuses(flowers, tmp_path, capsys):
    np.savez(tmp_path / "t.npz", x=np.zeros(20), y=np.ones(20))
    code, said = failed(capsys, "train", tmp_path / "t.npz", "--target=y", "--stream", "--quiet",
                        "--out", tmp_path / "x")  # fmt: skip
    assert code == 2
    assert "--stream reads CSV files" in said
    code, said = failed(capsys, "train", flowers, "--target=kin", "--stream", "--quiet",
                        "--out", tmp_path / "x")  # fmt: skip
    assert code == 2
    assert "kind" in said


def test_train_a_classifier(flowers, tmp_path, capsys):
    out = tmp_path / "model"
    command = ["train", str(flowers), "--target", "kind", "--out", str(out), "--json"]
    assert main([*command, "--epochs=60", "--no-compare"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    found = json.loads(printed.out)
    assert found == json.loads((out / "metrics.json").read_text())
    assert found["classes"] == ["iris", "rose", "tulip"]
    assert found["scores"]["accuracy"] > 0.95

    assert main(["predict", str(out), str(flowers), "--probabilities", "--keep", "a"]) == 0
    printed = capsys.readouterr()
    rows = list(csv.DictReader(printed.out.splitlines()))
    assert len(rows) == 360
    assert list(rows[0]) == ["a", "kind", "probability of iris", "probability of rose",
                             "probability of tulip"]  # fmt: skip
    assert float(rows[0]["probability of iris"]) <= 1
    assert "kind is in the file: accuracy 0.9" in printed.err
    assert main(["predict", str(out), str(flowers), "--json"]) == 0
    as_json = json.loads(capsys.readouterr().out)
    assert as_json["predictions"]["kind"] == [row["kind"] for row in rows]


def test_the_same_seed_gives_the_same_file(flowers, tmp_path):
    for name in "ab":
        arguments = ["train", str(flowers), "--target=kind", f"--out={tmp_path / name}", *FAST]
        assert main([*arguments, "--seed=3"]) == 0
    weights = [fusednn.load(tmp_path / n / "model.safetensors").get_weights() for n in "ab"]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_search_keeps_the_best(flowers, tmp_path, capsys):
    out = tmp_path / "model"
    command = ["train", str(flowers), "--target=kind", f"--out={out}", "--search=4", *FAST]
    assert main(command) == 0
    found = json.loads((out / "metrics.json").read_text())
    losses = [trial["validation_loss"] for trial in found["trials"]]
    assert len(losses) == 4
    assert found["training"]["validation_loss"] == min(losses)
    assert found["settings"] == found["trials"][losses.index(min(losses))]["settings"]
    assert "Search" in (out / "report.html").read_text()


def test_the_report_is_one_file_with_everything(flowers, tmp_path):
    nasty = data.read_csv(flowers)
    table = data.Table({"<b>a</b>": nasty["a"], "b": nasty["b"], "kind": nasty["kind"]})
    data.write_csv(table, tmp_path / "t.csv")
    out = tmp_path / "model"
    assert main(["train", str(tmp_path / "t.csv"), "--target=kind", f"--out={out}", *FAST]) == 0
    text = (out / "report.html").read_text(encoding="utf-8")
    for wanted in ("Learning curves", "Confusion matrix", "is shuffled", "patience", "&lt;b&gt;"):
        assert wanted in text
    assert "<b>a</b>" not in text
    assert "src=" not in text
    assert "href=" not in text


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn")
def test_comparison_with_scikit_learn(flowers, tmp_path, capsys):
    out = tmp_path / "model"
    command = ["train", str(flowers), "--target=kind", f"--out={out}", "--epochs=30", "--compare"]
    assert main(command) == 0
    assert "scikit-learn MLP" in capsys.readouterr().out
    found = json.loads((out / "metrics.json").read_text())
    assert found["competitors"][1]["scores"]["accuracy"] > 0.8


def test_options_reach_the_network(flowers, tmp_path):
    out = tmp_path / "model"
    options = ["--hidden=9,5", "--activation=tanh", "--dropout=0", "--learning-rate=0.01",
               "--weight-decay=0.001", "--batch-size=64", "--patience=4", "--balanced",
               "--test-share=0.5", "--drop", "b"]  # fmt: skip
    assert main(["train", str(flowers), "--target=kind", f"--out={out}", *FAST, *options]) == 0
    found = json.loads((out / "metrics.json").read_text())
    assert found["settings"] == {
        "hidden": [9, 5], "activation": "tanh", "dropout": 0.0, "learning_rate": 0.01,
        "weight_decay": 0.001, "batch_size": 64, "patience": 4, "epochs": 30, "balanced": True,
    }  # fmt: skip
    assert found["inputs"] == 1
    assert found["rows"]["test"] == 180
    model = fusednn.load(out / "model.safetensors")
    assert [layer.units for layer in model.layers] == [9, 5, 3]


def test_ordinal_and_category(tmp_path):
    rng = np.random.default_rng(0)
    grade = rng.integers(0, 3, 200)
    columns = {"grade": np.array(["bad", "fair", "good"], object)[grade], "code": grade % 2,
               "y": grade + rng.standard_normal(200) * 0.1}  # fmt: skip
    path, out = write(tmp_path / "t.csv", columns), tmp_path / "model"
    assert main(["train", str(path), "--target=y", f"--out={out}", *FAST, "--ordinal",
                 "grade=bad<fair<good", "--category", "code"]) == 0  # fmt: skip
    model = data.TableModel.load(out / "model.safetensors")
    assert model.preprocessor.feature_names == ["grade", "code=0", "code=1"]


# ---- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "kindd"], "no column 'kindd'; did you mean 'kind'?"),
        (["--target", "kind", "--drop", "bb"], "no column 'bb'; did you mean 'b'?"),
        (["--target", "kind", "--drop", "kind"], "cannot be an input as well"),
        (["--target", "kind", "--ordinal", "a"], "must look like COLUMN=LOW<MIDDLE<HIGH"),
        (["--target", "kind", "--hidden", "0"], "widths such as 128,64"),
        (["--target", "kind", "--activation", "rellu"], "did you mean 'relu'"),
        (["--target", "kind", "--test-share", "0.9"], "(0, 0.5]"),
        (["--target", "kind", "--epochs", "0"], "0 is less than 1"),
        (["--target", "kind", "--encoding", "utf-99"], "utf-99"),
        (["--target", "kind", "--task", "regresion"], "regression"),
        ([], "--target"),
    ],
)
def test_usage_errors_of_train(flowers, tmp_path, capsys, arguments, says):
    code, said = failed(capsys, "train", flowers, "--out", tmp_path / "x", "--quiet", *arguments)
    assert code == 2
    assert says in said
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("", [], "is empty"),
        ("a,y\n", [], "no rows"),
        ("a,y\n1,2\n1\n", [], "line 3"),
        ("a,a,y\n1,2,3\n", [], "two columns named 'a'"),
        ("a,y\n" + "1,2\n" * 5, [], "at least 10 are needed"),
        ("a,y\n" + "1,\n" * 50, [], "has 0 rows with a 'y'"),
        ("a,y\n" + "".join(f"{i},yes\n" for i in range(50)), [], "one class only, 'yes'"),
        ("a,y\n" + "".join(f"1,{i}.5\n" for i in range(50)), [], "no column can be an input"),
        ("y\n" + "".join(f"{i}.5\n" for i in range(50)), [], "no column can be an input"),
        ("a,y\n" + "".join(f"{i},1e200\n" for i in range(50)), [], "within ±1e150"),
        ("a,y\n" + "".join(f"{i},inf\n" for i in range(50)), [], "holds inf"),
        ("a,y\n" + "".join(f"{i},x{i}\n" for i in range(50)), [], "too many to be classes"),
        (
            "a,y\n" + "".join(f"{i},{i % 3}\n" for i in range(50)),
            ["--task=binary"],
            "has 3 classes",
        ),
        (b"a,y\n\xff\xfe,1\n", [], "not utf-8"),
    ],
)
def test_data_that_cannot_be_learned_from(tmp_path, capsys, text, options, says):
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    code, said = failed(
        capsys, "train", path, "--target=y", "--quiet", "--out", tmp_path / "x", *options
    )
    assert code == 1
    assert said.startswith("error: ")
    assert says in said


def test_awkward_data_are_learned_from(tmp_path, capsys):
    """A constant column, an empty one, holes in the target, a byte order mark, huge numbers."""
    rng = np.random.default_rng(1)
    lines = ["\ufeffgröße;konstant;leer;riesig;ja"]
    for i in range(200):
        x = rng.standard_normal()
        answer = "" if i % 20 == 0 else ("ja" if x > 0 else "nein")
        lines.append(f"{x:.4f};1;;{x * 1e100:e};{answer}")
    path = tmp_path / "t.csv"
    path.write_text("\r\n".join(lines), encoding="utf-8")
    out = tmp_path / "model"
    assert main(["train", str(path), "--target=ja", f"--out={out}", *FAST]) == 0
    found = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert found["scores"]["accuracy"] > 0.85
    notes = " ".join(found["notes"])
    assert "10 rows without a value" in notes
    assert "'konstant' was left out" in notes
    assert "'leer' was left out" in notes
    assert sum(found["rows"].values()) == 190


def test_imbalance_is_worth_a_word(tmp_path, capsys):
    rng = np.random.default_rng(2)
    rare = np.arange(300) % 20 == 0
    columns = {"x": rng.standard_normal(300) + 3 * rare, "y": np.where(rare, "ill", "well")}
    path = write(tmp_path / "t.csv", {**columns, "y": columns["y"].astype(object)})
    assert main(["train", str(path), "--target=y", f"--out={tmp_path / 'm'}",
                 "--epochs=5", "--no-compare"]) == 0  # fmt: skip
    assert "'ill' has 5.0% of the rows" in capsys.readouterr().err


def test_files_that_are_not_there(flowers, tmp_path, capsys):
    assert failed(capsys, "train", tmp_path / "no.csv", "--target=y")[0] == 2
    assert failed(capsys, "predict", tmp_path / "no", flowers)[0] == 2
    assert failed(capsys, "inspect", tmp_path)[0] == 2
    code, said = failed(capsys, "train", flowers, "--target=kind", "--out", flowers)
    assert (code, "is a file" in said) == (2, True)
    damaged = tmp_path / "model.safetensors"
    damaged.write_bytes(b"nonsense")
    for command in (["predict", damaged, flowers], ["inspect", damaged]):
        code, said = failed(capsys, *command)
        assert code == 1
        assert str(damaged) in said


@pytest.fixture
def trained(flats, tmp_path):
    out = tmp_path / "model"
    assert main(["train", str(flats), "--target=rent", f"--out={out}", *FAST]) == 0
    return out


def test_predict_says_which_column_is_missing(trained, tmp_path, capsys):
    capsys.readouterr()
    path = write(tmp_path / "new.csv", {"size": [1.0], "districts": ["north"], "id": [1.0]})
    code, said = failed(capsys, "predict", trained, path)
    assert code == 2
    assert "no column 'district'; did you mean 'districts'?" in said
    path = write(tmp_path / "new.csv", {"size": ["big"], "district": ["north"], "id": [1.0]})
    code, said = failed(capsys, "predict", trained, path)
    assert code == 1
    assert "column 'size' holds 'big' in row 1" in said
    assert failed(capsys, "predict", trained, path, "--out", tmp_path / "no" / "x.csv")[0] == 1


def test_predict_districts_never_seen(trained, tmp_path, capsys):
    columns = {"size": [50.0, None], "district": ["west", None], "id": [1.0, None]}
    path = write(tmp_path / "new.csv", columns)
    capsys.readouterr()
    assert main(["predict", str(trained), str(path)]) == 0
    rents = [float(line) for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(rents) == 2
    assert all(np.isfinite(rents))


def test_inspect(trained, capsys):
    capsys.readouterr()
    assert main(["inspect", str(trained)]) == 0
    printed = capsys.readouterr().out
    for wanted in ("dense", "predicts rent (regression)", "one-hot, 3 categories", '"r2"'):
        assert wanted in printed
    assert main(["inspect", str(trained), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["about"]["task"] == "regression"
    assert found["parameters"] == sum(layer["parameters"] for layer in found["layers"])


def test_inspect_any_model(tmp_path, capsys):
    path = tmp_path / "m.safetensors"
    fusednn.Sequential([fusednn.layers.Dense(3)], input_shape=(2,)).save(path)
    assert main(["inspect", str(path)]) == 0
    assert "predicts" not in capsys.readouterr().out


def test_export(trained, tmp_path, capsys):
    capsys.readouterr()
    out = tmp_path / "rent.c"
    assert main(["export", str(trained), str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"][0] == str(out)
    assert "rent_predict" in out.read_text()
    inputs = json.loads((tmp_path / "rent.inputs.json").read_text())
    model = data.TableModel.load(trained / "model.safetensors")
    assert inputs.pop("inputs") == model.preprocessor.feature_names
    assert data.Preprocessor.from_config(inputs).get_config() == model.preprocessor.get_config()
    code, said = failed(capsys, "export", trained, tmp_path / "rent.exe")
    assert (code, ".onnx" in said) == (2, True)


# ---- Ctrl-C ------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="signals differ elsewhere")
def test_ctrl_c_leaves_the_best_model_so_far(flats, tmp_path):
    out = tmp_path / "model"
    command = [sys.executable, "-m", "fusednn", "train", str(flats), "--target=rent"]
    options = ["--epochs=1000000", "--patience=1000000", "--out", str(out)]
    process = subprocess.Popen(
        [*command, *options], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.startswith("epoch"):
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "R²" in printed
    found = json.loads((out / "metrics.json").read_text())
    assert found["training"]["interrupted"]
    assert "interrupted" in found["notes"][-1]
    history = found["training"]["history"]["val_loss"]
    assert found["training"]["validation_loss"] == min(history)
    table = data.read_csv(flats)
    parts = data.split(len(table), validation=0.1, test=0.2, seed=0)
    model = data.TableModel.load(out / "model.safetensors")
    valid = table.take(parts.validation)
    apart = model.outputs(valid)[:, 0] - model.preprocessor.transform_target(valid)
    assert np.square(apart).mean() == pytest.approx(min(history), rel=1e-4)


# ---- the parts ---------------------------------------------------------------------------------


def test_scores_are_those_of_scikit_learn(rng):
    metrics = pytest.importorskip("sklearn.metrics")
    y = rng.integers(0, 2, 300)
    p = np.clip(y * 0.3 + rng.random(300) * 0.7, 0.01, 0.99)
    found = scores.score(data.Classes("y", ("no", "yes")), y, p[:, None])
    said = p > 0.5
    expected = {
        "auc": metrics.roc_auc_score(y, p), "accuracy": metrics.accuracy_score(y, said),
        "log_loss": metrics.log_loss(y, p), "f1": metrics.f1_score(y, said),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, said),
        "precision": metrics.precision_score(y, said), "recall": metrics.recall_score(y, said),
    }  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-9)
    three = rng.integers(0, 3, 300)
    shares = rng.dirichlet(np.ones(3), 300)
    found = scores.score(data.Classes("y", ("a", "b", "c")), three, shares)
    assert found["macro_f1"] == pytest.approx(
        metrics.f1_score(three, shares.argmax(axis=1), average="macro")
    )


def test_settings_grow_with_the_table():
    widths = [default_settings(rows, 9, False).hidden[0] for rows in (100, 1000, 10_000, 10**6)]
    assert widths == sorted(set(widths))
    decays = [default_settings(3500, inputs, False).weight_decay for inputs in (64, 784)]
    assert decays == [0.1, 1.0]
    base = default_settings(1000, 9, True)
    drawn = [random_settings(base, np.random.default_rng(seed)) for seed in range(50)]
    assert len(set(drawn)) == 50
    assert {len(s.hidden) for s in drawn} == {1, 2, 3}


@pytest.mark.parametrize(
    ("name", "metric", "least"),
    [
        ("adult", "auc", 0.907),
        ("california-housing", "r2", 0.80),
        pytest.param("mnist-5k", "accuracy", 0.95, marks=pytest.mark.slow),
    ],
)
def test_real_tables_in_two_commands(name, metric, least, tmp_path, capsys):
    entry = next(e for e in datasets.catalog() if e.name == name)
    if entry.locate() is None:
        pytest.skip(entry.help)
    if name != "mnist-5k":
        pytest.importorskip("pyarrow", exc_type=ImportError)
    path, out = tmp_path / "table.csv", tmp_path / "model"
    assert main(["data", name, str(path), "--quiet"]) == 0
    command = ["train", str(path), "--target", entry.target, f"--out={out}", "--json"]
    assert main([*command, "--no-compare"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"][metric] >= least
