# SPDX-License-Identifier: Apache-2.0
"""Losses, their gradients and their reductions, from their definitions.

x is the prediction (a value, a probability or a logit, as the loss says) and t the target. A
pointwise loss has one value per element, a rowwise loss one per row. At a kink the gradient is
the subgradient nearest to zero, so a prediction without fault is not moved.
"""

from types import MappingProxyType

import numpy as np

from .activations import log1p_exp, logistic, wide_log_softmax

_Wide = np.longdouble


def _wide(a):
    return np.asarray(a, dtype=np.float64).astype(_Wide)


class PointwiseLoss:
    """Elementwise value and gradient.

    `row` says how the elements of one sample make the value of that sample: "mean" or "sum".
    """

    def __init__(self, value, gradient, row="mean", **parameters):
        self._value = value
        self._gradient = gradient
        self.row = row
        self.parameters = MappingProxyType(parameters)

    def value(self, x, t, **params):
        """Return the loss of each element."""
        return self._evaluate(self._value, x, t, params)

    def gradient(self, x, t, **params):
        """Return d loss / d x of each element."""
        return self._evaluate(self._gradient, x, t, params)

    def _evaluate(self, function, x, t, params):
        unknown = sorted(set(params) - set(self.parameters))
        if unknown:
            raise TypeError(f"unknown parameters {unknown}; known: {sorted(self.parameters)}")
        with np.errstate(all="ignore"):
            result = function(_wide(x), _wide(t), **{**self.parameters, **params})
        return np.asarray(result).astype(np.float64)


class RowwiseLoss(PointwiseLoss):
    """Value of each row, and the gradient of that value at every element of the row.

    Targets are integer labels of shape (rows,) or an array shaped like x.
    """

    def _evaluate(self, function, x, t, params):
        x = np.asarray(x, dtype=np.float64)
        return super()._evaluate(function, x, dense_targets(t, x.shape[-1]), params)


def is_labels(t):
    """Whether t holds one integer label per row rather than one number per class."""
    t = np.asarray(t)
    return t.ndim == 1 and np.issubdtype(t.dtype, np.integer)


def dense_targets(t, classes):
    """Integer labels become one-hot rows; anything else is taken as it is."""
    if not is_labels(t):
        return np.asarray(t, dtype=np.float64)
    t = np.asarray(t)
    if t.size and (t.min() < 0 or t.max() >= classes):
        raise ValueError(f"labels must lie in [0, {classes}), got {t.min()} to {t.max()}")
    return np.eye(classes)[t]


# --- pointwise ------------------------------------------------------------------------------


def _huber_value(x, t, delta):
    a = np.abs(x - t)
    return np.where(a <= delta, a * a / 2, delta * (a - _Wide(delta) / 2))


def _log_cosh_value(x, t):
    # log cosh d = log(1 + sinh(d)^2) / 2 near zero; |d| - log 2 + log(1 + exp(-2|d|)) away from it.
    a = np.abs(x - t)
    near = np.log1p(np.sinh(np.minimum(a, 1)) ** 2) / 2
    far = a - np.log(_Wide(2)) + np.log1p(np.exp(-2 * a))
    return np.where(a < 1, near, far)


def _quantile_value(x, t, quantile):
    d = t - x
    return np.maximum(quantile * d, (quantile - 1) * d)


def _quantile_gradient(x, t, quantile):
    return np.where(x < t, -quantile, np.where(x > t, 1 - _Wide(quantile), x - t))


def _hinge_gradient(x, t):
    return np.where(t * x < 1, -t, 0 * x)


def _smooth_binary(t, label_smoothing):
    return t * (1 - _Wide(label_smoothing)) + _Wide(label_smoothing) / 2


def _bce_value(x, t, pos_weight, label_smoothing, eps):
    t = _smooth_binary(t, label_smoothing)
    p = np.clip(x, _Wide(eps), 1 - _Wide(eps))
    return -(pos_weight * t * np.log(p) + (1 - t) * np.log1p(-p))


def _bce_gradient(x, t, pos_weight, label_smoothing, eps):
    t = _smooth_binary(t, label_smoothing)
    inside = (x >= _Wide(eps)) & (x <= 1 - _Wide(eps))
    p = np.clip(x, _Wide(eps), 1 - _Wide(eps))
    return np.where(np.isnan(x) | inside, (1 - t) / (1 - p) - pos_weight * t / p, 0)


def _bce_logits_value(x, t, pos_weight, label_smoothing):
    t = _smooth_binary(t, label_smoothing)
    return pos_weight * t * log1p_exp(-x) + (1 - t) * log1p_exp(x)


def _bce_logits_gradient(x, t, pos_weight, label_smoothing):
    t = _smooth_binary(t, label_smoothing)
    return (1 - t) * logistic(x) - pos_weight * t * logistic(-x)


def _t_log_t(t):
    return np.where(t == 0, 0, t * np.log(np.where(t == 0, 1, t)))


def _kl_value(x, t, eps):
    return _t_log_t(t) - t * np.log(np.maximum(x, _Wide(eps)))


def _kl_gradient(x, t, eps):
    return np.where(x < _Wide(eps), 0, -t / x)


POINTWISE_LOSSES = {
    "mse": PointwiseLoss(lambda x, t: (x - t) ** 2, lambda x, t: 2 * (x - t)),
    "mae": PointwiseLoss(lambda x, t: np.abs(x - t), lambda x, t: np.sign(x - t)),
    "huber": PointwiseLoss(
        _huber_value,
        lambda x, t, delta: np.clip(x - t, -_Wide(delta), _Wide(delta)),
        delta=1.0,
    ),
    "log_cosh": PointwiseLoss(_log_cosh_value, lambda x, t: np.tanh(x - t)),
    "quantile": PointwiseLoss(_quantile_value, _quantile_gradient, quantile=0.5),
    "poisson": PointwiseLoss(
        lambda x, t, epsilon: x - t * np.log(x + _Wide(epsilon)),
        lambda x, t, epsilon: 1 - t / (x + _Wide(epsilon)),
        epsilon=1e-7,
    ),
    "poisson_log": PointwiseLoss(
        lambda x, t: np.exp(x) - t * x,
        lambda x, t: np.exp(x) - t,
    ),
    "hinge": PointwiseLoss(lambda x, t: np.maximum(0, 1 - t * x), _hinge_gradient),
    "squared_hinge": PointwiseLoss(
        lambda x, t: np.maximum(0, 1 - t * x) ** 2,
        lambda x, t: -2 * t * np.maximum(0, 1 - t * x),
    ),
    "binary_cross_entropy": PointwiseLoss(
        _bce_value, _bce_gradient, pos_weight=1.0, label_smoothing=0.0, eps=1e-7
    ),
    "binary_cross_entropy_logits": PointwiseLoss(
        _bce_logits_value, _bce_logits_gradient, pos_weight=1.0, label_smoothing=0.0
    ),
    "kl_divergence": PointwiseLoss(_kl_value, _kl_gradient, row="sum", eps=1e-7),
}


# --- rowwise --------------------------------------------------------------------------------


def _class_targets(t, class_weight, label_smoothing):
    """t' = class_weight * ((1 - s) t + s / C), torch's order of smoothing and weighting."""
    smooth = (1 - _Wide(label_smoothing)) * t + _Wide(label_smoothing) / t.shape[-1]
    return smooth if class_weight is None else smooth * _wide(class_weight)


def _softmax_ce_value(x, t, class_weight, label_smoothing):
    t = _class_targets(t, class_weight, label_smoothing)
    # A class without target mass costs nothing, also where its logit is -inf.
    return -np.where(t == 0, 0, t * wide_log_softmax(x)).sum(axis=-1)


def _softmax_ce_gradient(x, t, class_weight, label_smoothing):
    t = _class_targets(t, class_weight, label_smoothing)
    return np.exp(wide_log_softmax(x)) * t.sum(axis=-1, keepdims=True) - t


def _categorical_ce_value(x, t, class_weight, label_smoothing, eps):
    t = _class_targets(t, class_weight, label_smoothing)
    log_p = np.log(np.maximum(x, _Wide(eps)))
    return t.sum(axis=-1) * np.log(x.sum(axis=-1)) - (t * log_p).sum(axis=-1)


def _categorical_ce_gradient(x, t, class_weight, label_smoothing, eps):
    t = _class_targets(t, class_weight, label_smoothing)
    normaliser = t.sum(axis=-1, keepdims=True) / x.sum(axis=-1, keepdims=True)
    return normaliser - np.where(x < _Wide(eps), 0, t / x)


def _kl_logits_value(x, t):
    return (_t_log_t(t) - np.where(t == 0, 0, t * wide_log_softmax(x))).sum(axis=-1)


def _kl_logits_gradient(x, t):
    return np.exp(wide_log_softmax(x)) * t.sum(axis=-1, keepdims=True) - t


def _unit(a):
    """Rows of length one and their former lengths; a row of zeros stays as it is."""
    norm = np.sqrt((a * a).sum(axis=-1, keepdims=True))
    return a / np.where(norm == 0, 1, norm), norm


def _cosine_value(x, t):
    return 1 - (_unit(x)[0] * _unit(t)[0]).sum(axis=-1)


def _cosine_gradient(x, t):
    u, norm = _unit(x)
    v, _ = _unit(t)
    along = (u * v).sum(axis=-1, keepdims=True)
    return np.where(norm == 0, 0, (along * u - v) / np.where(norm == 0, 1, norm))


ROWWISE_LOSSES = {
    "softmax_cross_entropy": RowwiseLoss(
        _softmax_ce_value, _softmax_ce_gradient, class_weight=None, label_smoothing=0.0
    ),
    "categorical_cross_entropy": RowwiseLoss(
        _categorical_ce_value,
        _categorical_ce_gradient,
        class_weight=None,
        label_smoothing=0.0,
        eps=1e-7,
    ),
    "kl_divergence_logits": RowwiseLoss(_kl_logits_value, _kl_logits_gradient),
    "cosine": RowwiseLoss(_cosine_value, _cosine_gradient),
}


# --- reductions -----------------------------------------------------------------------------


def _samples(name, x, t, params):
    """One value per sample, and its gradient."""
    if name in ROWWISE_LOSSES:
        rule = ROWWISE_LOSSES[name]
        return rule.value(x, t, **params), rule.gradient(x, t, **params)
    rule = POINTWISE_LOSSES[name]
    outputs = int(np.prod(x.shape[1:]))
    values = rule.value(x, t, **params).reshape(len(x), outputs)
    gradient = rule.gradient(x, t, **params)
    if rule.row == "sum":
        return values.sum(axis=1), gradient
    return values.mean(axis=1), gradient / outputs


def loss(
    name,
    x,
    t,
    *,
    reduction="mean",
    sample_weight=None,
    class_weight=None,
    ignore_index=None,
    **params,
):
    """Return the reduced loss and its gradient at x.

    The elements of a sample are averaged (summed for "kl_divergence"). "none" returns the
    weighted value of every sample together with the gradient of their sum. "mean" divides by the
    number of rows that are not ignored or, with class weights and integer labels, by the sum of
    the class weights of those rows, as torch does; sample weights do not change the divisor, as
    in Keras. When that divisor is zero the value is NaN and the gradient zero, as in torch.
    """
    if name not in POINTWISE_LOSSES and name not in ROWWISE_LOSSES:
        raise ValueError(f"loss {name!r} is unknown")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be mean, sum or none, got {reduction!r}")
    x = np.asarray(x, dtype=np.float64)
    if class_weight is not None:
        params["class_weight"] = class_weight
    kept = np.ones(len(x), dtype=bool)
    if ignore_index is not None:
        if name not in ROWWISE_LOSSES or not is_labels(t):
            raise ValueError("ignore_index needs a rowwise loss and integer labels")
        kept = np.asarray(t) != ignore_index
        t = np.where(kept, t, 0)

    values, gradient = _samples(name, x, t, params)
    weight = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    values = np.where(kept, values * weight, 0)
    column = (len(x),) + (1,) * (x.ndim - 1)
    gradient = np.where(kept.reshape(column), gradient * weight.reshape(column), 0)
    if reduction == "none":
        return values, gradient
    if reduction == "sum":
        return values.sum(), gradient

    divisor = float(kept.sum())
    if class_weight is not None and is_labels(t):
        divisor = np.asarray(class_weight, np.float64)[np.asarray(t)[kept]].sum()
    if divisor == 0:
        return np.nan, np.zeros_like(x)
    return values.sum() / divisor, gradient / divisor
