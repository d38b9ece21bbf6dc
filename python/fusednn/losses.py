# SPDX-License-Identifier: Apache-2.0
"""Losses under Keras' names.

The loss of a sample is the mean over its elements, except where a formula below is a sum over
classes. `fit` minimises the mean over the samples of a batch; sample and class weights multiply
the loss of a sample and leave the divisor as it is, as in Keras.

Cross-entropies work on logits wherever that is possible, which is faster and cannot overflow:
under an output with the matching activation (softmax, sigmoid) the loss looks at what goes into
that activation, and an output without activation is taken for logits. Only where neither holds
are the outputs taken for probabilities. ``from_logits=True`` or ``False`` settles it by hand.
(Keras takes outputs for probabilities unless told otherwise; PyTorch has one class for each.)

In the formulas x is the output and t the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fusednn.errors import check_flag, check_number, helpful_keywords, unknown_choice
from fusednn.graph import Head


class Resolved(NamedTuple):
    """A loss at an output, in the engine's words: its rule, and the node it looks at."""

    rule: str
    node: str
    parameters: dict[str, float]


class Loss:
    """Base class of all losses.

    Attributes
    ----------
    name : str
        As it is written in ``compile(loss=...)``.
    labels : bool
        Whether a target is one class number per sample.
    target : tuple of float or None
        Interval in which every target must lie, None for any finite value.
    signs : bool
        Whether every target must be an end of that interval.
    in_python : bool
        Whether it is written in Python, see `CustomLoss`.
    """

    in_python: ClassVar[bool] = False

    name: ClassVar[str]
    labels: ClassVar[bool] = False
    target: ClassVar[tuple[float, float] | None] = None
    signs: ClassVar[bool] = False
    _rule: ClassVar[str]
    _arguments: ClassVar[tuple[str, ...]] = ()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in self._arguments}

    def serialize(self) -> dict[str, Any]:
        """Return what ``get`` makes the same loss of."""
        return {"class_name": type(self).__name__, "config": self.get_config()}

    def resolve(self, head: Head) -> Resolved:
        """Return rule, node and parameters for an output; ValueError where they do not fit."""
        return Resolved(self._rule, head.node, self._parameters())

    def _parameters(self) -> dict[str, float]:
        return {}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class MeanSquaredError(Loss):
    """``(x - t)^2``. scikit-learn reports half of it."""

    name = "mean_squared_error"
    _rule = "mse"


class MeanAbsoluteError(Loss):
    """``|x - t|``."""

    name = "mean_absolute_error"
    _rule = "mae"


class Huber(Loss):
    """``(x - t)^2 / 2`` up to ``|x - t| = delta``, beyond it ``delta * (|x - t| - delta / 2)``.

    Parameters
    ----------
    delta : float
        PyTorch's SmoothL1Loss(beta) is this divided by delta = beta.

    Examples
    --------
    >>> from fusednn import losses
    >>> losses.Huber(delta=2.0)
    Huber(delta=2.0)
    """

    name = "huber"
    _rule = "huber"
    _arguments = ("delta",)

    @helpful_keywords
    def __init__(self, delta: float = 1.0) -> None:
        self.delta = check_number("delta", delta, 0, open_low=True)

    def _parameters(self) -> dict[str, float]:
        return {"delta": self.delta}


class LogCosh(Loss):
    """``log(cosh(x - t))``: like half the square near 0, like the absolute value far away."""

    name = "log_cosh"
    _rule = "log_cosh"


class Quantile(Loss):
    """``max(q (t - x), (q - 1) (t - x))``: the minimiser is the q-quantile of the target.

    Parameters
    ----------
    quantile : float
        q in (0, 1); 0.5 is half the absolute error. Also called pinball loss.
    """

    name = "quantile"
    _rule = "quantile"
    _arguments = ("quantile",)

    @helpful_keywords
    def __init__(self, quantile: float = 0.5) -> None:
        self.quantile = check_number("quantile", quantile, 0, 1, open_low=True, open_high=True)

    def _parameters(self) -> dict[str, float]:
        return {"quantile": self.quantile}


class Poisson(Loss):
    """``x - t log(x + 1e-7)`` for a rate x > 0; targets are counts, at least 0.

    Under an output with activation "exponential" it is computed from what goes into the
    exponential: ``exp(z) - t z``.
    """

    name = "poisson"
    target = (0.0, math.inf)
    _rule = "poisson"

    def resolve(self, head: Head) -> Resolved:
        if head.kind == "exponential":
            return Resolved("poisson_log", head.before, {})
        return super().resolve(head)


class Hinge(Loss):
    """``max(0, 1 - t x)``; targets are -1 and 1. (Keras maps targets of 0 and 1 by itself.)"""

    name = "hinge"
    target = (-1.0, 1.0)
    signs = True
    _rule = "hinge"


class SquaredHinge(Loss):
    """``max(0, 1 - t x)^2``; targets are -1 and 1. (Keras maps targets of 0 and 1 by itself.)"""

    name = "squared_hinge"
    target = (-1.0, 1.0)
    signs = True
    _rule = "squared_hinge"


class CosineSimilarity(Loss):
    """``1 - cos(x, t)`` over the last axis. (Keras: ``-cos``; the gradient is the same.)"""

    name = "cosine_similarity"
    _rule = "cosine"

    def resolve(self, head: Head) -> Resolved:
        _need_one_axis(self, head)
        return super().resolve(head)


def _need_one_axis(loss: Loss, head: Head) -> None:
    if len(head.shape) != 1:
        raise ValueError(
            f"loss {loss.name!r} needs an output of one axis (the classes), "
            f"but output {head.name!r} has shape {head.shape}"
        )


class _FromLogits(Loss):
    """A loss with a form for logits and one for probabilities."""

    _logits_rule: ClassVar[str]
    _activations: ClassVar[tuple[str, ...]]
    from_logits: bool | None

    def resolve(self, head: Head) -> Resolved:
        if self.from_logits is None and head.kind in self._activations:
            return Resolved(self._logits_rule, head.before, self._parameters())
        if self.from_logits or (self.from_logits is None and head.kind == "linear"):
            return Resolved(self._logits_rule, head.node, self._parameters())
        return super().resolve(head)


def _from_logits(value: bool | None) -> bool | None:
    return None if value is None else check_flag("from_logits", value)


class BinaryCrossentropy(_FromLogits):
    """``-(w t log p + (1 - t) log(1 - p))`` with ``p = sigmoid(x)``, or p = x for probabilities.

    Parameters
    ----------
    from_logits : bool, optional
        None: see the module.
    label_smoothing : float
        s in [0, 1]: the target is ``t (1 - s) + s / 2``.
    pos_weight : float
        w, the weight of the positive class (PyTorch's).

    Notes
    -----
    Targets lie in [0, 1] and have the shape of the output. Probabilities are limited to
    [1e-7, 1 - 1e-7] as in Keras; PyTorch's BCELoss limits the logarithm to -100.
    """

    name = "binary_crossentropy"
    target = (0.0, 1.0)
    _rule = "binary_cross_entropy"
    _logits_rule = "binary_cross_entropy_logits"
    _activations = ("sigmoid",)
    _arguments = ("from_logits", "label_smoothing", "pos_weight")

    @helpful_keywords
    def __init__(
        self,
        from_logits: bool | None = None,
        label_smoothing: float = 0.0,
        pos_weight: float = 1.0,
    ) -> None:
        self.from_logits = _from_logits(from_logits)
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0, 1)
        self.pos_weight = check_number("pos_weight", pos_weight, 0)

    def _parameters(self) -> dict[str, float]:
        return {"label_smoothing": self.label_smoothing, "pos_weight": self.pos_weight}


class CategoricalCrossentropy(_FromLogits):
    """``-sum_c t_c log p_c`` with ``p = softmax(x)``, or ``p = x / sum(x)`` for probabilities.

    Parameters
    ----------
    from_logits : bool, optional
        None: see the module.
    label_smoothing : float
        s in [0, 1]: the target is ``t (1 - s) + s / classes``.

    Notes
    -----
    Targets have the shape of the output: one-hot rows or probabilities. For class numbers there
    is `SparseCategoricalCrossentropy`.
    """

    name = "categorical_crossentropy"
    target: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    _rule = "categorical_cross_entropy"
    _logits_rule = "softmax_cross_entropy"
    # The softmax of a log-softmax is that of what went into it.
    _activations = ("softmax", "log_softmax")
    _arguments = ("from_logits", "label_smoothing")

    @helpful_keywords
    def __init__(self, from_logits: bool | None = None, label_smoothing: float = 0.0) -> None:
        self.from_logits = _from_logits(from_logits)
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0, 1)

    def resolve(self, head: Head) -> Resolved:
        _need_one_axis(self, head)
        if head.shape[-1] < 2:
            raise ValueError(
                f"loss {self.name!r} needs at least two classes, but output {head.name!r} has "
                f"shape {head.shape}; for a single output use 'binary_crossentropy'"
            )
        return super().resolve(head)

    def _parameters(self) -> dict[str, float]:
        return {"label_smoothing": self.label_smoothing}


class SparseCategoricalCrossentropy(CategoricalCrossentropy):
    """`CategoricalCrossentropy` for targets that are class numbers, 0 to classes - 1.

    Examples
    --------
    >>> from fusednn import losses
    >>> losses.get("sparse_categorical_crossentropy").labels
    True
    """

    name = "sparse_categorical_crossentropy"
    labels = True
    target = None


class KLDivergence(_FromLogits):
    """``sum_c t_c log(t_c / p_c)`` with ``p = softmax(x)``, or p = x for probabilities.

    Parameters
    ----------
    from_logits : bool, optional
        None: see the module.

    Notes
    -----
    Targets are distributions over the last axis. A class with t = 0 costs nothing. PyTorch's
    KLDivLoss takes log-probabilities; its "batchmean" is this mean.
    """

    name = "kl_divergence"
    target = (0.0, 1.0)
    _rule = "kl_divergence"
    _logits_rule = "kl_divergence_logits"
    _activations = ("softmax", "log_softmax")
    _arguments = ("from_logits",)

    @helpful_keywords
    def __init__(self, from_logits: bool | None = None) -> None:
        self.from_logits = _from_logits(from_logits)

    def resolve(self, head: Head) -> Resolved:
        _need_one_axis(self, head)
        return super().resolve(head)


class CustomLoss(Loss):
    """A loss written in Python, with its gradient.

    A model with such a loss is computed node by node, which is slower; a warning says so once.
    ``model.check_gradients(x, y)`` finds mistakes.

    Parameters
    ----------
    function : callable
        ``function(target, output)`` returns the loss of every sample, shape (samples,).
    gradient : callable
        ``gradient(target, output)`` returns the derivative of each sample's loss with respect to
        its output, in the shape of the output.
    name : str

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn import losses
    >>> fourth = losses.CustomLoss(
    ...     lambda target, output: ((output - target) ** 4).sum(axis=1),
    ...     lambda target, output: 4 * (output - target) ** 3,
    ... )
    """

    name = "custom"
    in_python = True

    @helpful_keywords
    def __init__(
        self,
        function: Callable[[np.ndarray, np.ndarray], np.ndarray],
        gradient: Callable[[np.ndarray, np.ndarray], np.ndarray],
        name: str = "custom",
    ) -> None:
        for argument, given in (("function", function), ("gradient", gradient)):
            if not callable(given):
                raise TypeError(f"{argument} must be callable, got {given!r}")
        self.function = function
        self.gradient = gradient
        self.name = name  # type: ignore[misc]

    def serialize(self) -> dict[str, Any]:
        raise ValueError(
            f"loss {self.name!r} is written in Python and cannot be saved; "
            "use save(include_optimizer=False)"
        )

    def resolve(self, head: Head) -> Resolved:
        return Resolved("python", head.node, {"loss": self})  # type: ignore[dict-item]

    def evaluate(
        self, target: np.ndarray, output: np.ndarray, gradient: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the loss of every sample and, where it is wanted, the gradient."""
        each = np.asarray(self.function(target, output))
        if each.shape != (len(output),):
            raise ValueError(
                f"loss {self.name!r} returned shape {each.shape} for {len(output)} samples, "
                f"expected ({len(output)},)"
            )
        if not gradient:
            return each, None
        slope = np.asarray(self.gradient(target, output), output.dtype)
        if slope.shape != output.shape:
            raise ValueError(
                f"the gradient of loss {self.name!r} has shape {slope.shape}, expected that of "
                f"the output, {output.shape}"
            )
        return each, slope


_CLASSES: dict[str, type[Loss]] = {
    c.__name__: c
    for c in (
        MeanSquaredError,
        MeanAbsoluteError,
        Huber,
        LogCosh,
        Quantile,
        Poisson,
        Hinge,
        SquaredHinge,
        CosineSimilarity,
        BinaryCrossentropy,
        CategoricalCrossentropy,
        SparseCategoricalCrossentropy,
        KLDivergence,
    )
}
_ALIASES = {
    "mse": "mean_squared_error",
    "mae": "mean_absolute_error",
    "bce": "binary_crossentropy",
    "kld": "kl_divergence",
    "logcosh": "log_cosh",
    "pinball": "quantile",
}
_NAMES: dict[str, type[Loss]] = {c.name: c for c in _CLASSES.values()}
_NAMES.update({alias: _NAMES[name] for alias, name in _ALIASES.items()})


def names() -> list[str]:
    """Return the names that ``compile(loss=...)`` knows."""
    return list(_NAMES)


def find(name: str) -> type[Loss] | None:
    """Return the class that a name, an alias in any case or a class name stands for, or None."""
    return _NAMES.get(name.lower()) or _CLASSES.get(name)


def get(identifier: str | Mapping | Loss) -> Loss:
    """Return the loss that a name, a dict of ``serialize()`` or an instance stands for.

    Examples
    --------
    >>> from fusednn import losses
    >>> losses.get("mse")
    MeanSquaredError()
    """
    if isinstance(identifier, Loss):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, Loss):
        return identifier()
    if isinstance(identifier, str):
        kind = find(identifier)
        if kind is None:
            raise unknown_choice("loss", identifier, _NAMES)
        return kind()
    if isinstance(identifier, Mapping) and identifier.get("class_name") in _CLASSES:
        return _CLASSES[identifier["class_name"]](**identifier.get("config", {}))
    raise TypeError(f"loss must be a name or one of fusednn.losses, got {identifier!r}")
