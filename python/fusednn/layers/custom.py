# SPDX-License-Identifier: Apache-2.0
"""Layers written in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusednn import initializers
from fusednn.initializers import Initializer
from fusednn.layers.base import Layer, Shape


class CustomLayer(Layer):
    """Base class of layers whose passes are Python functions on NumPy arrays.

    A model with such a layer is computed node by node, which is slower; a warning says so once.
    Models without are not touched by it. ``model.check_gradients(x, y)`` finds mistakes.

    A subclass defines ``forward`` and ``backward``, and ``output_shape`` where it is not that of
    the input. Where it has parameters it defines ``build``.

    Attributes
    ----------
    values, gradients : dict of str to array
        The parameters and where ``backward`` writes their gradients, during a pass.
    added_loss : float
        What ``forward`` wants to add to the loss, as a mean over the batch (a KL divergence, for
        instance); ``backward`` must add its gradient.

    Examples
    --------
    >>> import numpy as np, fusednn
    >>> class Scale(fusednn.layers.CustomLayer):
    ...     def build(self, shapes):
    ...         return {"factor": (shapes[0][-1:], "ones")}
    ...     def forward(self, x, training):
    ...         self.x = x
    ...         return x * self.values["factor"]
    ...     def backward(self, gradient):
    ...         self.gradients["factor"][...] = (gradient * self.x).sum(axis=0)
    ...         return gradient * self.values["factor"]
    >>> import warnings
    >>> warnings.simplefilter("ignore", fusednn.interpreter.engine.SlowPathWarning)
    >>> model = fusednn.Sequential([Scale()], input_shape=(2,))
    >>> model.predict([[1.0, 2.0]]).tolist()
    [[1.0, 2.0]]
    """

    def __init__(self, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(name, trainable)
        self.values: dict[str, np.ndarray] = {}
        self.gradients: dict[str, np.ndarray] = {}
        self.added_loss = 0.0
        self._specs: dict[str, tuple[Shape, Initializer]] = {}

    def build(self, shapes: list[Shape]) -> dict[str, tuple[Sequence[int], Any]]:
        """Return shape and initializer of every parameter by name, given the inputs' shapes."""
        return {}

    def forward(self, *inputs: np.ndarray, training: bool) -> np.ndarray:
        """Return the output for a batch; keep on `self` what ``backward`` needs."""
        raise NotImplementedError(f"{type(self).__name__} must define forward()")

    def backward(self, gradient: np.ndarray) -> np.ndarray | Sequence[np.ndarray]:
        """Return the gradient of the input, or of each, given that of the output.

        It also fills ``self.gradients``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define backward()")

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [("", "python", {"layer": self})]

    def check_inputs(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"layer {self.name!r} takes at least one input")

    def output_shape(self, inputs: list[Shape]) -> Shape:
        return inputs[0]

    def parameter_shapes(self, inputs: list[Shape]) -> dict[str, Shape]:
        """Return the shape of every parameter."""
        self._specs = {
            name: (tuple(int(n) for n in shape), initializers.get(start))
            for name, (shape, start) in self.build(inputs).items()
        }
        return {name: shape for name, (shape, _) in self._specs.items()}

    def initializers(self) -> dict[str, Initializer]:
        return {name: start for name, (_, start) in self._specs.items()}
