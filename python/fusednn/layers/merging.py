# SPDX-License-Identifier: Apache-2.0
"""Layers of several inputs."""

from __future__ import annotations

from typing import Any

from fusednn.errors import helpful_keywords
from fusednn.layers.base import Layer, Shape


def _shapes(shapes: list[Shape]) -> str:
    return ", ".join(map(str, shapes))


class _Merge(Layer):
    @helpful_keywords
    def __init__(self, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(name, trainable)

    def check_inputs(self, count: int) -> None:
        if count < 2:
            raise ValueError(f"layer {self.name!r} takes at least two inputs, got {count}")


class Add(_Merge):
    """Sum of inputs of the same shape, as in a residual connection.

    Examples
    --------
    >>> from fusednn import layers
    >>> x = layers.Input((8,))
    >>> layers.Add()([x, layers.Dense(8, activation="relu")(x)]).shape
    (None, 8)
    """

    def output_shape(self, inputs: list[Shape]) -> Shape:
        if any(shape != inputs[0] for shape in inputs):
            raise ValueError(f"layer {self.name!r} adds inputs of one shape, got {_shapes(inputs)}")
        return inputs[0]

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [("", "add", {})]


class Concatenate(_Merge):
    """The inputs side by side along the last axis; all other axes must agree.

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.Concatenate()([layers.Input((3,)), layers.Input((5,))]).shape
    (None, 8)
    """

    def output_shape(self, inputs: list[Shape]) -> Shape:
        first = inputs[0]
        if any(shape[:-1] != first[:-1] for shape in inputs):
            raise ValueError(
                f"layer {self.name!r} joins inputs along the last axis, where all other axes "
                f"must agree, got {_shapes(inputs)}"
            )
        return (*first[:-1], sum(shape[-1] for shape in inputs))

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [("", "concatenate", {})]
