# SPDX-License-Identifier: Apache-2.0
"""Sequential: a chain of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fusednn import layers as layer_module
from fusednn.arrays import single_input
from fusednn.errors import helpful_keywords
from fusednn.functional import Model
from fusednn.layers.base import Layer, SymbolicTensor
from fusednn.layers.core import InputLayer
from fusednn.training import Trainable


class Sequential(Model):
    """A chain of layers.

    Parameters
    ----------
    layers : list of Layer or Model, optional
        The first may be an `Input`. Models, and layers of other models, are borrowed, see `Model`.
    input_shape : tuple of int, optional
        Shape of one sample. Without it and without an `Input` the first call of `fit` tells.
    name : str, optional
    seed : int, optional
        See `Model`.

    Examples
    --------
    >>> import fusednn
    >>> from fusednn import layers
    >>> model = fusednn.Sequential([layers.Dense(64, activation="relu"), layers.Dense(10)])
    >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    """

    @helpful_keywords
    def __init__(
        self,
        layers: Iterable[Layer | Model | SymbolicTensor] | None = None,
        input_shape: int | Iterable[int] | None = None,
        name: str | None = None,
        seed: int | None = None,
    ) -> None:
        Trainable.__init__(self, name, seed)
        self._stack: list[Layer | Model] = []
        self._entry: InputLayer | None = None
        given = list(layers or ())
        if input_shape is not None:
            if given and isinstance(given[0], (SymbolicTensor, InputLayer)):
                raise ValueError("give input_shape or begin with Input(), not both")
            self._entry = InputLayer(input_shape)
        for layer in given:
            self._append(layer)
        self._rebuild()

    def _append(self, layer: Layer | Model | SymbolicTensor) -> None:
        if isinstance(layer, SymbolicTensor):
            if not isinstance(layer.layer, InputLayer):
                raise TypeError(
                    f"a Sequential takes layers, got the output of layer {layer.layer.name!r}"
                )
            layer = layer.layer
        if isinstance(layer, InputLayer):
            if self._stack or self._entry is not None:
                raise ValueError("Input() must be the first layer, and the only one of its kind")
            self._entry = layer
            return
        if isinstance(layer, Model):
            self._check_model(layer)
        elif not isinstance(layer, Layer):
            raise TypeError(f"a Sequential takes layers, got {layer!r}")
        elif layer.owner is None and layer._tensor is not None:
            raise ValueError(f"layer {layer.name!r} is used already; make another layer")
        if any(layer is other for other in self._stack):
            raise ValueError(
                f"layer {layer.name!r} is used already, and parameters are not shared between "
                "places of a model; make another layer"
            )
        self._stack.append(layer)

    def _check_model(self, model: Model) -> None:
        if model is self:
            raise ValueError("a model cannot be a layer of itself")
        graph = model._require_graph()
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise ValueError(
                f"model {model.name!r} has {len(graph.inputs)} inputs and {len(graph.outputs)} "
                "outputs; a Sequential takes models with one of each"
            )
        if not self._stack and self._entry is None:
            self._entry = InputLayer(graph.inputs[0].sample_shape)

    def _rebuild(self) -> None:
        if self._entry is None:
            return
        entry = tensor = SymbolicTensor(self._entry, [], self._entry.shape)
        for layer in self._stack:
            made = layer([tensor]) if isinstance(layer, Model) else layer.connect([tensor])
            assert isinstance(made, SymbolicTensor)
            tensor = made
        self._set_graph([entry], [tensor])

    def add(self, layer: Layer | Model | SymbolicTensor) -> None:
        """Append a layer or a model. Weights stay; the state of the optimizer starts anew.

        Examples
        --------
        >>> import fusednn
        >>> model = fusednn.Sequential()
        >>> model.add(fusednn.layers.Input((4,)))
        >>> model.add(fusednn.layers.Dense(2))
        >>> model.output_shape
        (None, 2)
        """
        stack, entry = list(self._stack), self._entry
        self._append(layer)
        try:
            self._rebuild()
        except (TypeError, ValueError):
            self._stack, self._entry = stack, entry
            raise

    def pop(self) -> Layer | Model:
        """Remove the last layer and return it. Weights stay, except those of the layer.

        Examples
        --------
        >>> import fusednn
        >>> from fusednn import layers
        >>> model = fusednn.Sequential([layers.Dense(8), layers.Dense(5)], input_shape=(4,))
        >>> model.pop().units
        5
        >>> model.add(layers.Dense(3))
        >>> model.output_shape
        (None, 3)
        """
        if not self._stack:
            raise ValueError("there is no layer to remove")
        layer = self._stack.pop()
        self._rebuild()
        if isinstance(layer, Layer) and layer.owner is self:
            layer._model = None
        return layer

    @property
    def layers(self) -> list[Layer]:
        """The layers in order, without the input. Models among them are one layer each."""
        return list(self._stack)  # type: ignore[arg-type]

    @helpful_keywords
    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the layers for inputs of a shape; without it the first call of `fit` does.

        Parameters
        ----------
        input_shape : tuple
            (None, ...): the number of samples, which is free, and the shape of one.

        Examples
        --------
        >>> import fusednn
        >>> model = fusednn.Sequential([fusednn.layers.Dense(3)])
        >>> model.build((None, 2))
        >>> model.count_params()
        9
        """
        shape = tuple(input_shape)
        if len(shape) < 2 or shape[0] is not None:
            raise ValueError(f"input_shape must be (None, ...), got {input_shape!r}")
        if self._graph is None:
            self._build_as(shape[1:])  # type: ignore[arg-type]
        elif self.input_shape != shape:
            raise ValueError(f"input_shape={shape}, but the model is built for {self.input_shape}")

    def _build_for(self, x: object) -> Callable[[], None]:
        if self._graph is not None:
            return lambda: None
        return self._build_as(single_input(x).shape[1:] or (1,))

    def _build_as(self, shape: tuple[int, ...]) -> Callable[[], None]:
        """Make the layers for samples of a shape; return what undoes it."""

        def forget() -> None:
            self._entry = self._graph = self._engine = None
            self._seen = False

        try:
            self._entry = InputLayer(shape)
            self._rebuild()
        except BaseException:
            forget()
            raise
        return forget

    def get_config(self) -> dict[str, Any]:
        chain = [*([self._entry] if self._entry is not None else []), *self._stack]
        return {"name": self.name, "layers": [layer_module.serialize(x) for x in chain]}  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Sequential:
        chain = [_revive(entry) for entry in config["layers"]]
        return cls(chain, name=config.get("name"))


def _revive(entry: Mapping[str, Any]) -> Layer | Model:
    """Make the layer or model that an entry of a configuration describes."""
    kind = entry.get("class_name") if isinstance(entry, Mapping) else None
    if kind == "Sequential":
        return Sequential.from_config(entry["config"])
    if kind == "Model":
        return Model.from_config(entry["config"])
    return layer_module.deserialize(entry)
