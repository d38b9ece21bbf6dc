# SPDX-License-Identifier: Apache-2.0
"""Gradients to look at: of the inputs, and compared with differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fusednn.errors import check_number
from fusednn.interpreter import PythonEngine, Tape, Walker

if TYPE_CHECKING:
    from fusednn.training import Trainable


def walker_of(model: Trainable) -> Walker:
    """Return what evaluates the nodes of a model one by one, on its own weights."""
    engine = model._use_engine()
    if isinstance(engine, PythonEngine):
        return engine.walker
    values: dict[str, dict[str, np.ndarray]] = {}
    slopes: dict[str, dict[str, np.ndarray]] = {}
    for p in model._parameters:
        values.setdefault(p["node"], {})[p["name"]] = p["value"]
        slopes.setdefault(p["node"], {})[p["name"]] = np.zeros_like(p["value"])
    graph = model._require_graph()
    frozen = [graph.name_of(layer) for layer in graph.layers if not layer.trainable]
    return Walker(graph.nodes, values, slopes, model.precision, model.seed, frozen)


def run_forward(model: Trainable, inputs: list[np.ndarray], training: bool) -> tuple[Walker, Tape]:
    """Evaluate all nodes; statistics that training would move stay."""
    walker = walker_of(model)
    kept = {
        (node.name, name): value.copy()
        for node in walker.nodes
        for name, value in node.values.items()
        if name.startswith("moving_")
    }
    tape = walker.forward(inputs, training, step=1)
    for node in walker.nodes:
        for name, value in node.values.items():
            if (node.name, name) in kept:
                value[...] = kept[node.name, name]
    return walker, tape


def check(model: Trainable, data: Any, samples: int, tolerance: float) -> dict[str, float]:
    """Return the largest relative error per array; see ``Model.check_gradients``."""
    tolerance = check_number("tolerance", tolerance, 0)
    objective = model._require_objective("check_gradients")
    model._use_engine()
    engine = model._make_engine("float64", model.device, model.seed)
    for new, old in zip(engine.parameters(), model._parameters, strict=True):
        new["value"][...] = old["value"]
    model._instruct(engine, objective)

    def loss() -> float:
        # The step count stands still, so a mask is the same every time.
        report = engine.compute_gradients(data.inputs, data.targets, data.weight, training=True)
        return objective.logs(report, data.mean_weight)["loss"]

    loss()
    frozen = {node["name"] for node in engine.nodes() if node["frozen"]}
    arrays = {
        f"{p['node']}/{p['name']}": (p["value"], gradient.copy())
        for p, gradient in zip(engine.parameters(), engine.gradients(), strict=True)
        if p["trainable"] and p["node"] not in frozen
    }
    rng = np.random.default_rng(0)
    errors = {}
    for name, (value, gradient) in arrays.items():
        scale = max(float(np.abs(gradient).max(initial=0.0)), 1e-8)
        worst = 0.0
        for place in rng.permutation(value.size)[:samples]:
            where = np.unravel_index(place, value.shape)
            before = float(value[where])
            width = 1e-6 * max(1.0, abs(before))
            sides = []
            for shift in (width, -width):
                value[where] = before + shift
                sides.append(loss())
            value[where] = before
            slope = (sides[0] - sides[1]) / (2 * width)
            worst = max(worst, abs(slope - float(gradient[where])) / scale)
        errors[name] = worst
    bad = {name: error for name, error in errors.items() if not error <= tolerance}
    if bad:
        found = ", ".join(f"{name} by {error:.2g}" for name, error in bad.items())
        raise ValueError(
            f"gradients differ from differences by more than {tolerance:g} of the largest: {found}"
        )
    return errors
