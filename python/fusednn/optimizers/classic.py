# SPDX-License-Identifier: Apache-2.0
"""Gradient descent with momentum, and the methods that scale each weight by its gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fusednn.optimizers.base import Common, Optimizer

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SGD(Optimizer):
    """Gradient descent, with momentum or Nesterov's momentum.

    Without momentum ``w -= lr * g``. With momentum b and dampening d:

    - torch: ``v = b v + (1 - d) g`` (first step ``v = g``), then ``w -= lr * v`` or, Nesterov,
      ``w -= lr * (g + b v)``;
    - keras: ``v = b v - lr * g``, then ``w += v`` or, Nesterov, ``w += b v - lr * g``; the rate
      stands inside the buffer, which differs from torch only when it changes;
    - textbook: ``v = b v + (1 - b) g`` and ``w -= lr * v`` (Polyak, 1964, as an average); Nesterov
      as torch: w is then the point ahead, at which the paper takes the gradient.

    Parameters
    ----------
    learning_rate : float, optional
        Default 0.001 (torch), 0.01 (keras, textbook).
    momentum : float
    nesterov : bool
        Needs a momentum and no dampening.
    dampening : float
        Only in the torch convention.
    **common
        See the module.

    Examples
    --------
    >>> from fusednn import optimizers
    >>> optimizers.SGD(0.1, momentum=0.9, nesterov=True).learning_rate
    0.1
    """

    _defaults: ClassVar = {"keras": {"learning_rate": 0.01}, "textbook": {"learning_rate": 0.01}}
    _flags = ("nesterov",)

    def __init__(
        self,
        learning_rate: float | None = None,
        momentum: float = 0.0,
        nesterov: bool = False,
        dampening: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        hyper = {
            "learning_rate": learning_rate,
            "momentum": momentum,
            "nesterov": nesterov,
            "dampening": dampening,
        }
        super().__init__(hyper, common)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(
                "nesterov=True needs a momentum above 0 and no dampening, "
                f"got momentum={momentum!r}, dampening={dampening!r}"
            )

    def _rule(self) -> str:
        return "momentum" if self._hyper["momentum"] else "sgd"

    def _finish(self, spec: dict[str, Any]) -> dict[str, Any]:
        if spec["convention"] != "torch" and self._hyper["dampening"]:
            raise ValueError(
                f"dampening={self._hyper['dampening']!r} needs convention='torch', "
                f"got {spec['convention']!r}"
            )
        return spec


class Adagrad(Optimizer):
    """``G += g^2``; ``w -= lr * g / (sqrt(G) + eps)``. Duchi et al., 2011.

    keras and textbook put eps inside the root.

    Parameters
    ----------
    learning_rate : float, optional
        Default 0.01 (torch, textbook), 0.001 (keras).
    initial_accumulator_value : float, optional
        G before the first step. Default 0 (torch, textbook), 0.1 (keras).
    epsilon : float, optional
        Default 1e-10 (torch), 1e-7 (keras), 1e-8 (textbook).
    lr_decay : float
        The rate of step t is ``lr / (1 + (t - 1) * lr_decay)``; torch's.
    **common
        See the module.
    """

    _defaults: ClassVar = {
        "keras": {"learning_rate": 1e-3, "initial_accumulator_value": 0.1, "epsilon": 1e-7},
        "textbook": {"epsilon": 1e-8},
    }

    def __init__(
        self,
        learning_rate: float | None = None,
        initial_accumulator_value: float | None = None,
        epsilon: float | None = None,
        lr_decay: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        hyper = {
            "learning_rate": learning_rate,
            "initial_accumulator_value": initial_accumulator_value,
            "epsilon": epsilon,
            "lr_decay": lr_decay,
        }
        super().__init__(hyper, common)


class RMSprop(Optimizer):
    """``v = rho v + (1 - rho) g^2``; ``w -= lr * g / (sqrt(v) + eps)``. Hinton, 2012.

    keras and textbook put eps inside the root. `centered` subtracts the square of the mean
    gradient from v (Graves, 2013). With `momentum` the quotient is collected in a buffer, where
    keras has the rate inside and torch outside.

    Parameters
    ----------
    learning_rate : float, optional
        Default 0.01 (torch), 0.001 (keras, textbook).
    rho : float, optional
        torch calls it alpha. Default 0.99 (torch), 0.9 (keras, textbook).
    momentum : float
    epsilon : float, optional
        Default 1e-8 (torch, textbook), 1e-7 (keras).
    centered : bool
    **common
        See the module.
    """

    _engine_names: ClassVar = {**Optimizer._engine_names, "rho": "alpha"}
    _defaults: ClassVar = {
        "keras": {"learning_rate": 1e-3, "rho": 0.9, "epsilon": 1e-7},
        "textbook": {"learning_rate": 1e-3, "rho": 0.9},
    }
    _flags = ("centered",)

    def __init__(
        self,
        learning_rate: float | None = None,
        rho: float | None = None,
        momentum: float = 0.0,
        epsilon: float | None = None,
        centered: bool = False,
        **common: Unpack[Common],
    ) -> None:
        hyper = {
            "learning_rate": learning_rate,
            "rho": rho,
            "momentum": momentum,
            "epsilon": epsilon,
            "centered": centered,
        }
        super().__init__(hyper, common)

    def _rule(self) -> str:
        centered = "_centered" if self._hyper["centered"] else ""
        momentum = "_momentum" if self._hyper["momentum"] else ""
        return f"rmsprop{centered}{momentum}"


class Adadelta(Optimizer):
    """Step ``d = sqrt(u + eps) / sqrt(v + eps) * g`` with running means; ``w -= lr * d``.

    ``v = rho v + (1 - rho) g^2``, ``u = rho u + (1 - rho) d^2``. Zeiler, 2012.

    Parameters
    ----------
    learning_rate : float, optional
        Default 1.0 (torch, textbook), 0.001 (keras).
    rho : float, optional
        Default 0.9 (torch, textbook), 0.95 (keras).
    epsilon : float, optional
        Default 1e-6 (torch, textbook), 1e-7 (keras).
    **common
        See the module.
    """

    _defaults: ClassVar = {"keras": {"learning_rate": 1e-3, "rho": 0.95, "epsilon": 1e-7}}

    def __init__(
        self,
        learning_rate: float | None = None,
        rho: float | None = None,
        epsilon: float | None = None,
        **common: Unpack[Common],
    ) -> None:
        hyper = {"learning_rate": learning_rate, "rho": rho, "epsilon": epsilon}
        super().__init__(hyper, common)
