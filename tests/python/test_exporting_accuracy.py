# SPDX-License-Identifier: Apache-2.0
"""What `predict`, ONNX and C lose against float64 is what float32 between layers cannot keep."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

import fusednn
from fusednn import layers
from fusednn.exporting.program import make_program
from program_values import KINDS, values
from random_networks import outputs_of, random_inputs, random_network, relative_error

# Of the largest number of an output: what sums and elementary functions may lose, and how many
# times the loss of layers that are perfect but for the rounding of what they hand on.
TOLERANCE, TIMES = 1e-6, 3


def hard(name):
    """Networks that a relative change of 2**-24 on the way moves by more than 1e-6."""
    x = layers.Input((4,))
    if name == "two columns, normalised twice":
        y = layers.Rescaling(0.02, 4.0)(layers.Dense(2)(x))
        for _ in range(2):
            y = layers.LayerNormalization(epsilon=1e-3)(y)
    elif name == "small differences of large numbers":
        y = layers.Rescaling(0.1, 5.0)(layers.Dense(7, "softmax")(x))
        y = layers.LayerNormalization(epsilon=1e-3)(y)
    else:
        y = layers.Rescaling(2.0)(layers.Dense(5, "exponential")(x))
        y = layers.Dense(6, "exponential")(y)
    return fusednn.Model(x, y, seed=1)


HARD = (
    "two columns, normalised twice",
    "small differences of large numbers",
    "exponential of an exponential",
)


def by_onnxruntime(network, inputs, folder):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    network.export(folder / "m.onnx")
    session = runtime.InferenceSession(folder / "m.onnx", providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return session.run(None, {entry.name: inputs[0]})


def by_c(network, inputs, folder):
    gcc = shutil.which("gcc") or pytest.skip("there is no gcc")
    network.export(folder / "m.c")
    command = [gcc, "-std=c99", "-O1", "-shared", "-fPIC", "m.c", "-o", "m.so", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    function = ctypes.CDLL(str(folder / "m.so")).m_predict
    found = np.empty((len(inputs[0]), *network.outputs[0].sample_shape), np.float32)
    for x, y in zip(inputs[0], found, strict=True):
        function(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data))
    return [found]


def by_predict(network, inputs, folder):
    return outputs_of(network, inputs)


@pytest.mark.parametrize("compute", [by_predict, by_onnxruntime, by_c])
@pytest.mark.parametrize("name", HARD)
def test_hard_networks(name, compute, tmp_path):
    network = hard(name)
    inputs = random_inputs(network, 200, 0)
    program = make_program(network, KINDS, "the oracle")
    (truth,), (perfect,) = values(program, inputs), values(program, inputs, rounds=True)
    unavoidable = relative_error(perfect, truth)
    assert unavoidable > 5e-7, "not hard at all"
    (found,) = compute(network, inputs, tmp_path)
    assert relative_error(found, truth) <= TOLERANCE + TIMES * unavoidable


@pytest.mark.parametrize("seed", range(50))
def test_predict_of_random_networks(seed):
    network = random_network(seed)
    inputs = random_inputs(network, 32, seed)
    program = make_program(network, KINDS, "the oracle")
    truth, perfect = values(program, inputs), values(program, inputs, rounds=True)
    for mine, exact, near in zip(outputs_of(network, inputs), truth, perfect, strict=True):
        assert relative_error(mine, exact) <= TOLERANCE + TIMES * relative_error(near, exact)
