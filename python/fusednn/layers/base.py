# SPDX-License-Identifier: Apache-2.0
"""What all layers share, and the symbolic tensors that connect them."""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fusednn.constraints import Constraint
from fusednn.errors import check_flag, check_number
from fusednn.initializers import Initializer
from fusednn.regularizers import L1L2

if TYPE_CHECKING:
    from fusednn.models import Model

Shape = tuple[int, ...]  # of one sample, without the batch axis


class SymbolicTensor:
    """The output of a layer before there are numbers: what the functional API passes around.

    Attributes
    ----------
    layer : Layer
        The layer that makes it.
    inputs : list of SymbolicTensor
        What that layer was called on.
    shape : tuple
        Its shape, with None for the batch axis.
    """

    __slots__ = ("inputs", "layer", "sample_shape")

    def __init__(self, layer: Layer, inputs: list[SymbolicTensor], sample_shape: Shape) -> None:
        self.layer = layer
        self.inputs = inputs
        self.sample_shape = sample_shape

    @property
    def shape(self) -> tuple[int | None, ...]:
        return (None, *self.sample_shape)

    def __repr__(self) -> str:
        return f"<SymbolicTensor of layer {self.layer.name!r}, shape {self.shape}>"

    def __array__(self, *args: object, **kwargs: object) -> np.ndarray:
        raise TypeError(
            f"the output of layer {self.layer.name!r} is symbolic and has no values; "
            "make a Model and call predict()"
        )


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class Layer:
    """Base class of all layers.

    A layer says how it is lowered to nodes of the compiled engine, which does all the work.

    Attributes
    ----------
    name : str
        Unique in its model. Without a name of its own a layer is called after its class, with a
        number where the model has several of them.
    trainable : bool
        Whether its parameters learn. May be changed at any time.
    learning_rate_multiplier : float
        Factor of the optimizer's learning rate for its parameters, 1 by default. Counts as it is
        in ``compile``.
    """

    def __init__(self, name: str | None = None, trainable: bool = True) -> None:
        if name is not None:
            if not isinstance(name, str):
                raise TypeError(f"name must be a string, got {name!r}")
            if not name or "/" in name:
                raise ValueError(f"name must be a string without '/', not empty, got {name!r}")
        self._given_name = name
        self._assigned_name: str | None = None
        self._trainable = check_flag("trainable", trainable)
        self._rate_multiplier = 1.0
        self._tensor: SymbolicTensor | None = None
        self._model: weakref.ref[Model] | None = None

    # ---- identity ----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._given_name or self._assigned_name or _snake_case(type(self).__name__)

    @property
    def owner(self) -> Model | None:
        """The model that the layer belongs to, or None."""
        return self._model() if self._model is not None else None

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = check_flag("trainable", value)
        if (model := self.owner) is not None:
            model._freeze(self)

    @property
    def learning_rate_multiplier(self) -> float:
        return self._rate_multiplier

    @learning_rate_multiplier.setter
    def learning_rate_multiplier(self, value: float) -> None:
        self._rate_multiplier = check_number("learning_rate_multiplier", value, 0)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make the same layer, as plain values."""
        config: dict[str, Any] = {"name": self.name, "trainable": self.trainable}
        if self._rate_multiplier != 1:
            config["learning_rate_multiplier"] = self._rate_multiplier
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Make a layer of what ``get_config`` returned. It has no weights yet.

        Examples
        --------
        >>> from fusednn import layers
        >>> layers.Dense.from_config(layers.Dense(3).get_config()).units
        3
        """
        arguments = dict(config)
        multiplier = arguments.pop("learning_rate_multiplier", 1.0)
        layer = cls(**arguments)
        layer.learning_rate_multiplier = multiplier
        return layer

    def __repr__(self) -> str:
        names = (name for name in self.get_config() if name != "trainable")
        arguments = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({arguments})"

    # ---- what a subclass says ------------------------------------------------------------------

    def output_shape(self, inputs: list[Shape]) -> Shape:
        """Return the shape of one output sample; ValueError where the inputs do not fit."""
        (shape,) = inputs
        return shape

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return the chain of engine nodes that the layer stands for: suffix, type, config.

        The first has the layer's name (its suffix is empty) and takes the layer's inputs.
        """
        raise NotImplementedError(f"{type(self).__name__} must define nodes()")

    def penalties(self) -> dict[str, L1L2 | None]:
        """Return a regulariser or None for parameters that can have one, by name."""
        return {}

    def activity(self) -> L1L2 | None:
        """Return the regulariser of the outputs, or None."""
        return None

    def bounds(self) -> dict[str, Constraint | None]:
        """Return a constraint or None for parameters that can have one, by name."""
        return {}

    def initializers(self) -> dict[str, Initializer]:
        """Return an initializer for every parameter, by name."""
        return {}

    def check_inputs(self, count: int) -> None:
        """Raise ValueError unless the layer takes this many inputs."""
        if count != 1:
            raise ValueError(f"layer {self.name!r} takes one input, got {count}")

    # ---- connecting ----------------------------------------------------------------------------

    def __call__(self, inputs: SymbolicTensor | Sequence[SymbolicTensor]) -> SymbolicTensor:
        """Connect the layer to the outputs of others and return its own output.

        A layer that belongs to a model may be called again: a second model then borrows it, and
        both have the same weights. See `fusednn.Model`.

        Examples
        --------
        >>> from fusednn import layers
        >>> layers.Dense(8)(layers.Input((3,))).shape
        (None, 8)
        """
        given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        tensors: list[SymbolicTensor] = []
        for tensor in given:
            if isinstance(tensor, SymbolicTensor):
                tensors.append(tensor)
            else:
                raise TypeError(
                    f"layer {self.name!r} is called on outputs of other layers, got "
                    f"{type(tensor).__name__}; arrays go to Model.predict()"
                )
        if self.owner is not None:  # another model borrows it
            return self.connect(tensors)
        if self._tensor is not None:
            raise ValueError(
                f"layer {self.name!r} is used already, and parameters are not shared between "
                "places of a graph; make another layer, or one model with several outputs"
            )
        self._tensor = self.connect(tensors)
        return self._tensor

    def connect(self, tensors: list[SymbolicTensor]) -> SymbolicTensor:
        """Return the output on these inputs, without remembering it."""
        self.check_inputs(len(tensors))
        return SymbolicTensor(self, tensors, self.output_shape([t.sample_shape for t in tensors]))

    @property
    def output(self) -> SymbolicTensor:
        """What the layer returned in its model, for instance to make another model that ends here.

        Examples
        --------
        >>> import fusednn
        >>> model = fusednn.Sequential(
        ...     [fusednn.layers.Dense(8, name="features"), fusednn.layers.Dense(2)],
        ...     input_shape=(4,),
        ... )
        >>> look = fusednn.Model(model.inputs, model.get_layer("features").output)
        >>> look.output_shape
        (None, 8)
        """
        owner = self.owner
        tensor = self._tensor if owner is None else owner._require_graph().tensor_of(self)
        if tensor is None:
            raise ValueError(f"layer {self.name!r} has no output yet: it was never called")
        return tensor

    @property
    def input(self) -> SymbolicTensor | list[SymbolicTensor]:
        """What the layer was called on in its model."""
        inputs = self.output.inputs
        return inputs[0] if len(inputs) == 1 else list(inputs)

    # ---- weights -------------------------------------------------------------------------------

    def _require_model(self) -> Model:
        model = self.owner
        if model is None:
            raise ValueError(
                f"layer {self.name!r} has no weights yet: it gets them from the model it is in"
            )
        return model

    @property
    def weights(self) -> list[np.ndarray]:
        """The parameters themselves (no copies): writing to these arrays changes the model."""
        return self._require_model()._weights_of(self)

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of the parameters."""
        return [w.copy() for w in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replace the parameters by arrays of the same shapes."""
        self._require_model()._assign(self.name, self.weights, weights)

    def count_params(self) -> int:
        """Return the number of values in all parameters."""
        return sum(w.size for w in self._require_model()._views_of(self))
