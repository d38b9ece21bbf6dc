# SPDX-License-Identifier: Apache-2.0
"""The activations that have layers of their own in Keras, with the slopes they have there."""

from __future__ import annotations

from typing import Any, ClassVar

from fusednn import activations
from fusednn.errors import helpful_keywords
from fusednn.layers.base import Layer
from fusednn.layers.core import Activation


class _Rectifier(Activation):
    """An activation whose parameter is the layer's own argument."""

    _rule: ClassVar[str]
    _parameter: ClassVar[str]

    def __init__(self, value: float, name: str | None, trainable: bool) -> None:
        rule = activations.Activation(self._rule, **{self._parameter: value})
        super().__init__(rule, name, trainable)

    def get_config(self) -> dict[str, Any]:
        value = self.activation.parameters[self._parameter]
        return {self._parameter: value, **Layer.get_config(self)}


class ReLU(Activation):
    """max(x, 0) as a layer.

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.ReLU().activation
    Activation('relu')
    """

    @helpful_keywords
    def __init__(self, name: str | None = None, trainable: bool = True) -> None:
        super().__init__("relu", name, trainable)

    def get_config(self) -> dict[str, Any]:
        return Layer.get_config(self)


class LeakyReLU(_Rectifier):
    """x where it is positive, negative_slope x elsewhere, as a layer.

    Parameters
    ----------
    negative_slope : float
        0.3 as in Keras; the activation by the name "leaky_relu" has 0.01 as in PyTorch.

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.LeakyReLU(0.2).activation
    Activation('leaky_relu', negative_slope=0.2)
    """

    _rule, _parameter = "leaky_relu", "negative_slope"

    @helpful_keywords
    def __init__(
        self, negative_slope: float = 0.3, name: str | None = None, trainable: bool = True
    ) -> None:
        super().__init__(negative_slope, name, trainable)


class ELU(_Rectifier):
    """x where it is positive, alpha (exp(x) - 1) elsewhere, as a layer.

    Parameters
    ----------
    alpha : float

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.ELU(0.5).activation
    Activation('elu', alpha=0.5)
    """

    _rule, _parameter = "elu", "alpha"

    @helpful_keywords
    def __init__(self, alpha: float = 1.0, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(alpha, name, trainable)
