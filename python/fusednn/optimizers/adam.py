# SPDX-License-Identifier: Apache-2.0
"""Adam and its relatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from fusednn.optimizers.base import Common, Optimizer

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _Betas(Optimizer):
    """learning_rate, beta_1, beta_2, epsilon."""

    _defaults: ClassVar[Mapping[str, Mapping[str, float]]] = {"keras": {"epsilon": 1e-7}}

    def __init__(
        self,
        learning_rate: float | None = None,
        beta_1: float | None = None,
        beta_2: float | None = None,
        epsilon: float | None = None,
        **common: Unpack[Common],
    ) -> None:
        hyper = {
            "learning_rate": learning_rate,
            "beta_1": beta_1,
            "beta_2": beta_2,
            "epsilon": epsilon,
        }
        super().__init__(hyper, common)


class Adam(Optimizer):
    """``w -= lr * m^ / (sqrt(v^) + eps)``. Kingma and Ba, 2015.

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``; m^ and v^ are m and v over
    ``1 - b1^t`` and ``1 - b2^t``. keras adds eps to sqrt(v) before the correction of v.
    `amsgrad` uses the greatest v so far (Reddi et al., 2018).

    Parameters
    ----------
    learning_rate : float, optional
        Default 0.001.
    beta_1, beta_2 : float, optional
        Default 0.9 and 0.999.
    epsilon : float, optional
        Default 1e-8 (torch, textbook), 1e-7 (keras).
    amsgrad : bool
    **common
        See the module. torch couples the weight decay; `AdamW` decouples it.

    Examples
    --------
    >>> from fusednn import optimizers
    >>> optimizers.Adam(1e-3, beta_2=0.99, clipnorm=1.0)
    Adam(learning_rate=0.001, beta_2=0.99, clipnorm=1.0)
    """

    _defaults: ClassVar = {"keras": {"epsilon": 1e-7}}
    _flags = ("amsgrad",)

    def __init__(
        self,
        learning_rate: float | None = None,
        beta_1: float | None = None,
        beta_2: float | None = None,
        epsilon: float | None = None,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None:
        hyper = {
            "learning_rate": learning_rate,
            "beta_1": beta_1,
            "beta_2": beta_2,
            "epsilon": epsilon,
            "amsgrad": amsgrad,
        }
        super().__init__(hyper, common)

    def _rule(self) -> str:
        return "amsgrad" if self._hyper["amsgrad"] else "adam"


class AdamW(Adam):
    """`Adam` with decoupled weight decay. Loshchilov and Hutter, 2019.

    `weight_decay` is 0.01 by default (torch, textbook), 0.004 in the keras convention.
    """

    _weight_decay: ClassVar = {"torch": 1e-2, "keras": 4e-3, "textbook": 1e-2}
    _always_decoupled = True


class Adamax(_Betas):
    """``w -= lr / (1 - b1^t) * m / u`` with ``u = max(b2 u, |g|)``. Kingma and Ba, 2015.

    torch adds eps to ``|g|``, keras to u, textbook nowhere.

    Parameters
    ----------
    learning_rate : float, optional
        Default 0.002 (torch, textbook), 0.001 (keras).
    beta_1, beta_2, epsilon : float, optional
        Default 0.9, 0.999, 1e-8 (keras 1e-7).
    **common
        See the module.
    """

    _defaults: ClassVar = {"keras": {"learning_rate": 1e-3, "epsilon": 1e-7}}


class Nadam(Optimizer):
    """`Adam` with Nesterov's momentum. Dozat, 2016.

    Momentum ``mu_t = b1 * (1 - 0.96^(t * momentum_decay) / 2)``; the step takes
    ``mu_(t+1) m / (1 - prod mu_(t+1)) + (1 - mu_t) g / (1 - prod mu_t)`` in the place of m^.
    textbook has no schedule: ``(b1 m + (1 - b1) g) / (1 - b1^t)``.

    Parameters
    ----------
    learning_rate : float, optional
        Default 0.002 (torch, textbook), 0.001 (keras).
    beta_1, beta_2, epsilon : float, optional
        Default 0.9, 0.999, 1e-8 (keras 1e-7).
    momentum_decay : float, optional
        Default 0.004 (torch); keras has always 1.
    **common
        See the module.
    """

    _defaults: ClassVar = {"keras": {"learning_rate": 1e-3, "epsilon": 1e-7}}

    def __init__(
        self,
        learning_rate: float | None = None,
        beta_1: float | None = None,
        beta_2: float | None = None,
        epsilon: float | None = None,
        momentum_decay: float | None = None,
        **common: Unpack[Common],
    ) -> None:
        hyper = {
            "learning_rate": learning_rate,
            "beta_1": beta_1,
            "beta_2": beta_2,
            "epsilon": epsilon,
            "momentum_decay": momentum_decay,
        }
        super().__init__(hyper, common)

    def _finish(self, spec: dict[str, Any]) -> dict[str, Any]:
        if spec["convention"] != "torch" and self._hyper["momentum_decay"] is not None:
            raise ValueError(
                f"momentum_decay={self._hyper['momentum_decay']!r} needs convention='torch', "
                f"got {spec['convention']!r}"
            )
        return spec


class RAdam(_Betas):
    """`Adam` that waits with scaling until the variance is tractable. Liu et al., 2020.

    With ``r = 2 / (1 - b2) - 1`` and ``r_t = r - 2 t b2^t / (1 - b2^t)``, the step is
    ``lr * m^`` while ``r_t <= 5`` and ``lr * m^ * c_t / (sqrt(v^) + eps)`` after. Keras has none.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon : float, optional
        Default 0.001, 0.9, 0.999, 1e-8.
    **common
        See the module.
    """

    _conventions = ("torch", "textbook")


class Lion(Optimizer):
    """``w -= lr * sign(b1 m + (1 - b1) g)``; ``m = b2 m + (1 - b2) g``. Chen et al., 2023.

    PyTorch has none; the weight decay is decoupled in every convention.

    Parameters
    ----------
    learning_rate : float, optional
        Default 0.0001 (the paper's), 0.001 (keras).
    beta_1, beta_2 : float, optional
        Default 0.9 and 0.99.
    **common
        See the module.
    """

    _defaults: ClassVar = {"keras": {"learning_rate": 1e-3}}
    _always_decoupled = True

    def __init__(
        self,
        learning_rate: float | None = None,
        beta_1: float | None = None,
        beta_2: float | None = None,
        **common: Unpack[Common],
    ) -> None:
        hyper = {"learning_rate": learning_rate, "beta_1": beta_1, "beta_2": beta_2}
        super().__init__(hyper, common)


class Lamb(_Betas):
    """Adam's step u, scaled to the length of each parameter. You et al., 2020.

    ``w -= lr * |w| / |u| * u`` with ``u = m^ / (sqrt(v^) + eps) + weight_decay * w``; the
    quotient is 1 where a length is 0. keras decays the weights before and leaves them out of u.

    Parameters
    ----------
    learning_rate, beta_1, beta_2 : float, optional
        Default 0.001, 0.9, 0.999.
    epsilon : float, optional
        Default 1e-6 (torch, textbook), 1e-7 (keras).
    **common
        See the module.
    """

    def _finish(self, spec: dict[str, Any]) -> dict[str, Any]:
        if not spec["decoupled"]:
            # The decay belongs to the rule: it counts in the length of the step.
            hyper = {**spec["hyper"], "weight_decay": spec["weight_decay"]}
            return {**spec, "hyper": hyper, "weight_decay": 0.0}
        return spec
