# SPDX-License-Identifier: Apache-2.0
"""Model and Sequential."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fusednn import layers as layer_module
from fusednn import saving
from fusednn.arrays import single_input
from fusednn.errors import helpful_keywords, unknown_choice
from fusednn.layers.base import Layer, SymbolicTensor
from fusednn.layers.core import InputLayer
from fusednn.summary import render
from fusednn.training import Trainable

Path = str | os.PathLike[str]


class Model(Trainable):
    """A network given by its inputs and outputs: any graph without cycles.

    Parameters
    ----------
    inputs, outputs : SymbolicTensor or list of them
        What `Input` and layers return.
    name : str, optional
    seed : int, optional
        Decides initial values, shuffles and dropout masks. ``compile(seed=...)`` and
        ``fusednn.set_seed`` are other ways to say it.

    Examples
    --------
    >>> import fusednn
    >>> from fusednn import layers
    >>> image, text = layers.Input((64,), name="image"), layers.Input((16,), name="text")
    >>> joined = layers.Concatenate()([layers.Dense(8, activation="relu")(image), text])
    >>> model = fusednn.Model([image, text], layers.Dense(2, name="choice")(joined))
    >>> model.output_shape
    (None, 2)
    """

    @helpful_keywords
    def __init__(
        self,
        inputs: SymbolicTensor | Sequence[SymbolicTensor],
        outputs: SymbolicTensor | Sequence[SymbolicTensor],
        name: str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(name, seed)
        self._set_graph(_tensors("inputs", inputs), _tensors("outputs", outputs))

    # ---- looking at it -------------------------------------------------------------------------

    @property
    def inputs(self) -> list[SymbolicTensor]:
        """What the model was made of."""
        return list(self._require_graph().inputs)

    @property
    def outputs(self) -> list[SymbolicTensor]:
        """What the model was made of."""
        return list(self._require_graph().outputs)

    @property
    def input_shape(self) -> tuple | list[tuple]:
        """Shape of the input, or of each, with None for the batch axis."""
        shapes = [tensor.shape for tensor in self.inputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> tuple | list[tuple]:
        """Shape of the output, or of each, with None for the batch axis."""
        shapes = [tensor.shape for tensor in self.outputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @helpful_keywords
    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return a layer by its name or by its place in `layers`.

        Examples
        --------
        >>> import fusednn
        >>> model = fusednn.Sequential([fusednn.layers.Dense(3)], input_shape=(2,))
        >>> model.get_layer("dense").units
        3
        """
        if (name is None) == (index is None):
            raise ValueError("get_layer() needs either name or index")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ValueError(
                    f"index={index} is out of range: there are {len(self.layers)} layers"
                )
            return self.layers[index]
        everything = self._graph.layers if self._graph is not None else self.layers
        for layer in everything:
            if layer.name == name:
                return layer
        raise unknown_choice("layer name", name, [layer.name for layer in everything])

    @helpful_keywords
    def summary(self, print_fn: Callable[[str], object] | None = None) -> None:
        """Print a table of layers, output shapes and numbers of parameters.

        Parameters
        ----------
        print_fn : callable, optional
            Called once with the whole text; default `print`.

        Examples
        --------
        >>> import fusednn
        >>> fusednn.Sequential([fusednn.layers.Dense(3)], input_shape=(2,), name="tiny").summary()
        Model: tiny
        ────────────────────────────────────
        Layer (type)   Output shape  Param #
        ────────────────────────────────────
        dense (Dense)  (None, 3)           9
        ────────────────────────────────────
        Total params: 9 (36 B)
        Trainable params: 9 (36 B)
        Non-trainable params: 0 (0 B)
        """
        (print_fn or print)(render(self))

    # ---- as plain values -----------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the architecture as plain values, without weights."""
        graph = self._require_graph()
        described = [
            {
                **layer_module.serialize(layer),
                "inputs": [other.name for other in graph.input_layers_of(layer)],
            }
            for layer in graph.layers
        ]
        return {
            "name": self.name,
            "layers": described,
            "inputs": graph.input_names,
            "outputs": graph.output_names,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Model:
        """Make a model of what ``get_config`` returned, with weights of its own.

        Examples
        --------
        >>> import fusednn
        >>> model = fusednn.Sequential([fusednn.layers.Dense(3)], input_shape=(2,))
        >>> fusednn.Sequential.from_config(model.get_config()).output_shape
        (None, 3)
        """
        tensors: dict[str, SymbolicTensor] = {}
        for entry in config["layers"]:
            layer = layer_module.deserialize(entry)
            tensors[layer.name] = layer([tensors[name] for name in entry["inputs"]])
        return cls(
            [tensors[name] for name in config["inputs"]],
            [tensors[name] for name in config["outputs"]],
            name=config.get("name"),
        )

    # ---- files ---------------------------------------------------------------------------------

    @helpful_keywords
    def save(self, filepath: Path, include_optimizer: bool = True) -> None:
        """Write architecture, weights and the state of training to one safetensors file.

        The file is written beside its final place and renamed: it is there whole or not at all.
        ``fusednn.load`` reads it; training goes on from there with the same bits.

        Parameters
        ----------
        filepath : path
            An existing file is replaced.
        include_optimizer : bool
            Whether to write what `compile` was told and the optimizer's state.

        Examples
        --------
        >>> import fusednn, os, tempfile
        >>> model = fusednn.Sequential([fusednn.layers.Dense(3)], input_shape=(2,))
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> model.save(path)
        >>> fusednn.load(path).count_params()
        9
        """
        saving.save(self, filepath, include_optimizer)

    @helpful_keywords
    def save_weights(self, filepath: Path) -> None:
        """Write the weights alone, named "<layer>/<parameter>", to a safetensors file."""
        saving.save_weights(self, filepath)

    @helpful_keywords
    def load_weights(self, filepath: Path) -> None:
        """Read the weights from a file of `save` or `save_weights`.

        Raises ValueError, with nothing changed, where names or shapes are not the model's.
        """
        saving.load_weights(self, filepath)

    def __reduce__(self) -> tuple:
        return saving.from_bytes, (saving.to_bytes(self),)

    def __deepcopy__(self, memo: dict) -> Model:
        return saving.from_bytes(saving.to_bytes(self))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class Sequential(Model):
    """A chain of layers.

    Parameters
    ----------
    layers : list of Layer, optional
        The first may be an `Input`.
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
        layers: Iterable[Layer | SymbolicTensor] | None = None,
        input_shape: int | Iterable[int] | None = None,
        name: str | None = None,
        seed: int | None = None,
    ) -> None:
        Trainable.__init__(self, name, seed)
        self._stack: list[Layer] = []
        self._entry: InputLayer | None = None
        given = list(layers or ())
        if input_shape is not None:
            if given and isinstance(given[0], (SymbolicTensor, InputLayer)):
                raise ValueError("give input_shape or begin with Input(), not both")
            self._entry = InputLayer(input_shape)
        for layer in given:
            self._append(layer)
        self._rebuild()

    def _append(self, layer: Layer | SymbolicTensor) -> None:
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
        if not isinstance(layer, Layer):
            raise TypeError(f"a Sequential takes layers, got {layer!r}")
        taken = layer.owner not in (None, self) or layer._tensor is not None
        if taken or any(layer is other for other in self._stack):
            raise ValueError(
                f"layer {layer.name!r} is used already, and parameters are not shared between "
                "places or models; make another layer"
            )
        self._stack.append(layer)

    def _rebuild(self) -> None:
        if self._entry is None:
            return
        entry = tensor = SymbolicTensor(self._entry, [], self._entry.shape)
        for layer in self._stack:
            tensor = layer.connect([tensor])
        self._set_graph([entry], [tensor])

    def _check_open(self, what: str) -> None:
        if self._seen:
            raise ValueError(
                f"{what}() after the weights were made is not possible; make a new Sequential"
            )

    def add(self, layer: Layer | SymbolicTensor) -> None:
        """Append a layer.

        Examples
        --------
        >>> import fusednn
        >>> model = fusednn.Sequential()
        >>> model.add(fusednn.layers.Input((4,)))
        >>> model.add(fusednn.layers.Dense(2))
        >>> model.output_shape
        (None, 2)
        """
        self._check_open("add")
        stack, entry = list(self._stack), self._entry
        self._append(layer)
        try:
            self._rebuild()
        except (TypeError, ValueError):
            self._stack, self._entry = stack, entry
            raise

    def pop(self) -> Layer:
        """Remove the last layer and return it."""
        self._check_open("pop")
        if not self._stack:
            raise ValueError("there is no layer to remove")
        layer = self._stack.pop()
        layer._model = None
        self._rebuild()
        return layer

    @property
    def layers(self) -> list[Layer]:
        """The layers in order, without the input."""
        return list(self._stack)

    def _build_for(self, x: object) -> Callable[[], None]:
        if self._graph is not None:
            return lambda: None

        def forget() -> None:
            self._entry = self._graph = self._engine = None
            self._parameters, self._seen = [], False

        try:
            self._entry = InputLayer(single_input(x).shape[1:] or (1,))
            self._rebuild()
        except BaseException:
            forget()
            raise
        return forget

    def get_config(self) -> dict[str, Any]:
        chain = [*([self._entry] if self._entry is not None else []), *self._stack]
        return {"name": self.name, "layers": [layer_module.serialize(layer) for layer in chain]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Sequential:
        chain = [layer_module.deserialize(entry) for entry in config["layers"]]
        return cls(chain, name=config.get("name"))


def _tensors(argument: str, given: object) -> list[SymbolicTensor]:
    tensors = list(given) if isinstance(given, (list, tuple)) else [given]
    for tensor in tensors:
        if not isinstance(tensor, SymbolicTensor):
            raise TypeError(
                f"{argument} must be what Input() and layers return, got {type(tensor).__name__}"
            )
    if not tensors:
        raise ValueError(f"{argument} is empty")
    return tensors  # type: ignore[return-value]
