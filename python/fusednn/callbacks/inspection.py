# SPDX-License-Identifier: Apache-2.0
"""Callbacks that look inside the layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fusednn.arrays import Data, prepare_inputs
from fusednn.callbacks.base import Callback, Logs
from fusednn.errors import check_flag, check_integer, helpful_keywords


def _layer_outputs(model: Any, inputs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of all layers at inference, by name."""
    graph = model._require_graph()
    tensors = [t for t in graph.tensors if t.inputs]
    places = [graph._last[id(t)] for t in tensors]
    values = model._use_engine().predict(inputs, places, len(inputs[0]))
    return {graph.name_of(t.layer): value for t, value in zip(tensors, values, strict=True)}


class LayerStatistics(Callback):
    """Writes down gradient norms and outputs of every layer after each epoch.

    Vanishing and exploding gradients and dead units become visible: ``statistics.plot()``.

    Parameters
    ----------
    x, y : arrays
        A few samples to look at, as for `fit`; a batch is enough.
    sample_weight : array, optional
    frequency : int
        Epochs between two looks.

    Attributes
    ----------
    records : list of dict
        "epoch", and in "layers" by name: "gradient" and "weight", Euclidean norms over the layer's
        parameters, "update", their ratio, and of the outputs "mean", "deviation" and "zeros", the
        share of values that are 0. Layers without parameters have no norms.

    Examples
    --------
    >>> import numpy as np, fusednn
    >>> x, y = np.ones((8, 3)), np.zeros(8)
    >>> model = fusednn.Sequential([fusednn.layers.Dense(4), fusednn.layers.Dense(1)], seed=0)
    >>> model.compile("sgd", "mse")
    >>> look = fusednn.callbacks.LayerStatistics(x, y)
    >>> _ = model.fit(x, y, epochs=2, verbose=0, callbacks=[look])
    >>> sorted(look.records[-1]["layers"]["dense"])
    ['deviation', 'gradient', 'mean', 'update', 'weight', 'zeros']
    """

    @helpful_keywords
    def __init__(self, x: Any, y: Any, sample_weight: Any = None, frequency: int = 1) -> None:
        self._given = (x, y, sample_weight)
        self.frequency = check_integer("frequency", frequency, 1)
        self.records: list[dict[str, Any]] = []
        self._data: Data | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.records = []
        self._data = self.model._prepare(*self._given)

    def get_state(self) -> dict[str, Any]:
        return {"records": self.records}

    def set_state(self, state: dict[str, Any]) -> None:
        self.records = state["records"]

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if epoch % self.frequency == 0:
            self.records.append({"epoch": epoch, "layers": self._look()})

    def _look(self) -> dict[str, dict[str, float]]:
        data = self._data
        assert data is not None
        model = self.model
        engine = model._use_engine()
        kept = [p["value"].copy() for p in engine.parameters()]
        engine.compute_gradients(data.inputs, data.targets, data.weight, training=True)
        squares: dict[str, list[float]] = {}
        for p, before, gradient in zip(engine.parameters(), kept, engine.gradients(), strict=True):
            p["value"][...] = before  # moving statistics have moved
            if p["trainable"]:
                pair = squares.setdefault(p["node"], [0.0, 0.0])
                pair[0] += float((gradient.astype(np.float64) ** 2).sum())
                pair[1] += float((before.astype(np.float64) ** 2).sum())
        found: dict[str, dict[str, float]] = {}
        for name, values in _layer_outputs(model, data.inputs).items():
            entry = {
                "mean": float(values.mean(dtype=np.float64)),
                "deviation": float(values.std(dtype=np.float64)),
                "zeros": float((values == 0).mean()),
            }
            if name in squares:
                gradient_norm, weight_norm = (math.sqrt(square) for square in squares[name])
                ratio = gradient_norm / weight_norm if weight_norm else math.nan
                entry |= {"gradient": gradient_norm, "weight": weight_norm, "update": ratio}
            found[name] = entry
        return found

    def plot(self) -> Any:
        """Draw all of it over the epochs; see `fusednn.plotting.plot_statistics`."""
        from fusednn.plotting import plot_statistics

        return plot_statistics(self)


class NaNLocator(Callback):
    """Ends training at the first NaN or infinity and says in which layer and step it began.

    It looks at the loss and all parameters after every step, which costs time: use it to find out
    what `TerminateOnNaN` has noticed. Where the loss was not finite the model gets back the
    parameters from before that step.

    Parameters
    ----------
    x : array, optional
        Samples to look at where the parameters are still finite and only outputs are not, for
        instance those that `fit` gets.
    raise_error : bool
        Whether to raise FloatingPointError instead of printing a line.

    Attributes
    ----------
    found : dict or None
        "epoch", "step" (both from 0), "layer", "what", "values" (how many are not finite).

    Examples
    --------
    >>> import numpy as np, fusednn
    >>> x, y = np.ones((8, 3)), np.full(8, 9.0)
    >>> model = fusednn.Sequential([fusednn.layers.Dense(1, name="only")], seed=0)
    >>> model.compile(fusednn.optimizers.SGD(3e38), "mse")
    >>> locator = fusednn.callbacks.NaNLocator()
    >>> _ = model.fit(x, y, batch_size=4, verbose=0, callbacks=[locator])
    epoch 0, step 0: layer 'only': 1 of 1 values of its bias are not finite after the update
    >>> locator.found["layer"]
    'only'
    """

    @helpful_keywords
    def __init__(self, x: Any = None, raise_error: bool = False) -> None:
        self._given = x
        self.raise_error = check_flag("raise_error", raise_error)
        self.found: dict[str, Any] | None = None
        self._epoch = 0
        self._suspect: int | None = None
        self._finite: dict[str, np.ndarray] = {}  # the latest parameters that are

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.found = self._suspect = None
        parameters = self.model._named_parameters().items()
        self._finite = {key: value.copy() for key, value in parameters}

    def get_state(self) -> dict[str, Any]:
        return {"found": self.found, "finite": self._finite}

    def set_state(self, state: dict[str, Any]) -> None:
        self.found, self._finite = state["found"], state["finite"]

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if self.found is not None:
            return
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            self._suspect = batch  # outputs can be looked at when the epoch is over
            self.model.stop_training = True
            return
        parameters = self.model._named_parameters()
        for key, value in reversed(parameters.items()):  # it spreads from the loss to the inputs
            bad = int(value.size - np.isfinite(value).sum())
            if bad:
                layer, _, name = key.partition("/")
                what = f"{bad} of {value.size} values of its {name} are not finite after the update"
                self._report(batch, layer, what, bad)
                return
        for key, value in parameters.items():
            np.copyto(self._finite[key], value)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self._suspect is None:
            return
        step, self._suspect = self._suspect, None
        for key, value in self.model._named_parameters().items():
            value[...] = self._finite[key]
        if self._given is not None:
            model = self.model
            inputs = prepare_inputs(model._require_graph(), self._given, model.dtype, finite=False)
            for layer, values in _layer_outputs(model, inputs).items():
                bad = int(values.size - np.isfinite(values).sum())
                if bad:
                    what = f"{bad} of its outputs are not finite, its parameters are"
                    self._report(step, layer, what, bad)
                    return
        self._report(step, "", "the loss is not finite, all parameters are", 1)

    def _report(self, step: int, layer: str, what: str, values: int) -> None:
        self.found = {
            "epoch": self._epoch, "step": step, "layer": layer, "what": what, "values": values
        }  # fmt: skip
        self.model.stop_training = True
        where = f"layer {layer!r}: " if layer else ""
        message = f"epoch {self._epoch}, step {step}: {where}{what}"
        if self.raise_error:
            raise FloatingPointError(message)
        print(message)
