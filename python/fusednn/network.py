# SPDX-License-Identifier: Apache-2.0
"""A graph of layers together with the compiled network that holds its weights."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from fusednn import _core, random
from fusednn.arrays import to_numbers
from fusednn.errors import unknown_choice
from fusednn.graph import Graph
from fusednn.layers.base import Layer, SymbolicTensor
from fusednn.layers.core import InputLayer
from fusednn.optimizers import Optimizer

_PRECISIONS = ("float32", "float64", "bfloat16", "float16")
_INSTEAD = {
    "tf32": "fusednn.device.allow_tf32(True) lets float32 products on a CUDA device round to it",
}


def check_precision(precision: object, device: str) -> str:
    """Return the name of a precision on this device, of a name or a NumPy dtype."""
    if isinstance(precision, str):
        name = precision
    else:
        try:
            name = np.dtype(precision).name  # type: ignore[call-overload]
        except TypeError:
            name = repr(precision)
    if name not in _PRECISIONS:
        if name in _INSTEAD:
            raise ValueError(f"precision={name!r} cannot be had: {_INSTEAD[name]}")
        raise unknown_choice("precision", name, _PRECISIONS)
    if name == "float16" and device == "cpu":
        raise ValueError(
            "precision='float16' needs a CUDA device; on the processor there is 'bfloat16', which "
            "has more range"
        )
    return name


class Network:
    """What `Model` is below compile and fit: layers, engine, weights.

    The engine's network is made late: initial values are drawn when somebody first needs them. As
    long as nobody has seen them, ``compile(seed=...)`` may still draw them anew.
    """

    def __init__(self, name: str | None, seed: int | None) -> None:
        self.name = name or type(self).__name__.lower()
        self._seed = None if seed is None else random.check_seed(seed)
        self._seed_drawn = False  # nobody has chosen it
        self._precision = "float32"
        self._device = "cpu"
        self._graph: Graph | None = None
        self._engine: Any = None
        self._seen = False
        self._lenders: list[Network] = []  # owners of borrowed layers, kept alive
        # Layers, and their weights before the graph was changed, by the layer's id.
        self._carried: dict[int, tuple[Layer, list[np.ndarray]]] = {}
        self._tape: Any = None  # of the last pass that `backward` may go back
        self._runs = False  # while training, the engine's own values are the latest
        self.optimizer: Optimizer | None = None

    # ---- graph ---------------------------------------------------------------------------------

    def _set_graph(self, inputs: list[SymbolicTensor], outputs: list[SymbolicTensor]) -> None:
        """Take the layers between inputs and outputs. Nothing is changed if they do not fit."""
        graph = Graph(inputs, outputs, self)
        self._carry()
        strange = {id(layer) for layer in graph.borrowed}
        for layer in graph.layers:
            if id(layer) not in strange:
                layer._model = weakref.ref(self)  # type: ignore[arg-type]
        lenders = {id(x.owner): x.owner for x in graph.borrowed}
        self._lenders = [owner for owner in lenders.values() if owner is not None]
        self._graph = graph
        self._engine = None

    def _require_graph(self) -> Graph:
        if self._graph is None:
            raise ValueError(
                f"model {self.name!r} is not built: the shape of its input is unknown; give "
                "input_shape or begin with Input(), or call fit()"
            )
        return self._graph

    @property
    def built(self) -> bool:
        """Whether the shapes of all layers are known."""
        return self._graph is not None

    @property
    def layers(self) -> list[Layer]:
        """The layers in topological order, without those that stand for inputs."""
        graph = self._require_graph()
        return [layer for layer in graph.layers if not isinstance(layer, InputLayer)]

    @property
    def precision(self) -> str:
        """ "float32", "float64", "bfloat16" or "float16"."""
        return self._precision

    @property
    def device(self) -> str:
        """The device that the model is on, "auto" resolved."""
        return self._device

    @property
    def seed(self) -> int:
        """The number from which initial values, shuffles and dropout masks are drawn."""
        if self._seed is None:
            self._seed = random.next_seed()
            self._seed_drawn = True
        return self._seed

    @property
    def dtype(self) -> np.dtype:
        """What weights, inputs and outputs are made of: float32 for "bfloat16" and "float16"."""
        return np.dtype("float64" if self._precision == "float64" else "float32")

    # ---- engine --------------------------------------------------------------------------------

    def _make_engine(self, precision: str, device: str, seed: int) -> Any:
        graph = self._require_graph()
        engine: Any
        if reason := graph.written_in_python() or self._python_loss():
            from fusednn.interpreter import PythonEngine

            engine = PythonEngine(graph.nodes, graph.node_shapes, precision, seed, reason)
        else:
            engine = _core.Network(graph.nodes, precision, device, seed)
        for layer in graph.layers:
            if not layer.trainable:
                engine.set_frozen(graph.name_of(layer), True)
        return engine

    def _python_loss(self) -> str:
        """Return the name of a loss that is written in Python, or nothing."""
        return ""

    def _carry(self) -> None:
        """Remember the weights for an engine that is to be made anew."""
        if self._engine is not None and self._seen:
            layers = self._require_graph().layers
            self._carried = {id(x): (x, [v.copy() for v in self._views_of(x)]) for x in layers}
        self._engine = None

    def _initialise(self, parameters: Sequence[dict[str, Any]], seed: int) -> None:
        """Write the initial values, drawn from one stream per layer."""
        graph = self._require_graph()
        for place, layer in enumerate(graph.layers):
            node = graph.name_of(layer)
            own = {p["name"]: p["value"] for p in parameters if p["node"] == node}
            _, carried = self._carried.get(id(layer), (layer, []))
            if own and [v.shape for v in carried] == [v.shape for v in own.values()]:
                for view, value in zip(own.values(), carried, strict=True):
                    view[...] = value
                continue
            rng = random.stream(seed, place)
            for name, view in own.items():
                view[...] = layer.initializers()[name](view.shape, rng)

    def _engine_for(self, precision: str, device: str, seed: int | None) -> Any:
        """Return an engine with these settings and the present weights, made anew if need be."""
        unseen = self._engine is None or not self._seen
        same_seed = seed is None or seed == self._seed
        same = (precision, device) == (self._precision, self._device) and same_seed
        if self._engine is not None and same:
            self._freeze_borrowed(self._engine)
            return self._engine
        seed = self.seed if seed is None else seed
        engine = self._make_engine(precision, device, seed)
        if unseen:
            self._initialise(engine.parameters(), seed)
        else:
            for new, old in zip(engine.parameters(), self._parameters, strict=True):
                new["value"][...] = old["value"]
        return engine

    def _take_engine(self, engine: Any, precision: str, device: str, seed: int | None) -> None:
        if engine is not self._engine:
            self._engine = engine
        self._precision, self._device = precision, device
        if seed is not None:
            self._seed = seed
            self._seed_drawn = False

    def _need_engine(self) -> Any:
        if self._engine is None:
            engine = self._engine_for(self._precision, self._device, self._seed)
            self._introduce(engine)
            self._take_engine(engine, self._precision, self._device, None)
        return self._engine

    def _introduce(self, engine: Any) -> None:
        """Tell an engine that was made after `compile` what `compile` was told."""

    def _use_engine(self) -> Any:
        """Return the engine for work that shows or changes the weights."""
        engine = self._need_engine()
        self._seen = True
        if self._lenders:
            self._borrow()
        return engine

    def _engine_of(self, optimizer: Optimizer) -> Any:
        """Return the engine whose optimizer this is, or None."""
        return self._engine if self.optimizer is optimizer else None

    # ---- weights -------------------------------------------------------------------------------

    @property
    def _parameters(self) -> list[dict[str, Any]]:
        """The parameters as they are now. Another device's are copies until the next run begins."""
        return [] if self._engine is None else self._engine.parameters()

    def _treatments(self, engine: Any) -> list[dict[str, float]]:
        """Return how the optimizer is to treat each parameter, or nothing where all are alike."""
        graph = self._require_graph()
        layers = {graph.name_of(layer): layer for layer in graph.layers}
        treatments = []
        for parameter in engine.parameters():
            layer = layers[parameter["node"]]
            regularizer = layer.penalties().get(parameter["name"])
            terms = {} if regularizer is None else regularizer.terms()
            treatments.append({"rate": layer.learning_rate_multiplier, **terms})
        plain = {"rate": 1.0}
        return [] if all(each == plain for each in treatments) else treatments

    def _bounds(self, engine: Any) -> list[dict[str, Any] | None]:
        """Return what each parameter is held to, or nothing where none is."""
        graph = self._require_graph()
        layers = {graph.name_of(layer): layer for layer in graph.layers}
        found = [layers[p["node"]].bounds().get(p["name"]) for p in engine.parameters()]
        if not any(found):
            return []
        return [None if each is None else each.bound() for each in found]

    def _freeze(self, layer: Layer) -> None:
        if self._engine is not None:
            self._engine.set_frozen(self._require_graph().name_of(layer), not layer.trainable)

    def _freeze_borrowed(self, engine: Any) -> None:
        """Take over `trainable` of borrowed layers, which counts as it is in `compile`."""
        if not self._lenders:
            return
        graph = self._require_graph()
        frozen = {node["name"]: node["frozen"] for node in engine.nodes()}
        for layer in graph.borrowed:
            name = graph.name_of(layer)
            if frozen[name] == layer.trainable:
                engine.set_frozen(name, not layer.trainable)

    # A borrowed layer has two sets of arrays: its owner's, which count, and this engine's, which
    # are brought up to date before every use and given back after training.

    def _loans(self, parameters: list[dict[str, Any]]) -> list[tuple[int, np.ndarray]]:
        """Return which of these parameters are borrowed, each with its owner's array."""
        graph = self._require_graph()
        pairs: list[tuple[int, np.ndarray]] = []
        for layer in graph.borrowed:
            owner = layer.owner
            assert owner is not None  # _lenders keeps it alive
            name = graph.name_of(layer)
            places = [i for i, p in enumerate(parameters) if p["node"] == name]
            if places:
                pairs += zip(places, owner._weights_of(layer), strict=True)
        return pairs

    def _borrow(self) -> None:
        if not self._runs:
            parameters = self._parameters
            for place, theirs in self._loans(parameters):
                parameters[place]["value"][...] = theirs

    def _give_back(self) -> None:
        """Hand the values of borrowed layers to their owners."""
        parameters = self._parameters
        for place, theirs in self._loans(parameters):
            theirs[...] = parameters[place]["value"]

    def _rest(self) -> None:
        """End what `_runs` said, also where training was interrupted."""
        self._runs = False
        if self._lenders:
            self._give_back()

    def _current(self) -> list[np.ndarray]:
        """Return the arrays that count, one per parameter: those of borrowed layers are lent."""
        parameters = self._parameters
        values = [p["value"] for p in parameters]
        if self._lenders and not self._runs:
            for place, theirs in self._loans(parameters):
                values[place] = theirs
        return values

    def _views_of(self, layer: Layer) -> list[np.ndarray]:
        self._need_engine()
        name = self._require_graph().name_of(layer)
        return [p["value"] for p in self._parameters if p["node"] == name]

    def _weights_of(self, layer: Layer) -> list[np.ndarray]:
        self._use_engine()
        return self._views_of(layer)

    def _named_parameters(self) -> dict[str, np.ndarray]:
        """Return all parameters (not copies) as "<layer>/<parameter>"."""
        self._need_engine()
        names = [f"{p['node']}/{p['name']}" for p in self._parameters]
        return dict(zip(names, self._current(), strict=True))

    @property
    def weights(self) -> list[np.ndarray]:
        """The parameters themselves (no copies): writing to these arrays changes the model.

        On another device than the CPU they are what it is until the next run: what is written to
        them before that reaches the device when it begins; ask for them again after it.
        """
        self._use_engine()
        return self._current()

    @property
    def trainable_weights(self) -> list[np.ndarray]:
        """Those of `weights` that training changes."""
        return [
            value for value, learns in zip(self.weights, self._learning(), strict=True) if learns
        ]

    @property
    def non_trainable_weights(self) -> list[np.ndarray]:
        """Those of `weights` that it does not: moving statistics, and all of frozen layers."""
        return [
            value
            for value, learns in zip(self.weights, self._learning(), strict=True)
            if not learns
        ]

    def _learning(self) -> list[bool]:
        """Return for each parameter whether training changes it."""
        frozen = {node["name"] for node in self._need_engine().nodes() if node["frozen"]}
        return [p["trainable"] and p["node"] not in frozen for p in self._parameters]

    @property
    def trainable(self) -> bool:
        """Whether any layer learns; setting it sets all layers."""
        return any(layer.trainable for layer in self._require_graph().layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self._require_graph().layers:
            layer.trainable = value

    def get_weights(self, averaged: bool = False) -> list[np.ndarray]:
        """Return copies of all parameters, layer by layer.

        Parameters
        ----------
        averaged : bool
            Their moving averages instead; needs an optimizer with ``use_ema=True``.

        Examples
        --------
        >>> import fusednn
        >>> model = fusednn.Sequential([fusednn.layers.Dense(2)], input_shape=(3,))
        >>> [w.shape for w in model.get_weights()]
        [(3, 2), (2,)]
        """
        engine = self._use_engine()
        if not averaged:
            return [value.copy() for value in self._current()]
        averages = engine.ema()
        if averages is None:
            raise ValueError("averaged=True needs an optimizer with use_ema=True")
        # Statistics that do not learn have no average of their own.
        return [
            (average if p["trainable"] else p["value"]).copy()
            for p, average in zip(self._parameters, averages, strict=True)
        ]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replace all parameters by arrays of the same shapes, in the order of `get_weights`.

        Raises ValueError, with nothing changed, where number or shapes differ.

        Examples
        --------
        >>> import fusednn
        >>> model = fusednn.Sequential([fusednn.layers.Dense(1)], input_shape=(2,))
        >>> model.set_weights([[[1.0], [2.0]], [3.0]])
        >>> float(model.predict([[10.0, 100.0]])[0, 0])
        213.0
        """
        self._assign(self.name, self.weights, weights)

    def _assign(self, owner: str, views: Sequence[np.ndarray], values: Sequence[Any]) -> None:
        if not isinstance(values, (list, tuple)):
            raise TypeError(f"weights must be a list of arrays, got {type(values).__name__}")
        if len(values) != len(views):
            raise ValueError(f"{owner!r} has {len(views)} parameters, got {len(values)} arrays")
        arrays = [to_numbers(f"weights[{i}]", value) for i, value in enumerate(values)]
        for i, (view, array) in enumerate(zip(views, arrays, strict=True)):
            if array.shape != view.shape:
                raise ValueError(
                    f"weights[{i}] of {owner!r} must have shape {view.shape}, got {array.shape}"
                )
        for view, array in zip(views, arrays, strict=True):
            view[...] = array
        self._restart_average()

    def _restart_average(self) -> None:
        """Before the first step the average of the weights is the weights."""
        if self._engine is not None and self._lenders:
            self._borrow()
        if self.optimizer is None or self._engine is None:
            return
        averages = self._engine.ema()
        if averages is not None and self._engine.optimizer_steps == 0:
            for average, parameter in zip(averages, self._parameters, strict=True):
                average[...] = parameter["value"]

    def count_params(self) -> int:
        """Return the number of values in all parameters."""
        self._need_engine()
        return sum(p["value"].size for p in self._parameters)
