# SPDX-License-Identifier: Apache-2.0
"""Trains a graph that has pieces written in Python: a slow stand-in for the compiled engine.

It answers to the same calls as ``_core.Network``, so everything above it is the same.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fusednn import _core
from fusednn.interpreter.nodes import KINDS, Arrays
from fusednn.interpreter.tallies import RULES, tally
from fusednn.interpreter.walk import Tape, Walker
from fusednn.layers.base import Shape

_said = False


class SlowPathWarning(UserWarning):
    """A model is computed by Python, node by node, because a part of it is written in Python."""


def _say_once(reason: str) -> None:
    global _said
    if not _said:
        _said = True
        warnings.warn(
            f"{reason} is written in Python, so its model is computed node by node, which is "
            "slower than the compiled engine; this is said once",
            SlowPathWarning,
            stacklevel=2,
        )


class PythonEngine:
    """What `_core.Network` is, for graphs with nodes, or losses, written in Python.

    Parameters
    ----------
    nodes : list of dict
        As the engine takes them; type "python" has a layer in its config.
    shapes : list of tuple
        Of one sample of each node's output.
    precision : str
    seed : int
    reason : str
        Which part is written in Python.
    """

    def __init__(
        self,
        nodes: Sequence[Mapping[str, Any]],
        shapes: Sequence[Shape],
        precision: str,
        seed: int,
        reason: str,
    ) -> None:
        _say_once(reason)
        self._shapes = shapes
        self._frozen: dict[str, bool] = {}
        dtype = np.float64 if precision == "float64" else np.float32
        values: dict[str, Arrays] = {}
        self._all: list[dict[str, Any]] = []
        for spec in nodes:
            self._frozen[spec["name"]] = False
            kind = KINDS.get(spec["type"])
            if kind is None:
                continue
            before = [shapes[place] for place in spec["inputs"]]
            for name, shape in kind.parameters(dict(spec["config"]), before).items():
                value = np.zeros(shape, dtype)
                values.setdefault(spec["name"], {})[name] = value
                entry = {"node": spec["name"], "name": name, "shape": shape, "value": value}
                self._all.append({**entry, "trainable": name not in kind.statistics})
        self._gradients = {
            node: {name: np.zeros_like(value) for name, value in own.items()}
            for node, own in values.items()
        }
        self.walker = Walker(nodes, values, self._gradients, precision, seed)
        self._losses: list[dict[str, Any]] = []
        self._metrics: list[dict[str, Any]] = []
        self._options: dict[str, Any] | None = None
        self._state: dict[str, Any] = {}
        self.training_steps = 0
        self.optimizer_steps = 0
        self.last_norm = 0.0

    # ---- what it holds ---------------------------------------------------------------------------

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"name": n.name, "type": n.kind, "shape": s, "inputs": n.inputs,
             "frozen": self._frozen[n.name]}
            for n, s in zip(self.walker.nodes, self._shapes, strict=True)
        ]  # fmt: skip

    def parameters(self) -> list[dict[str, Any]]:
        return self._all

    def gradients(self) -> list[np.ndarray]:
        return [self._gradients[p["node"]][p["name"]] for p in self._all]

    def set_frozen(self, node: str, frozen: bool) -> None:
        self._frozen[node] = frozen
        for each in self.walker.nodes:
            each.frozen = self._frozen[each.name]

    def optimizer_states(self) -> list[dict[str, Any]]:
        slots = [name for name in self._state if name not in ("memory", "ema")]
        return [{"name": name, "values": self._state[name]} for name in slots]

    def ema(self) -> list[np.ndarray] | None:
        return self._state.get("ema")

    @property
    def collected(self) -> int:
        return 0  # each step makes an update

    def collected_gradients(self) -> None:
        return None

    def hyper(self, name: str) -> float:
        return self._require_options()["hyper"][name]

    def set_hyper(self, name: str, value: float) -> None:
        self._require_options()["hyper"][name] = float(value)

    @property
    def optimizer_memory(self) -> list[float]:
        return list(self._state.get("memory", ()))

    @optimizer_memory.setter
    def optimizer_memory(self, values: Sequence[float]) -> None:
        self._state["memory"][...] = values

    def _require_options(self) -> dict[str, Any]:
        if self._options is None:
            raise ValueError("the network has no optimizer; compile the model first")
        return self._options

    def set_training(
        self,
        losses: list[dict[str, Any]],
        metrics: list[dict[str, Any]],
        optimizer: dict[str, Any] | None,
    ) -> None:
        options = None
        if optimizer is not None:
            if optimizer.get("constraints") or optimizer.get("accumulation_steps", 1) > 1:
                raise ValueError(
                    "constraints and gradient_accumulation_steps need the compiled engine, but a "
                    "part of this model is written in Python"
                )
            options = {k: v for k, v in optimizer.items() if k != "treatments"}
            if optimizer.get("treatments"):
                raise ValueError(
                    "regularizers and learning_rate_multiplier need the compiled engine, but a "
                    "part of this model is written in Python"
                )
            options["hyper"] = {"lr": 1e-3, **options["hyper"]}
            self._state = _core.init_optimizer_state(options, [p["value"] for p in self._all])
        self._losses, self._metrics, self._options = losses, metrics, options
        self.optimizer_steps = 0

    # ---- one batch -------------------------------------------------------------------------------

    def _place(self, name: str) -> int:
        return next(node.place for node in self.walker.nodes if node.name == name)

    def _criterion(
        self, spec: dict[str, Any], tape: Tape, target: np.ndarray, gradient: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the loss of every sample, and its gradient."""
        output = tape.values[self._place(spec["node"])]
        if spec["rule"] == "python":
            return spec["parameters"]["loss"].evaluate(target, output, gradient)
        if spec["rule"] == "accuracy":
            return _hits(spec, output, target), None
        return _rule_loss(spec, output, target, gradient)

    def _batch(
        self, inputs: list[np.ndarray], targets: list[np.ndarray], weight: np.ndarray | None,
        *, training: bool, gradient: bool,
    ) -> tuple[Tape, list[float], list[float], float]:  # fmt: skip
        """Return the pass and the sums of losses, metrics and added losses over the samples."""
        tape = self.walker.forward(inputs, training, self.training_steps)
        rows = len(inputs[0])
        losses: list[float] = []
        starts: dict[int, np.ndarray] = {}
        for spec in self._losses:
            zero = spec.get("against_zero", False)
            target = np.zeros_like(tape.values[self._place(spec["node"])])
            if not zero:
                target = targets[spec["target"]]
            own_weight = None if zero else weight
            each, slope = self._criterion(spec, tape, target, gradient)
            each = each if own_weight is None else each * own_weight
            losses.append(float(each.sum(dtype=np.float64)))
            if slope is not None:
                shape = (rows,) + (1,) * (slope.ndim - 1)
                factor = np.full(rows, spec.get("weight", 1.0) / rows)
                factor = factor if own_weight is None else factor * own_weight
                slope = slope * factor.astype(slope.dtype).reshape(shape)
                place = self._place(spec["node"])
                starts[place] = starts[place] + slope if place in starts else slope
        metrics: list[Any] = []
        for spec in self._metrics:
            if spec["rule"] in RULES:
                output = tape.values[self._place(spec["node"])]
                metrics.append(tally(spec, output, targets[spec["target"]], weight))
                continue
            each, _ = self._criterion(spec, tape, targets[spec["target"]], False)
            metrics.append(float((each if weight is None else each * weight).sum(dtype=np.float64)))
        added = sum(
            float(node.config["layer"].added_loss)
            for node in self.walker.nodes
            if node.kind == "python"
        )
        if gradient:
            self.walker.backward(tape, starts, to_inputs=False)
        return tape, losses, metrics, added * rows

    def _update(self) -> None:
        options = self._require_options()
        self.optimizer_steps += 1
        learns = [
            i for i, p in enumerate(self._all) if p["trainable"] and not self._frozen[p["node"]]
        ]
        if not learns:
            return
        gradients = self.gradients()
        state = {
            name: slot if name == "memory" else [slot[i] for i in learns]
            for name, slot in self._state.items()
        }
        _core.optimizer_step(
            options, [self._all[i]["value"] for i in learns], [gradients[i] for i in learns],
            state, self.optimizer_steps,
        )  # fmt: skip

    # ---- runs ------------------------------------------------------------------------------------

    def hold(self, arrays: list[np.ndarray]) -> None:
        """Do nothing: arrays are read where they are."""

    def train(
        self, inputs: list[np.ndarray], targets: list[np.ndarray],
        sample_weight: np.ndarray | None = None, batch_size: int = 32, order: Any = None,
        watcher: Callable[[dict[str, Any]], Any] | None = None, interval: float = 0.05,
        schedules: Mapping[str, np.ndarray] | None = None, begun: dict[str, Any] | None = None,
        **_: Any,
    ) -> dict[str, Any]:  # fmt: skip
        data = (inputs, targets, sample_weight)
        return self._run(data, batch_size, order, watcher, interval, schedules or {}, begun, True)

    def evaluate(
        self, inputs: list[np.ndarray], targets: list[np.ndarray],
        sample_weight: np.ndarray | None = None, batch_size: int = 32, order: Any = None,
        watcher: Callable[[dict[str, Any]], Any] | None = None, interval: float = 0.05,
        begun: dict[str, Any] | None = None, **_: Any,
    ) -> dict[str, Any]:  # fmt: skip
        data = (inputs, targets, sample_weight)
        return self._run(data, batch_size, order, watcher, interval, {}, begun, False)

    def _run(
        self, data: tuple, batch_size: int, order: Any, watcher: Any, interval: float,
        schedules: Mapping[str, np.ndarray], begun: dict[str, Any] | None, training: bool,
    ) -> dict[str, Any]:  # fmt: skip
        inputs, targets, weight = data
        rows = len(inputs[0])
        empty = _empty_report(len(self._losses), len(self._metrics))
        report = {**empty, **(begun or {}), "stopped": False}
        looked = time.perf_counter()
        for step, first in enumerate(range(0, rows, batch_size)):
            cut: Any = slice(first, first + batch_size)
            if order is not None:
                cut = order[cut]
            for name, values in schedules.items():
                self.set_hyper(name, values[step])
            self.training_steps += training
            _, losses, metrics, added = self._batch(
                [a[cut] for a in inputs], [a[cut] for a in targets],
                None if weight is None else weight[cut], training=training, gradient=training,
            )  # fmt: skip
            if training:
                self._update()
            report["rows"] += min(batch_size, rows - first)
            report["steps"] += 1
            report["losses"] = [a + b for a, b in zip(report["losses"], losses, strict=True)]
            report["metrics"] = [a + b for a, b in zip(report["metrics"], metrics, strict=True)]
            report["penalty"] += added
            if watcher is not None and time.perf_counter() - looked >= interval:
                if watcher(report) is False:
                    report["stopped"] = True
                    break
                looked = time.perf_counter()
        return report

    def compute_gradients(
        self, inputs: list[np.ndarray], targets: list[np.ndarray],
        sample_weight: np.ndarray | None = None, training: bool = True,
    ) -> dict[str, Any]:  # fmt: skip
        _, losses, metrics, added = self._batch(
            inputs, targets, sample_weight, training=training, gradient=True
        )
        report = _empty_report(0, 0)
        return {**report, "rows": len(inputs[0]), "steps": 1, "losses": losses,
                "metrics": metrics, "penalty": added}  # fmt: skip

    def predict(
        self, inputs: list[np.ndarray], nodes: Sequence[int], batch_size: int = 1024, **_: Any
    ) -> list[np.ndarray]:
        rows = len(inputs[0])
        if rows == 0:
            return [np.zeros((0, *self._shapes[place]), inputs[0].dtype) for place in nodes]
        pieces = []
        for first in range(0, rows, batch_size):
            tape = self.walker.forward([a[first : first + batch_size] for a in inputs])
            pieces.append([tape.values[place] for place in nodes])
        return [np.concatenate(column) for column in zip(*pieces, strict=True)]


def _empty_report(losses: int, metrics: int) -> dict[str, Any]:
    return {
        "rows": 0,
        "steps": 0,
        "losses": [0.0] * losses,
        "metrics": [0.0] * metrics,
        "penalty": 0.0,
        "stopped": False,
    }


def _hits(spec: dict[str, Any], output: np.ndarray, target: np.ndarray) -> np.ndarray:
    if output.shape[-1] == 1:
        said = output.reshape(-1) > spec["threshold"]
        true = target.reshape(-1) > (0.5 if target.min() >= 0 else 0.0)
        return (said == true).astype(np.float64)
    wanted = target if spec["labels"] else target.argmax(axis=-1)
    if (top := spec.get("top", 1)) > 1:
        own = np.take_along_axis(output, wanted.reshape(-1, 1).astype(np.intp), axis=-1)
        return ((output > own).sum(axis=-1) < top).astype(np.float64)
    return (output.argmax(axis=-1) == wanted).astype(np.float64)


def _rule_loss(
    spec: dict[str, Any], output: np.ndarray, target: np.ndarray, gradient: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the loss of every sample by a compiled rule."""
    each, slope = _core.loss(
        spec["rule"], spec["parameters"], output, target, reduction="none", gradient=gradient
    )
    if each.ndim > 1:  # element by element: the loss of a sample is their mean
        columns = math.prod(each.shape[1:])
        each = each.reshape(len(each), -1).mean(axis=1, dtype=np.float64)
        slope = None if slope is None else slope / slope.dtype.type(columns)
    return each, slope
