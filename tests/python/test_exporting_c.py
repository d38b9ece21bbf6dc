# SPDX-License-Identifier: Apache-2.0
"""Exported C: compiles without a warning, computes what `predict` does, tests itself."""

import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest

import fusednn
from fusednn import layers
from random_networks import (
    every_activation,
    outputs_of,
    random_inputs,
    random_network,
    relative_error,
)

NETWORKS = 50
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1")
CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")


def call(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def gcc():
    return shutil.which("gcc") or pytest.skip("there is no gcc")


def library(gcc, sources, path):
    call([gcc, *STRICT, "-shared", "-fPIC", *sources, "-o", path, "-lm"])
    return ctypes.CDLL(str(path))


def run(function, inputs, outputs):
    """What a function of C makes of samples, in arrays like `outputs`."""
    found = [np.full_like(values, np.nan) for values in outputs]
    for row in range(len(inputs[0])):
        arrays = [values[row:].ctypes.data for values in (*inputs, *found)]
        function(*map(ctypes.c_void_p, arrays))
    return found


# ---- the same values -----------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_random_networks(gcc, tmp_path, precision):
    networks = [random_network(seed, precision) for seed in range(NETWORKS)]
    sources = [tmp_path / f"net{seed}.c" for seed in range(NETWORKS)]
    for network, source in zip(networks, sources, strict=True):
        network.export(source)
    compiled = library(gcc, sources, tmp_path / "all.so")
    for seed, network in enumerate(networks):
        inputs = random_inputs(network, 32, seed)
        expected = outputs_of(network, inputs)
        found = run(compiled[f"net{seed}_predict"], inputs, expected)
        for mine, theirs in zip(found, expected, strict=True):
            tolerance = 1e-6 if precision == "float32" else 1e-13
            assert relative_error(mine, theirs) <= tolerance, seed


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_activations_at_the_edges(gcc, tmp_path, precision):
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, 1e30, -1e30, 3.0, -3.0, 6.0, 88.0, -100.0]
    x = np.array([*special, *np.linspace(-40, 40, 1011)], precision)
    sources, networks = [], []
    for place, activation in enumerate(a for a in every_activation() if not a.rowwise):
        network = fusednn.Sequential([layers.Activation(activation)], input_shape=(len(x),))
        network.compile("sgd", "mse", precision=precision)
        networks.append(network)
        sources.append(tmp_path / f"rule{place}.c")
        network.export(sources[-1])
    compiled = library(gcc, sources, tmp_path / "all.so")
    for place, network in enumerate(networks):
        expected = network.predict(x[None])
        (found,) = run(compiled[f"rule{place}_predict"], [x[None]], [expected])
        # Ill-conditioned tails: a difference of numbers near 1, the exponential of a cube.
        has_tail = network.layers[0].activation.name in ("gelu", "gelu_tanh")
        atol = 4 * np.finfo(precision).eps if has_tail else 1e-37
        np.testing.assert_allclose(
            found, expected, rtol=1e-6 if precision == "float32" else 1e-13, atol=atol,
            err_msg=repr(network.layers[0]),
        )  # fmt: skip


def test_outputs_that_are_no_step_of_their_own(gcc, tmp_path):
    x = layers.Input((3, 2), name="x")
    flat = layers.Flatten(name="flat")(x)
    hidden = layers.Dense(4, name="hidden")(flat)
    bent = layers.Activation("relu", name="bent")(hidden)
    outputs = [x, flat, hidden, bent, layers.Add()([bent, bent])]
    network = fusednn.Model(x, outputs, seed=0)
    network.export(tmp_path / "m.c")
    compiled = library(gcc, [tmp_path / "m.c"], tmp_path / "m.so")
    inputs = random_inputs(network, 3, 0)
    expected = outputs_of(network, inputs)
    found = run(compiled.m_predict, inputs, expected)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)


# ---- memory --------------------------------------------------------------------------------------


def test_working_memory_is_reused(tmp_path):
    chain = [layers.Dense(units, "relu") for units in (30, 20, 30, 20, 30)]
    network = fusednn.Sequential([*chain, layers.Dense(1)], input_shape=(4,), seed=0)
    network.export(tmp_path / "m.c")
    text = (tmp_path / "m.c").read_text()
    assert re.search(r"static float m_memory\[(\d+)\];", text)[1] == "50"
    assert "malloc" not in text
    assert set(re.findall(r"#include <(\w+\.h)>", text)) == {
        "math.h", "stddef.h", "string.h", "stdio.h",
    }  # fmt: skip
    assert text.index("#ifdef M_SELF_TEST") < text.index("stdio.h")


# ---- self-test -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The C file of a network with a name and layers that C would stumble over."""
    x = layers.Input((4, 3), name="double")
    hidden = layers.BatchNormalization(name="for*")(layers.Dense(5, "gelu", name="été")(x))
    outputs = layers.Softmax(name="a b")(layers.Flatten()(hidden)), layers.Dense(2, name="a_b")(x)
    network = fusednn.Model(x, outputs, name="*/ int /*", seed=0)
    path = tmp_path_factory.mktemp("c") / "3-digits.c"
    network.export(path)
    return path


def test_self_test(gcc, digits, tmp_path):
    program = tmp_path / "test"
    flags = [*STRICT, "-DMODEL_3_DIGITS_SELF_TEST"]
    call([gcc, *flags, digits, "-o", program, "-lm"])
    assert call([program]).endswith("of the largest output: good\n")
    text = digits.read_text()
    kernel = re.search(r"(_kernel\[\d+\] = {\s*)([^,]+),", text)
    worse = tmp_path / "worse.c"
    worse.write_text(text.replace(kernel[0], f"{kernel[1]}9.0f,"))
    call([gcc, *flags, worse, "-o", program, "-lm"])
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert (done.returncode, done.stdout[-4:]) == (1, "BAD\n")


def test_other_compilers(digits, tmp_path):
    compiler = shutil.which("clang") or pytest.skip("there is no clang")
    call([compiler, *STRICT, "-c", digits, "-o", tmp_path / "m.o"])


def test_cortex_m4(digits, tmp_path):
    compiler = shutil.which("arm-none-eabi-gcc") or pytest.skip("there is no arm-none-eabi-gcc")
    flags = [*STRICT, *CORTEX_M4]
    call([compiler, *flags, "-c", digits, "-o", tmp_path / "m.o"])
    link = ["--specs=rdimon.specs", "-DMODEL_3_DIGITS_SELF_TEST"]  # nothing is left undefined
    call([compiler, *flags, *link, digits, "-o", tmp_path / "test", "-lm"])


# A board with a Cortex-M4. What is printed, and what main returns, goes to the host (semihosting).
BOARD = ("-machine", "mps2-an386", "-semihosting", "-nographic", "-monitor", "none")
RESET = """\
extern void _start(void);
static void reset(void) {
  *(volatile unsigned *)0xE000ED88 |= 0xFu << 20; /* CPACR: the floating-point unit may be used */
  __asm volatile("dsb\\n isb");
  _start();
}
__attribute__((section(".vectors"), used)) static void *const vectors[] = {
    (void *)0x20400000, /* the first stack ends where the memory at 0x20000000 does */
    (void *)reset,
};
"""


@pytest.fixture
def run_on_cortex_m4(tmp_path):
    """What runs the self-test of a C file on the board, and returns its exit code and its lines."""
    compiler = shutil.which("arm-none-eabi-gcc") or pytest.skip("there is no arm-none-eabi-gcc")
    emulator = shutil.which("qemu-system-arm") or pytest.skip("there is no qemu-system-arm")
    start, program = tmp_path / "start.c", tmp_path / "test.elf"
    start.write_text(RESET)

    def run(source, macro):
        flags = ["--specs=rdimon.specs", "-Wl,--section-start=.vectors=0", f"-D{macro}_SELF_TEST"]
        call([compiler, "-O1", *CORTEX_M4, *flags, start, source, "-o", program, "-lm"])
        done = subprocess.run(
            [emulator, *BOARD, "-kernel", str(program)], capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout

    return run


def test_self_test_on_cortex_m4(run_on_cortex_m4, digits, tmp_path):
    code, printed = run_on_cortex_m4(digits, "MODEL_3_DIGITS")
    assert code == 0
    assert printed.endswith("of the largest output: good\n")
    worse = tmp_path / "worse.c"
    worse.write_text(re.sub(r"(_kernel\[\d+\] = {\s*)[^,]+,", r"\g<1>9.0f,", digits.read_text()))
    assert run_on_cortex_m4(worse, "MODEL_3_DIGITS")[0] == 1


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(4))
def test_random_networks_on_cortex_m4(run_on_cortex_m4, tmp_path, seed, precision):
    random_network(seed, precision).export(tmp_path / "net.c")
    code, printed = run_on_cortex_m4(tmp_path / "net.c", "NET")
    assert (code, printed[-5:]) == (0, "good\n"), printed


# ---- refusals ------------------------------------------------------------------------------------


def test_names(tmp_path):
    network = fusednn.Sequential([layers.Dense(1)], input_shape=(2,), seed=0)
    network.export(tmp_path / "m.c", name="my_net")
    assert "void my_net_predict(" in (tmp_path / "m.c").read_text()
    for name in ("", "3d", "a-b", "_a", "ä"):
        with pytest.raises(ValueError, match="must be letters of ASCII"):
            network.export(tmp_path / "m.c", name=name)


def test_outputs_that_are_not_finite(tmp_path):
    network = fusednn.Sequential([layers.Dense(1, "exponential")], input_shape=(2,), seed=0)
    network.weights[1][...] = 1000
    with pytest.raises(ValueError, match="infinities or NaN even of zeros"):
        network.export(tmp_path / "m.c")
