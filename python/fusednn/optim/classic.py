# SPDX-License-Identifier: Apache-2.0
"""Gradient descent with momentum, and the optimizers with a step size for each number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fusednn.optim import rules
from fusednn.optim.base import Array, Common, Group, Optimizer
from fusednn.optim.rules import declared

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SGD(Optimizer):
    """``p -= lr * b`` with ``b = momentum * b + (1 - dampening) * g``, at first ``b = g``.

    `nesterov` takes ``g + momentum * b`` in the place of b (Sutskever et al., 2013). Keras has the
    learning rate inside the buffer instead.

    Parameters
    ----------
    params, **common
        See the module.
    lr : float
    momentum : float
    dampening : float
    weight_decay : float
        ``g += weight_decay * p``.
    nesterov : bool
        Needs a momentum and no dampening.

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn.optim import SGD
    >>> w, dw = np.array([1.0, 2.0]), np.array([0.5, -0.5])
    >>> opt = SGD([w], lr=1.0, momentum=0.5)
    >>> opt.step([dw])
    >>> opt.step([dw])
    >>> w
    array([-0.25,  3.25])
    """

    _rule = staticmethod(rules.sgd)

    @declared
    def __init__(
        self,
        params: Iterable[Array] | Iterable[Group],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **common: Unpack[Common],
    ) -> None: ...

    def _check(self, group: Group) -> None:
        super()._check(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("nesterov=True needs a momentum above 0 and dampening=0")


class Adagrad(Optimizer):
    """``s += g^2``, ``p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)``.

    Duchi, Hazan and Singer, 2011. Keras adds eps inside the root and starts s at 0.1.

    Parameters
    ----------
    params, **common
        See the module.
    lr : float
    lr_decay : float
    weight_decay : float
        ``g += weight_decay * p``.
    initial_accumulator_value : float
        What s starts at.
    eps : float

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn.optim import Adagrad
    >>> w = np.array([1.0])
    >>> Adagrad([w], lr=0.5, eps=0.0).step([np.array([3.0])])
    >>> w
    array([0.5])
    """

    _rule = staticmethod(rules.always("adagrad"))

    @declared
    def __init__(
        self,
        params: Iterable[Array] | Iterable[Group],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        **common: Unpack[Common],
    ) -> None: ...


class RMSprop(Optimizer):
    """``v = alpha v + (1 - alpha) g^2``, ``p -= lr * g / (sqrt(v) + eps)``.

    Tieleman and Hinton, 2012. `centered` takes ``v - a^2`` in the place of v, with a the average
    of g (Graves, 2013); where rounding makes that negative PyTorch returns NaN, here it counts as
    0. With `momentum`, ``b = momentum * b + g / (sqrt(v) + eps)`` and ``p -= lr * b``.

    Parameters
    ----------
    params, **common
        See the module.
    lr : float
    alpha : float
    eps : float
    weight_decay : float
        ``g += weight_decay * p``.
    momentum : float
    centered : bool

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn.optim import RMSprop
    >>> w = np.array([1.0])
    >>> RMSprop([w], lr=0.5, alpha=0.75, eps=0.0).step([np.array([3.0])])
    >>> w
    array([0.])
    """

    _rule = staticmethod(rules.rmsprop)

    @declared
    def __init__(
        self,
        params: Iterable[Array] | Iterable[Group],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        **common: Unpack[Common],
    ) -> None: ...


class Adadelta(Optimizer):
    """``p -= lr * d`` with ``d = sqrt(a + eps) / sqrt(v + eps) * g``. Zeiler, 2012.

    ``v = rho v + (1 - rho) g^2`` before, ``a = rho a + (1 - rho) d^2`` after. The paper has no lr,
    which is 1; Keras' default is 0.001.

    Parameters
    ----------
    params, **common
        See the module.
    lr : float
    rho : float
    eps : float
    weight_decay : float
        ``g += weight_decay * p``.

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn.optim import Adadelta
    >>> w = np.array([1.0])
    >>> Adadelta([w], rho=0.75, eps=0.25).step([np.array([2 * 3**0.5])])
    >>> bool(abs(w[0] - (1 - 3**0.5 / 3.25**0.5)) < 1e-12)
    True
    """

    _rule = staticmethod(rules.always("adadelta"))

    @declared
    def __init__(
        self,
        params: Iterable[Array] | Iterable[Group],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        **common: Unpack[Common],
    ) -> None: ...
