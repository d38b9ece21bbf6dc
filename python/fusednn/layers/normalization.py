# SPDX-License-Identifier: Apache-2.0
"""BatchNormalization and LayerNormalization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusednn import initializers
from fusednn.errors import check_flag, check_number, helpful_keywords
from fusednn.initializers import Initializer
from fusednn.layers.base import Layer


class _Normalization(Layer):
    """gamma and beta, which both layers have."""

    _type: str

    def __init__(
        self,
        epsilon: float,
        affine: tuple[bool, bool],
        initial: tuple[str | Mapping | Initializer, str | Mapping | Initializer],
        name: str | None,
        trainable: bool,
    ) -> None:
        super().__init__(name, trainable)
        self.epsilon = check_number("epsilon", epsilon, 0, open_low=True)
        self.center, self.scale = check_flag("center", affine[0]), check_flag("scale", affine[1])
        self.beta_initializer, self.gamma_initializer = map(initializers.get, initial)

    def get_config(self) -> dict[str, Any]:
        return {
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": self.beta_initializer.serialize(),
            "gamma_initializer": self.gamma_initializer.serialize(),
            **super().get_config(),
        }

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        config = {"epsilon": self.epsilon, "center": self.center, "scale": self.scale}
        return [("", self._type, config)]

    def initializers(self) -> dict[str, Initializer]:
        return {"gamma": self.gamma_initializer, "beta": self.beta_initializer}


class BatchNormalization(_Normalization):
    """Normalises every feature over the batch: ``gamma * (x - mean) / sqrt(var + epsilon) + beta``.

    Training uses the mean and the (biased) variance of the batch and moves the running ones,
    ``moving = momentum * moving + (1 - momentum) * batch``; `predict` and `evaluate` use those.

    Parameters
    ----------
    momentum : float
        Share of the old value that the running statistics keep, in [0, 1].
    epsilon : float
        Added to the variance.
    center, scale : bool
        Whether there is a `beta`, a `gamma`.
    beta_initializer, gamma_initializer : str or Initializer
    moving_mean_initializer, moving_variance_initializer : str or Initializer
    unbiased : bool
        Whether the running variance is moved by the unbiased variance of the batch, as in PyTorch.
        False for the biased one, as in Keras.

    Notes
    -----
    Names and defaults are Keras'. PyTorch's ``momentum`` is the share of the *new* value:
    its default of 0.1 is 0.9 here; its epsilon is 1e-5. With
    ``trainable=False`` the layer does in training what it does in `predict`, and its running
    statistics stay, as in Keras. (In PyTorch, parameters without ``requires_grad`` leave the
    module in training mode; ``module.eval()`` is what this is.)

    Examples
    --------
    >>> from fusednn import layers
    >>> like_torch = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    """

    _type = "batch_normalization"

    @helpful_keywords
    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str | Mapping | Initializer = "zeros",
        gamma_initializer: str | Mapping | Initializer = "ones",
        moving_mean_initializer: str | Mapping | Initializer = "zeros",
        moving_variance_initializer: str | Mapping | Initializer = "ones",
        name: str | None = None,
        trainable: bool = True,
        unbiased: bool = True,
    ) -> None:
        initial = (beta_initializer, gamma_initializer)
        super().__init__(epsilon, (center, scale), initial, name, trainable)
        self.momentum = check_number("momentum", momentum, 0, 1)
        self.unbiased = check_flag("unbiased", unbiased)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)

    def get_config(self) -> dict[str, Any]:
        return {
            "momentum": self.momentum,
            "moving_mean_initializer": self.moving_mean_initializer.serialize(),
            "moving_variance_initializer": self.moving_variance_initializer.serialize(),
            "unbiased": self.unbiased,
            **super().get_config(),
        }

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        ((suffix, kind, config),) = super().nodes()
        # The engine's momentum is the share of the new value.
        return [
            (suffix, kind, {**config, "momentum": 1 - self.momentum, "unbiased": self.unbiased})
        ]

    def initializers(self) -> dict[str, Initializer]:
        return {
            **super().initializers(),
            "moving_mean": self.moving_mean_initializer,
            "moving_variance": self.moving_variance_initializer,
        }


class LayerNormalization(_Normalization):
    """Normalises every sample over its last axis; Ba et al., 2016.

    ``gamma * (x - mean) / sqrt(var + epsilon) + beta`` with the biased variance.

    Parameters
    ----------
    epsilon : float
        Added to the variance. Keras' default; PyTorch's is 1e-5.
    center, scale : bool
        Whether there is a `beta`, a `gamma`.
    beta_initializer, gamma_initializer : str or Initializer

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.LayerNormalization()(layers.Input((5, 8))).shape
    (None, 5, 8)
    """

    _type = "layer_normalization"

    @helpful_keywords
    def __init__(
        self,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str | Mapping | Initializer = "zeros",
        gamma_initializer: str | Mapping | Initializer = "ones",
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        initial = (beta_initializer, gamma_initializer)
        super().__init__(epsilon, (center, scale), initial, name, trainable)
