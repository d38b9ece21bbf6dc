# SPDX-License-Identifier: Apache-2.0
"""Adam and its relatives, Lion and LAMB over lists of arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fusednn.optim import rules
from fusednn.optim.base import Array, Common, Group, Optimizer
from fusednn.optim.rules import declared

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Adam(Optimizer):
    """``p -= lr * m^ / (sqrt(v^) + eps)``. Kingma and Ba, 2015.

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``; m^ and v^ are m and v over
    ``1 - b1^t`` and ``1 - b2^t``. `amsgrad` uses the greatest v so far (Reddi et al., 2018).

    Parameters
    ----------
    params, **common
        See the module.
    lr : float
    betas : (float, float)
    eps : float
    weight_decay : float
        Added to the gradient, ``g += weight_decay * p``; with `decoupled_weight_decay` the
        parameters shrink instead, ``p -= lr * weight_decay * p``.
    amsgrad : bool
    decoupled_weight_decay : bool

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn.optim import Adam
    >>> w = np.array([1.0, 2.0])
    >>> opt = Adam([w], lr=0.5, eps=0.0)
    >>> opt.step([np.array([3.0, -4.0])])
    >>> w
    array([0.5, 2.5])
    """

    _rule = staticmethod(rules.adam)

    @declared
    def __init__(
        self,
        params: Iterable[Array] | Iterable[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        decoupled_weight_decay: bool = False,
        **common: Unpack[Common],
    ) -> None: ...


class AdamW(Adam):
    """`Adam` with decoupled weight decay, 0.01 by default. Loshchilov and Hutter, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn.optim import AdamW
    >>> w = np.array([1.0])
    >>> AdamW([w], lr=0.5, weight_decay=0.2, eps=0.0).step([np.array([3.0])])
    >>> w
    array([0.4])
    """

    @declared
    def __init__(
        self,
        params: Iterable[Array] | Iterable[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None: ...

    def _construct(self, params: Any, options: Group, common: Common) -> None:
        super()._construct(params, {**options, "decoupled_weight_decay": True}, common)


class Adamax(Optimizer):
    """``p -= lr / (1 - b1^t) * m / u`` with ``u = max(b2 u, |g| + eps)``. Kingma and Ba, 2015.

    Parameters
    ----------
    params, **common
        See the module.
    lr : float
    betas : (float, float)
    eps : float
    weight_decay : float
        ``g += weight_decay * p``.

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn.optim import Adamax
    >>> w = np.array([1.0, 2.0])
    >>> Adamax([w], lr=0.5, eps=0.0).step([np.array([3.0, -4.0])])
    >>> w
    array([0.5, 2.5])
    """

    _rule = staticmethod(rules.always("adamax"))

    @declared
    def __init__(
        self,
        params: Iterable[Array] | Iterable[Group],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **common: Unpack[Common],
    ) -> None: ...


class NAdam(Optimizer):
    """`Adam` with Nesterov's momentum. Dozat, 2016.

    With ``mu_t = b1 * (1 - 0.96^(t * momentum_decay) / 2)`` the step takes
    ``mu_(t+1) m / (1 - prod mu_(t+1)) + (1 - mu_t) g / (1 - prod mu_t)`` in the place of m^.

    Parameters
    ----------
    params, **common
        See the module.
    lr : float
    betas : (float, float)
    eps : float
    weight_decay : float
        As in `Adam`.
    momentum_decay : float
    decoupled_weight_decay : bool

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn.optim import NAdam
    >>> w = np.array([1.0])
    >>> opt = NAdam([w], lr=0.1)
    >>> opt.step([np.array([3.0])])
    >>> bool(w[0] < 1)
    True
    """

    _rule = staticmethod(rules.always("nadam"))

    @declared
    def __init__(
        self,
        params: Iterable[Array] | Iterable[Group],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        **common: Unpack[Common],
    ) -> None: ...


class RAdam(Optimizer):
    """`Adam` whose first steps, where v is not yet to be trusted, are plain momentum.

    Liu et al., 2020. With ``rho = 2 / (1 - b2) - 1`` and
    ``rho_t = rho - 2 t b2^t / (1 - b2^t)``: where ``rho_t > 5``, Adam's step times
    ``sqrt((rho_t - 4)(rho_t - 2) rho / ((rho - 4)(rho - 2) rho_t))`` with eps added to the root of
    v before its bias is corrected, else ``p -= lr * m^``.

    Parameters
    ----------
    params, **common
        See the module.
    lr : float
    betas : (float, float)
    eps : float
    weight_decay : float
        As in `Adam`.
    decoupled_weight_decay : bool

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn.optim import RAdam
    >>> w = np.array([1.0])
    >>> RAdam([w], lr=0.5).step([np.array([3.0])])
    >>> w
    array([-0.5])
    """

    _rule = staticmethod(rules.always("radam"))

    @declared
    def __init__(
        self,
        params: Iterable[Array] | Iterable[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        **common: Unpack[Common],
    ) -> None: ...


class Lion(Optimizer):
    """``p -= lr * sign(b1 m + (1 - b1) g)``, then ``m = b2 m + (1 - b2) g``. Chen et al., 2023.

    PyTorch has no Lion; names and defaults are those of the paper's code.

    Parameters
    ----------
    params, **common
        See the module.
    lr : float
    betas : (float, float)
    weight_decay : float
        Decoupled: ``p -= lr * weight_decay * p`` before the step.

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn.optim import Lion
    >>> w = np.array([1.0, 2.0])
    >>> Lion([w], lr=0.5).step([np.array([3.0, -4.0])])
    >>> w
    array([0.5, 2.5])
    """

    _rule = staticmethod(rules.always("lion"))

    @declared
    def __init__(
        self,
        params: Iterable[Array] | Iterable[Group],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        **common: Unpack[Common],
    ) -> None: ...


class LAMB(Optimizer):
    """``p -= lr * |p| / |u| * u`` with ``u = m^ / (sqrt(v^) + eps) + weight_decay * p``.

    You et al., 2020. m^ and v^ are those of `Adam`; the norms are of each array alone, and where
    one is 0 the ratio counts as 1. PyTorch has no LAMB.

    Parameters
    ----------
    params, **common
        See the module.
    lr : float
    betas : (float, float)
    eps : float
    weight_decay : float

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn.optim import LAMB
    >>> w = np.array([2.0, 2.0])
    >>> LAMB([w], lr=0.5, eps=0.0).step([np.array([3.0, -4.0])])
    >>> w
    array([1., 3.])
    """

    _rule = staticmethod(rules.always("lamb"))

    @declared
    def __init__(
        self,
        params: Iterable[Array] | Iterable[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        **common: Unpack[Common],
    ) -> None: ...
