# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, what it leaves behind, and its exit codes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest

import fusednn
from fusednn import _core, datasets, machine
from fusednn.cli import COMMANDS, contention, demo, doctor, main, rivals, selftest, tables

# What may be set where the tests run, and would change what the doctor says.
SETTINGS = ("FUSEDNN_ISA", "FUSEDNN_NUM_THREADS", "OMP_NUM_THREADS", "FUSEDNN_DATASETS")
HEAVY = ("sklearn", "torch", "matplotlib", "scipy", "pandas", "jax", "keras")
SUPPORTED = [entry["name"] for entry in _core.isas() if entry["supported"]]
needs_sklearn = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="the digits come with scikit-learn"
)


def call(*arguments, **settings):
    """Run the command line in a process of its own, with these environment variables alone set."""
    environment = {k: v for k, v in os.environ.items() if k not in SETTINGS} | settings
    command = [sys.executable, "-m", "fusednn", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def usage_error(capsys, *arguments):
    """What is said about a call that cannot be carried out; its exit code is 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert not printed.out
    return printed.err


# ---- the command line itself -------------------------------------------------------------------


def test_version():
    done = call("--version")
    assert (done.returncode, done.stdout) == (0, f"fusednn {fusednn.__version__}\n")


def test_help_lists_the_commands_there_are():
    done = call("--help")
    assert done.returncode == 0
    listed = re.findall(r"^    (\w+)  ", done.stdout, re.MULTILINE)
    assert listed == list(COMMANDS)


def test_no_command_shows_the_help_and_is_an_error():
    done = call()
    assert (done.returncode, done.stdout) == (2, "")
    assert "doctor" in done.stderr


def test_unknown_command_suggests_the_nearest(capsys):
    said = usage_error(capsys, "docter")
    assert "unknown command 'docter'; did you mean 'doctor'? known: train, predict," in said
    assert "did you mean" not in usage_error(capsys, "xyzzy")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["doctor", "--jsn"], "--jsn"),
        (["demo", "digit"], "digits"),
        (["demo", "--epochs", "0"], "0 is less than 1"),
        (["demo", "--epochs", "few"], "'few'"),
        (["demo", "--seed", "-1"], "-1"),
    ],
)
def test_usage_errors(capsys, arguments, says):
    assert says in usage_error(capsys, *arguments)


def test_interrupt_is_no_traceback(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "examine", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


@pytest.mark.skipif(os.name != "posix", reason="pipes break differently elsewhere")
def test_a_reader_that_leaves_early_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "fusednn", "doctor"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


# ---- doctor ------------------------------------------------------------------------------------


def test_doctor_on_a_healthy_machine():
    done = call("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("fusednn works here.\n")
    for expected in (fusednn.__version__, np.__version__, *SUPPORTED, "cuda", "digits"):
        assert expected in done.stdout
    assert "FAILED" not in done.stdout


def test_doctor_as_json():
    done = call("doctor", "--json")
    report = json.loads(done.stdout)
    assert report["healthy"]
    assert report["problems"] == []
    assert report["processor"]["supported"] == SUPPORTED
    assert report["processor"]["chosen"] == SUPPORTED[-1]
    assert report["threads"]["used"] == report["threads"]["available"] >= 1
    assert report["cuda"]["there"] or report["cuda"]["reason"]
    assert set(report["datasets"]) == {entry.name for entry in datasets.catalog()}
    for test in report["self_test"]:
        assert test["passed"]
        assert 0 <= test["error"] <= test["tolerance"]


@pytest.mark.parametrize(
    ("settings", "says", "fix"),
    [
        ({"FUSEDNN_ISA": "mmx"}, "mmx", "unset FUSEDNN_ISA"),
        ({"FUSEDNN_NUM_THREADS": "many"}, "many", "unset FUSEDNN_NUM_THREADS"),
        ({"FUSEDNN_NUM_THREADS": "0"}, "FUSEDNN_NUM_THREADS", "unset FUSEDNN_NUM_THREADS"),
    ],
)
def test_doctor_mends_settings_that_break(settings, says, fix):
    done = call("doctor", **settings)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "fusednn does not work here." in done.stdout
    assert re.search(rf"^Problem: .*{says}.*\n    fix: {fix}$", done.stdout, re.MULTILINE)


@pytest.mark.skipif(len(SUPPORTED) < 2, reason="only one instruction set runs here")
def test_doctor_says_what_slows_it_down():
    done = call("doctor", FUSEDNN_ISA=SUPPORTED[0])
    assert done.returncode == 0
    assert f"Advice: FUSEDNN_ISA holds fusednn to {SUPPORTED[0]}" in done.stdout
    assert "fix: unset FUSEDNN_ISA" in done.stdout


@pytest.mark.parametrize("variable", ["FUSEDNN_NUM_THREADS", "OMP_NUM_THREADS"])
def test_doctor_sees_more_threads_than_processors(variable):
    available = _core.available_processors()
    done = call("doctor", **{variable: str(available + 1)})
    assert done.returncode == 0
    assert f"{variable} sets {available + 1} threads for {available} processors" in done.stdout


@pytest.mark.parametrize("error", [1.0, float("nan")])
def test_doctor_reports_a_wrong_result(monkeypatch, capsys, error):
    monkeypatch.setattr(doctor, "SELF_TESTS", (selftest.SelfTest("sum", 1e-6, lambda: error),))
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "FAILED" in printed
    assert "Problem: self-test 'sum' failed: error" in printed


def test_doctor_survives_a_crashing_self_test(monkeypatch, capsys):
    def crash():
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(doctor, "SELF_TESTS", (selftest.SelfTest("sum", 1e-6, crash),))
    assert main(["doctor"]) == 1
    assert "failed: RuntimeError: no such kernel" in capsys.readouterr().out


def test_self_tests_notice_a_wrong_kernel(monkeypatch):
    product = fusednn.ops.dense_forward
    monkeypatch.setattr(
        fusednn.ops, "dense_forward", lambda *args, **kw: product(*args, **kw) * (1 + 1e-4)
    )
    test = selftest.SELF_TESTS[0]
    assert test.error() > test.tolerance


def test_doctor_says_how_to_install_missing_data(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(datasets.places, "SYSTEM_FOLDER", tmp_path)
    monkeypatch.delenv(datasets.FOLDER_VARIABLE, raising=False)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "not found; install it with: apt-get install dataset-fashion-mnist" in printed


def test_doctor_imports_nothing_heavy():
    code = (
        "import sys; from fusednn.cli import main; main(['doctor', '--json'])\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# ---- demo --------------------------------------------------------------------------------------


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """A machine without scikit-learn and without Debian's data sets."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setattr(datasets.places, "SYSTEM_FOLDER", tmp_path)
    monkeypatch.delenv(datasets.FOLDER_VARIABLE, raising=False)


@pytest.fixture
def small_fashion(monkeypatch, tmp_path):
    """Fashion-MNIST in small: each class is a bright row of its own."""
    folder = tmp_path / "data" / "fashion-mnist"
    folder.mkdir(parents=True)
    for part, samples in (("train", 200), ("t10k", 50)):
        labels = np.arange(samples, dtype=np.uint8) % 10
        images = np.zeros((samples, 28, 28), np.uint8)
        images[np.arange(samples), labels * 2] = 255
        sizes = struct.pack(">3I", *images.shape)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(
            b"\0\0\x08\x03" + sizes + images.tobytes()
        )
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(
            b"\0\0\x08\x01" + sizes[:4] + labels.tobytes()
        )
    monkeypatch.setenv(datasets.FOLDER_VARIABLE, str(folder.parent))


def number(pattern, text):
    return float(re.search(pattern, text, re.MULTILINE)[1].replace(",", ""))


@needs_sklearn
def test_digits_reach_their_accuracy(tmp_path):
    done = call("demo", "digits", "--no-rivals", "--output", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    accuracy = number(r"^test accuracy +([\d.]+)$", done.stdout)
    assert accuracy >= 0.97
    assert number(r"^training time +([\d.]+) s", done.stdout) > 0
    assert number(r"^speed +([\d,]+) samples", done.stdout) > 0
    assert "Confusion matrix" in done.stdout

    data = datasets.load_digits()
    model = fusednn.load(tmp_path / "digits" / "model.safetensors")
    said = model.predict(data.x_test, verbose=0).argmax(axis=1)
    assert (said == data.y_test).mean() == pytest.approx(accuracy, abs=5e-5)


@needs_sklearn
def test_demo_is_a_function_of_its_seed(tmp_path, capsys):
    def weights(seed):
        main(["demo", "digits", "--no-rivals", "--quiet", "--epochs=2", f"--seed={seed}",
              f"--output={tmp_path}"])  # fmt: skip
        return fusednn.load(tmp_path / "digits" / "model.safetensors").get_weights()

    first, second, other = weights(1), weights(1), weights(2)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first[0] != other[0]).any()


def test_quiet_demo_on_a_folder_of_ones_own(small_fashion, tmp_path, capsys):
    code = main(["demo", "fashion-mnist", "--quiet", "--no-rivals", f"--output={tmp_path}"])
    printed = capsys.readouterr().out
    assert code == 0
    assert "180 train, 20 valid, 50 test samples" in printed
    assert number(r"^test accuracy +([\d.]+)$", printed) == 1
    assert "best of them by validation" in printed
    assert "Epoch" not in printed
    assert "Confusion" not in printed
    assert (tmp_path / "fashion-mnist" / "model.safetensors").exists()


def test_demo_fails_below_the_expected_accuracy(small_fashion, tmp_path, capsys, monkeypatch):
    harder = demo.Task((4,), 1, 200, learning_rate=1e-3, validation=0.1, expected=0.99)
    monkeypatch.setitem(demo.TASKS, "fashion-mnist", harder)
    arguments = ["demo", "fashion-mnist", "--quiet", "--no-rivals", f"--output={tmp_path}"]
    assert main(arguments) == 1
    assert "expected a test accuracy of 0.99" in capsys.readouterr().out
    assert main([*arguments, "--epochs=1"]) == 0  # who asks for less gets less


def test_learning_curve_without_matplotlib(small_fashion, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "fusednn.cli.curve", raising=False)
    main(["demo", "fashion-mnist", "--quiet", "--no-rivals", "--epochs=3", f"--output={tmp_path}"])
    assert "pip install matplotlib" in capsys.readouterr().out
    head, *rows = (tmp_path / "fashion-mnist" / "history.csv").read_text().splitlines()
    assert head == "epoch,loss,accuracy,val_loss,val_accuracy"
    assert [row.split(",")[0] for row in rows] == ["1", "2", "3"]


def test_learning_curve_as_a_picture(small_fashion, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    main(["demo", "fashion-mnist", "--quiet", "--no-rivals", "--epochs=3", f"--output={tmp_path}"])
    picture = (tmp_path / "fashion-mnist" / "learning-curve.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert not (tmp_path / "fashion-mnist" / "history.csv").exists()


def test_demo_without_any_data(no_data, capsys):
    said = usage_error(capsys, "demo")
    assert "there is no data to train on" in said
    assert "digits is not installed; install it with: pip install scikit-learn" in said
    assert "apt-get install dataset-fashion-mnist" in said


def test_demo_goes_on_with_the_data_there_is(no_data, small_fashion, tmp_path, capsys):
    assert main(["demo", "--quiet", "--no-rivals", "--epochs=1", f"--output={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("digits is not installed; install it with: pip install scikit-learn")
    assert "test accuracy" in printed
    assert "digits is not installed" in usage_error(capsys, "demo", "digits")


def test_demo_refuses_an_output_that_is_a_file(small_fashion, tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    said = usage_error(capsys, "demo", "fashion-mnist", f"--output={tmp_path / 'taken'}")
    assert "taken cannot be used" in said


def test_fashion_mnist_reaches_its_accuracy(tmp_path):
    entry = datasets.catalog()[1]
    if entry.locate() is None:
        pytest.skip(f"Fashion-MNIST is not installed; {entry.help}")
    done = call("demo", "fashion-mnist", "--no-rivals", "--output", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert number(r"^test accuracy +([\d.]+)$", done.stdout) >= 0.88
    assert number(r"s for (\d+) epochs", done.stdout) <= 10


# ---- rivals ------------------------------------------------------------------------------------

WORK = rivals.Work((16,), 3, epochs=4, batch_size=8, learning_rate=0.01, seed=0, most_seconds=60.0)


@pytest.fixture
def blobs(rng, tmp_path):
    """Three clouds of points that any network can tell apart, stored for rivals."""
    parts = {}
    for part, samples in (("train", 150), ("valid", 30), ("test", 30)):
        labels = np.arange(samples) % 3
        noise = rng.standard_normal((samples, 4), dtype=np.float32) * np.float32(0.1)
        parts |= {f"x_{part}": np.eye(3, 4, dtype=np.float32)[labels] + noise, f"y_{part}": labels}
    rivals.write_work(tmp_path, parts)
    return tmp_path


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_rivals_do_the_work(name, blobs):
    pytest.importorskip(name)
    result = rivals.race(name, WORK, blobs)
    assert re.match(r"(scikit-learn|torch) \d", result.library)
    assert result.epochs == 4
    assert 1 <= result.best_epoch <= 4
    assert result.accuracy > 0.9
    assert 0 < result.seconds < 60


class SlowRival:
    """Claims fixed accuracies, epoch by epoch."""

    library = "slow 1.0"

    def __init__(self, accuracies):
        self.accuracies, self.epoch, self.weights = accuracies, 0, None

    def train_epoch(self):
        self.epoch += 1

    def accuracy(self, part):
        return self.accuracies[(self.weights or self.epoch) - 1]

    def get_weights(self):
        return self.epoch

    def set_weights(self, weights):
        self.weights = weights


def test_rivals_keep_their_best_epoch_too():
    result = rivals.train(SlowRival([0.3, 0.9, 0.8, 0.9]), WORK, validates=True)
    assert (result.epochs, result.best_epoch, result.accuracy) == (4, 2, 0.9)
    result = rivals.train(SlowRival([0.3, 0.9, 0.8, 0.7]), WORK, validates=False)
    assert (result.epochs, result.best_epoch, result.accuracy) == (4, 4, 0.7)


def test_rivals_stop_when_their_time_is_up():
    work = rivals.Work(**{**vars(WORK), "most_seconds": 0.0})
    assert rivals.train(SlowRival([0.3, 0.9, 0.8, 0.9]), work, validates=True).epochs == 1


def test_rivals_choose_their_own_kernels(monkeypatch, tmp_path):
    seen = {}

    def run(command, **options):
        seen.update(options["env"])
        result = json.dumps(vars(rivals.Result("x 1", 1.0, 4, 2, 0.5)))
        return subprocess.CompletedProcess(command, 0, stdout=f"noise\n{result}\n", stderr="")

    monkeypatch.setattr(rivals.subprocess, "run", run)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "512")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert rivals.race("sklearn", WORK, tmp_path).seconds == 1.0
    assert not set(machine.KERNEL_VARIABLES) & set(seen)
    assert seen["OMP_NUM_THREADS"] == "3"


def test_a_rival_that_fails_says_why(tmp_path):
    with pytest.raises(rivals.RivalFailedError, match=r"sklearn failed: .*x_train\.npy"):
        rivals.race("sklearn", WORK, tmp_path)


# ---- tables ------------------------------------------------------------------------------------


def test_confusion_table():
    truth, said = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 1, 0])
    matrix = tables.confusion_matrix(truth, said, 4)
    np.testing.assert_array_equal(matrix, [[1, 1, 0, 0], [0, 3, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    assert tables.confusion_table(matrix, ["ant", "bee", "cat", "dog"]) == "\n".join(
        [
            "     ant  bee  cat  dog  recall",
            "ant    1    1    .    .   0.500",
            "bee    .    3    .    .   1.000",
            "cat    1    .    .    .   0.000",
            "dog    .    .    .    .   0.000",
        ]
    )


def test_comparison_table_compares_epochs_not_runs():
    ours = rivals.Result("fusednn 0.1", 2.0, 10, 3, 0.9)
    other = rivals.Result("other 1.0", 3.0, 5, 5, 0.85)
    lines = tables.comparison_table([ours, other]).splitlines()
    assert lines[1].split() == ["fusednn", "0.1", "10", "2.00", "s", "200.0", "ms", "0.9000"]
    assert lines[2].split()[-4:] == ["3.0", "x", "our", "time"]


# ---- other programs ----------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/stat")
def test_working_seconds_of_chosen_processors():
    tick = os.sysconf("SC_CLK_TCK")
    stat = "\n".join(
        [
            "cpu  99 99 99 99 99 99 99 99 0 0",
            f"cpu0 {tick} {2 * tick} {3 * tick} 50 60 {4 * tick} {5 * tick} {6 * tick} 7 8",
            f"cpu1 {tick} 0 0 50 60 0 0 0 7 8",
            "intr 1 2 3",
        ]
    )
    assert contention._working_seconds(stat, {0}) == 21
    assert contention._working_seconds(stat, {0, 1}) == 22
    assert contention._working_seconds(stat, {7}) == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/stat")
@pytest.mark.parametrize(("mine", "share"), [(10.0, 0.0), (4.0, 0.3), (12.0, 0.0)])
def test_contention_is_what_others_worked(monkeypatch, mine, share):
    readings = iter([(100.0, 50.0, 1.0), (110.0, 60.0, 1.0 + mine)])
    monkeypatch.setattr(contention.Contention, "_now", lambda self: next(readings))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    assert contention.Contention().share() == pytest.approx(share)


@pytest.mark.parametrize(("taken", "warned"), [(None, False), (0.01, False), (0.3, True)])
def test_demo_says_when_times_mean_little(capsys, taken, warned):
    result = rivals.Result("x 1", 1.0, 1, 1, 0.5)
    demo._compare(result, [result], taken)
    assert ("30% of the processors" in capsys.readouterr().out) == warned
