# SPDX-License-Identifier: Apache-2.0
"""Activations and their derivatives, from their definitions.

Smooth functions are evaluated in ``np.longdouble`` and rounded once, so that a float64 kernel can
be judged in units in the last place even where the formula cancels. Derivatives are taken at the
input; at a kink they follow torch. At an infinity both take the limit of the function, and a NaN
stays a NaN.
"""

import math
from types import MappingProxyType

import numpy as np

_Wide = np.longdouble

# Far enough out that every factor which multiplies x below has underflowed in float64.
_FAR = _Wide(10000)

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


class Activation:
    """A pair of functions of one array, with the defaults of their parameters.

    Parameters
    ----------
    forward, derivative : callable
        Functions of a ``longdouble`` array and of the named parameters.
    **parameters
        Parameter names and defaults.
    """

    def __init__(self, forward, derivative, **parameters):
        self._forward = forward
        self._derivative = derivative
        self.parameters = MappingProxyType(parameters)

    def forward(self, x, **params):
        """Return f(x) as float64."""
        return self._evaluate(self._forward, x, params)

    def derivative(self, x, **params):
        """Return f'(x) as float64; x is the input of the activation, not its output."""
        return self._evaluate(self._derivative, x, params)

    def _evaluate(self, function, x, params):
        unknown = sorted(set(params) - set(self.parameters))
        if unknown:
            raise TypeError(f"unknown parameters {unknown}; known: {sorted(self.parameters)}")
        x = np.asarray(x, dtype=np.float64).astype(_Wide)
        with np.errstate(all="ignore"):
            result = np.asarray(function(x, **{**self.parameters, **params}))
            # Comparisons with NaN are false, so the piecewise rules would lose it.
            return np.where(np.isnan(x), x, result).astype(np.float64)


def _pull_in(x):
    """Replace an infinity by a point where x times a vanished factor is already the limit."""
    return np.where(np.isinf(x), np.sign(x) * _FAR, x)


def _keep_positive_infinity(function):
    """Give f(+inf) = +inf to a function that tends to x on the right and to 0 on the left."""
    return lambda x: np.where(np.isposinf(x), x, function(_pull_in(x)))


def _at_finite(function):
    return lambda x: function(_pull_in(x))


def logistic(x):
    """1 / (1 + exp(-x)) without overflow and with full relative accuracy in both tails."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def log1p_exp(x):
    """log(1 + exp(x)) without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _sech_squared(x):
    small = np.exp(-2 * np.abs(x))
    return 4 * small / (1 + small) ** 2


def _normal_density(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * _Wide(np.pi) + 2 * _PI_TAIL)


# pi = float64(pi) + _PI_TAIL, to the precision of the widest type in use.
_PI_TAIL = _Wide("1.2246467991473531772e-16")
_erfc = np.frompyfunc(math.erfc, 1, 1)


def _normal_distribution(x):
    """Phi(x) = erfc(-x / sqrt 2) / 2.

    The C library's erfc takes a double. The bits of the argument that do not fit are put back
    with the first term of its Taylor series; without it the far tail is off by x**2 roundings.
    """
    z = -x / np.sqrt(_Wide(2))
    rounded = z.astype(np.float64)
    value = np.asarray(_erfc(rounded), dtype=np.float64).astype(_Wide)
    left_over = z - rounded
    slope = -2 / np.sqrt(_Wide(np.pi) + _PI_TAIL) * np.exp(-(z * z))
    return (value + slope * left_over) / 2


def _gelu(x):
    return x * _normal_distribution(x)


def _gelu_derivative(x):
    return _normal_distribution(x) + x * _normal_density(x)


def _gelu_tanh_argument(x):
    """Twice the argument of the tanh, since (1 + tanh(u)) / 2 is the logistic function of 2u."""
    scale = 2 * np.sqrt(2 / (_Wide(np.pi) + _PI_TAIL))
    cubic = _Wide("0.044715")
    return scale * (x + cubic * x**3), scale * (1 + 3 * cubic * x**2)


def _gelu_tanh(x):
    return x * logistic(_gelu_tanh_argument(x)[0])


def _gelu_tanh_derivative(x):
    u, slope = _gelu_tanh_argument(x)
    return logistic(u) + x * slope * logistic(u) * logistic(-u)


def _silu(x):
    return x * logistic(x)


def _silu_derivative(x):
    return logistic(x) * (1 + x * logistic(-x))


def _tanh_of_log1p_exp(x):
    """tanh(log(1 + e)) = (e^2 + 2e) / (e^2 + 2e + 2) with e = exp(x)."""
    e = np.exp(-np.abs(x))
    return np.where(
        x >= 0,
        (1 + 2 * e) / (1 + 2 * e + 2 * e * e),
        e * (e + 2) / (e * (e + 2) + 2),
    )


def _mish(x):
    return x * _tanh_of_log1p_exp(x)


def _mish_derivative(x):
    t = _tanh_of_log1p_exp(x)
    return t + x * (1 - t) * (1 + t) * logistic(x)


def _softsign(x):
    return np.where(np.isinf(x), np.sign(x), x / (1 + np.abs(x)))


def _hard_swish(x):
    return np.where(x <= -3, 0, np.where(x >= 3, x, x * (x + 3) / 6))


def _hard_swish_derivative(x):
    return np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + _Wide(0.5)))


ACTIVATIONS = {
    "linear": Activation(lambda x: x, np.ones_like),
    "relu": Activation(lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1, 0)),
    "leaky_relu": Activation(
        lambda x, negative_slope: np.where(x > 0, x, negative_slope * x),
        lambda x, negative_slope: np.where(x > 0, 1, negative_slope),
        negative_slope=0.01,
    ),
    "elu": Activation(
        lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
        lambda x, alpha: np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0))),
        alpha=1.0,
    ),
    "selu": Activation(
        lambda x: _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0))),
        lambda x: _SELU_SCALE * np.where(x > 0, 1, _SELU_ALPHA * np.exp(np.minimum(x, 0))),
    ),
    "gelu": Activation(_keep_positive_infinity(_gelu), _at_finite(_gelu_derivative)),
    "gelu_tanh": Activation(_keep_positive_infinity(_gelu_tanh), _at_finite(_gelu_tanh_derivative)),
    "silu": Activation(_keep_positive_infinity(_silu), _at_finite(_silu_derivative)),
    "sigmoid": Activation(logistic, lambda x: logistic(x) * logistic(-x)),
    "hard_sigmoid": Activation(
        lambda x: np.clip(x + 3, 0, 6) / 6,
        lambda x: np.where((x > -3) & (x < 3), 1 / _Wide(6), 0),
    ),
    "tanh": Activation(np.tanh, _sech_squared),
    "softplus": Activation(log1p_exp, logistic),
    "log_sigmoid": Activation(lambda x: -np.logaddexp(0, -x), lambda x: 1 / (1 + np.exp(x))),
    "softsign": Activation(_softsign, lambda x: 1 / (1 + np.abs(x)) ** 2),
    "mish": Activation(_keep_positive_infinity(_mish), _at_finite(_mish_derivative)),
    "relu6": Activation(
        lambda x: np.clip(x, 0, 6),
        lambda x: np.where((x > 0) & (x < 6), 1, 0),
    ),
    "hard_swish": Activation(_hard_swish, _hard_swish_derivative),
    "exponential": Activation(np.exp, np.exp),
}


def wide_log_softmax(x, axis=-1):
    """log softmax in ``longdouble``, for the losses that go on computing with it."""
    x = np.asarray(x, dtype=np.float64).astype(_Wide)
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def softmax(x, axis=-1):
    """exp(x) / sum(exp(x)) along `axis`."""
    with np.errstate(all="ignore"):
        return np.exp(wide_log_softmax(x, axis)).astype(np.float64)


def log_softmax(x, axis=-1):
    """x - log(sum(exp(x))) along `axis`."""
    with np.errstate(all="ignore"):
        return wide_log_softmax(x, axis).astype(np.float64)


def softmax_backward(y, dy, axis=-1):
    """Gradient at the input, given the output y = softmax(x) and the gradient at the output."""
    y, dy = (np.asarray(a, dtype=np.float64).astype(_Wide) for a in (y, dy))
    return (y * (dy - (y * dy).sum(axis=axis, keepdims=True))).astype(np.float64)


def log_softmax_backward(y, dy, axis=-1):
    """Gradient at the input, given the output y = log_softmax(x) and the gradient there."""
    y, dy = (np.asarray(a, dtype=np.float64).astype(_Wide) for a in (y, dy))
    return (dy - np.exp(y) * dy.sum(axis=axis, keepdims=True)).astype(np.float64)
