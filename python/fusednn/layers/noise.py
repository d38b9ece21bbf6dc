# SPDX-License-Identifier: Apache-2.0
"""Noise while training, beside Dropout. None of these layers does anything in `predict`.

What is drawn is a function of the model's seed, the layer's place and the training step.
"""

from __future__ import annotations

from typing import Any

from fusednn.errors import check_number, helpful_keywords
from fusednn.layers.base import Layer


class GaussianNoise(Layer):
    """While training, adds ``stddev * n`` with n of the standard normal distribution.

    Parameters
    ----------
    stddev : float
        At least 0.

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.GaussianNoise(0.1).stddev
    0.1
    """

    @helpful_keywords
    def __init__(self, stddev: float, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(name, trainable)
        self.stddev = check_number("stddev", stddev, 0)

    def get_config(self) -> dict[str, Any]:
        return {"stddev": self.stddev, **super().get_config()}

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [("", "gaussian_noise", {"stddev": self.stddev})]


class _WithRate(Layer):
    """A layer with the noise that dropout of a rate has."""

    _kind: str

    @helpful_keywords
    def __init__(self, rate: float, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(name, trainable)
        self.rate = check_number("rate", rate, 0, 1, open_high=True)

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, **super().get_config()}

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [("", self._kind, {"rate": self.rate})]


class GaussianDropout(_WithRate):
    """While training, multiplies by ``1 + sqrt(rate / (1 - rate)) * n`` with n standard normal.

    Mean and variance are those of Dropout with the same rate. (Srivastava et al., 2014.)

    Parameters
    ----------
    rate : float
        In [0, 1).

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.GaussianDropout(0.2).rate
    0.2
    """

    _kind = "gaussian_dropout"


class AlphaDropout(_WithRate):
    """Dropout for SELU networks: values of mean 0 and variance 1 keep both.

    While training a share of the values becomes SELU's lowest value, ``-1.7581``; all values then
    go through the line that restores mean and variance. (Klambauer et al., 2017.)

    Parameters
    ----------
    rate : float
        Probability that a value is dropped, in [0, 1).

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.AlphaDropout(0.1).rate
    0.1
    """

    _kind = "alpha_dropout"
