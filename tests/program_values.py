# SPDX-License-Identifier: Apache-2.0
"""What an exported model computes, in NumPy: in float64, or rounded after every step."""

from __future__ import annotations

import numpy as np

import oracle
from fusednn.exporting.program import Program, Step, middle


def _weight(step: Step, name: str, otherwise: float) -> np.ndarray:
    return step.weights.get(name, np.array(otherwise)).astype(np.float64)


def _dense(step, x):
    return x @ _weight(step, "kernel", 0) + _weight(step, "bias", 0)


def _batch_norm(step, x):
    deviation = np.sqrt(_weight(step, "moving_variance", 1) + step.config["epsilon"])
    normal = (x - _weight(step, "moving_mean", 0)) / deviation
    return normal * _weight(step, "gamma", 1) + _weight(step, "beta", 0)


def _layer_norm(step, x):
    apart = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(apart).mean(axis=-1, keepdims=True)
    normal = apart / np.sqrt(variance + step.config["epsilon"])
    return normal * _weight(step, "gamma", 1) + _weight(step, "beta", 0)


def _activation(step, x):
    return oracle.ACTIVATIONS[step.config["activation"]].forward(x, **step.config["parameters"])


def _softmax(step, x):
    return oracle.log_softmax(x) if step.config["log"] else oracle.softmax(x)


def _crop(step, x):
    (top, bottom), (left, right) = middle(step, x.shape[1:])
    return x[:, top:bottom, left:right]


_STEPS = {
    "activation": _activation,
    "add": lambda step, *xs: sum(xs),
    "batch_normalization": _batch_norm,
    "concatenate": lambda step, *xs: np.concatenate(xs, axis=-1),
    "dense": _dense,
    "flatten": lambda step, x: x.reshape(len(x), -1),
    "layer_normalization": _layer_norm,
    "resample": _crop,
    "rescaling": lambda step, x: x * step.config["scale"] + step.config["offset"],
    "softmax": _softmax,
}
KINDS = {"input", *_STEPS}


def values(program: Program, inputs: list[np.ndarray], rounds: bool = False) -> list[np.ndarray]:
    """The outputs in float64.

    With `rounds`, what each step makes is rounded to float32. A library that keeps float32 between
    layers loses as much, even if each of its layers is perfect.
    """
    given = iter(inputs)
    made: list[np.ndarray] = []
    for step in program.steps:
        xs = [made[place] for place in step.inputs]
        value = next(given) if step.kind == "input" else _STEPS[step.kind](step, *xs)
        made.append((value.astype(np.float32) if rounds else value).astype(np.float64))
    return [made[place] for _, place in program.outputs]
