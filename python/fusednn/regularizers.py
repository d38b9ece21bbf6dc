# SPDX-License-Identifier: Apache-2.0
"""Regularisation of weights, under Keras' names and with Keras' factors.

What a regulariser gives is part of the loss that is minimised and reported, in training and in
evaluation. PyTorch's ``weight_decay=d`` of an optimizer adds ``d * w`` to the gradient, which is
``L2(d / 2)``, and reports nothing. Where gradients are clipped, it is the sum of
both that is clipped, as in Keras; an optimizer's weight decay joins afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping

from fusednn.errors import check_number, helpful_keywords, unknown_choice


class L1L2:
    """``l1 * sum(|w|) + l2 * sum(w²)`` joins the loss.

    Parameters
    ----------
    l1, l2 : float
        At least 0.

    Examples
    --------
    >>> import fusednn
    >>> layer = fusednn.layers.Dense(4, kernel_regularizer=fusednn.regularizers.L1L2(1e-5, 1e-4))
    >>> layer.kernel_regularizer.l2
    0.0001
    """

    _arguments: tuple[str, ...] = ("l1", "l2")

    @helpful_keywords
    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1 = check_number("l1", l1, 0)
        self.l2 = check_number("l2", l2, 0)

    def terms(self) -> dict[str, float]:
        """Return what the engine is told: l1 and l2 of ``l1 |w| + l2 w² / 2``."""
        return {"l1": self.l1, "l2": 2 * self.l2}

    def get_config(self) -> dict[str, float]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in self._arguments}

    def serialize(self) -> dict:
        """Return what ``get`` makes the same regulariser of."""
        return {"class_name": type(self).__name__, "config": self.get_config()}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class L1(L1L2):
    """``l1 * sum(|w|)`` joins the loss. (Lasso; many weights become small.)"""

    _arguments = ("l1",)

    @helpful_keywords
    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1, 0.0)


class L2(L1L2):
    """``l2 * sum(w²)`` joins the loss. (Ridge.)"""

    _arguments = ("l2",)

    @helpful_keywords
    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(0.0, l2)


_CLASSES = {"L1": L1, "L2": L2, "L1L2": L1L2}
_NAMES = {"l1": L1, "l2": L2, "l1_l2": lambda: L1L2(0.01, 0.01)}


def serialize(regularizer: L1L2 | None) -> dict | None:
    """Return what ``get`` makes the same regulariser of."""
    return None if regularizer is None else regularizer.serialize()


def get(regularizer: object) -> L1L2 | None:
    """Return a regulariser by name, from a configuration, or as it is; None stays None.

    Parameters
    ----------
    regularizer : str, dict, regulariser or None
        "l1", "l2" or "l1_l2", each with factors of 0.01, as in Keras.

    Examples
    --------
    >>> from fusednn import regularizers
    >>> regularizers.get("l2")
    L2(l2=0.01)
    """
    if regularizer is None or isinstance(regularizer, L1L2):
        return regularizer
    if isinstance(regularizer, Mapping):
        name = regularizer.get("class_name")
        if name not in _CLASSES:
            raise unknown_choice("regularizer", name, _CLASSES)
        return _CLASSES[name](**regularizer.get("config", {}))
    if isinstance(regularizer, str):
        if regularizer.lower() not in _NAMES:
            raise unknown_choice("regularizer", regularizer, _NAMES)
        return _NAMES[regularizer.lower()]()
    raise TypeError(
        "regularizer must be a name, a fusednn.regularizers.L1L2 or None, got "
        f"{type(regularizer).__name__}"
    )
