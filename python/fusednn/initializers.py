# SPDX-License-Identifier: Apache-2.0
"""Initial values of parameters, under Keras' names.

Each layer draws from a stream of its own (NumPy's Philox generator, keyed by the model's seed and
the place of the layer), so adding a layer does not change the values of those before it. Values
are drawn in double precision and rounded: models of both precisions start from the same numbers.

For a kernel of shape (inputs, outputs), fan_in is `inputs` and fan_out is `outputs`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from fusednn.errors import check_integer, check_number, helpful_keywords, unknown_choice

Shape = tuple[int, ...]


class Initializer:
    """Base class. A subclass keeps its constructor's arguments as attributes of the same names."""

    _arguments: tuple[str, ...] = ()

    def __call__(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return float64 values of the given shape."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__()")

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in self._arguments}

    def serialize(self) -> dict:
        """Return what ``get`` makes the same initializer of."""
        return {"class_name": type(self).__name__, "config": self.get_config()}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class Zeros(Initializer):
    """All 0."""

    def __call__(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return np.zeros(shape)


class Ones(Initializer):
    """All 1."""

    def __call__(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return np.ones(shape)


class Constant(Initializer):
    """All `value`."""

    _arguments = ("value",)

    @helpful_keywords
    def __init__(self, value: float = 0.0) -> None:
        self.value = check_number("value", value)

    def __call__(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return np.full(shape, self.value)


class _Random(Initializer):
    """Draws from the layer's stream or, where a seed is given, from a stream of its own."""

    seed: int | None

    def __call__(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        if self.seed is not None:
            rng = np.random.Generator(np.random.Philox(key=self.seed))
        return self._draw(shape, rng)

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} must define _draw()")


def _seed(seed: int | None) -> int | None:
    return None if seed is None else check_integer("seed", seed, 0)


class RandomUniform(_Random):
    """Uniform on [minval, maxval)."""

    _arguments = ("minval", "maxval", "seed")

    @helpful_keywords
    def __init__(
        self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None
    ) -> None:
        self.minval = check_number("minval", minval)
        self.maxval = check_number("maxval", maxval, self.minval)
        self.seed = _seed(seed)

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(self.minval, self.maxval, shape)


class RandomNormal(_Random):
    """Normal with the given mean and standard deviation."""

    _arguments = ("mean", "stddev", "seed")

    @helpful_keywords
    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        self.mean = check_number("mean", mean)
        self.stddev = check_number("stddev", stddev, 0)
        self.seed = _seed(seed)

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(self.mean, self.stddev, shape)


# Standard deviation of a standard normal cut off at two standard deviations.
_TRUNCATED_STDDEV = 0.87962566103423978


def _truncated(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return standard normal values, each drawn again until it lies within two deviations."""
    values = rng.standard_normal(shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.standard_normal(int(outside.sum()))
    return values


class TruncatedNormal(RandomNormal):
    """Normal, with values beyond two standard deviations of the mean drawn again."""

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return self.mean + self.stddev * _truncated(shape, rng)


def _fans(shape: Shape) -> tuple[int, int]:
    if not shape:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    field = math.prod(shape[:-2])
    return field * shape[-2], field * shape[-1]


_MODES = ("fan_in", "fan_out", "fan_avg")
_DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform")


class VarianceScaling(_Random):
    """Variance scale / n, where n is fan_in, fan_out or their mean, as `mode` says.

    The uniform distribution has the bound sqrt(3 scale / n). The truncated normal is widened so
    that the variance after truncation is scale / n.
    """

    _arguments: tuple[str, ...] = ("scale", "mode", "distribution", "seed")

    @helpful_keywords
    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        if mode not in _MODES:
            raise unknown_choice("mode", mode, _MODES)
        if distribution not in _DISTRIBUTIONS:
            raise unknown_choice("distribution", distribution, _DISTRIBUTIONS)
        self.scale = check_number("scale", scale, 0, open_low=True)
        self.mode = mode
        self.distribution = distribution
        self.seed = _seed(seed)

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        fan_in, fan_out = _fans(shape)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(n, 1)
        if self.distribution == "uniform":
            bound = math.sqrt(3 * variance)
            return rng.uniform(-bound, bound, shape)
        if self.distribution == "untruncated_normal":
            return rng.normal(0, math.sqrt(variance), shape)
        return math.sqrt(variance) / _TRUNCATED_STDDEV * _truncated(shape, rng)


class _Scaled(VarianceScaling):
    """A variance scaling whose scale, mode and distribution are in its name."""

    _arguments = ("seed",)
    _scaling: tuple[float, str, str]

    @helpful_keywords
    def __init__(self, seed: int | None = None) -> None:
        super().__init__(*self._scaling, seed)


class GlorotUniform(_Scaled):
    """Uniform with bound sqrt(6 / (fan_in + fan_out)); Glorot and Bengio, 2010."""

    _scaling = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Scaled):
    """Truncated normal with variance 2 / (fan_in + fan_out); Glorot and Bengio, 2010."""

    _scaling = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_Scaled):
    """Uniform with bound sqrt(6 / fan_in), for ReLU; He et al., 2015."""

    _scaling = (2.0, "fan_in", "uniform")


class HeNormal(_Scaled):
    """Truncated normal with variance 2 / fan_in, for ReLU; He et al., 2015."""

    _scaling = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_Scaled):
    """Uniform with bound sqrt(3 / fan_in); LeCun et al., 1998."""

    _scaling = (1.0, "fan_in", "uniform")


class LecunNormal(_Scaled):
    """Truncated normal with variance 1 / fan_in, for SELU; LeCun et al., 1998."""

    _scaling = (1.0, "fan_in", "truncated_normal")


class Orthogonal(_Random):
    """A matrix with orthonormal rows or columns, whichever are fewer, times `gain`.

    Saxe et al., 2014. All axes but the last are taken together; at least two are needed.
    """

    _arguments = ("gain", "seed")

    @helpful_keywords
    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        self.gain = check_number("gain", gain)
        self.seed = _seed(seed)

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal needs a shape of at least two axes, got {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        # Signs of the diagonal of r make the decomposition unique, hence q uniform.
        q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


_CLASSES: dict[str, type[Initializer]] = {
    c.__name__: c
    for c in (
        Zeros,
        Ones,
        Constant,
        RandomUniform,
        RandomNormal,
        TruncatedNormal,
        VarianceScaling,
        GlorotUniform,
        GlorotNormal,
        HeUniform,
        HeNormal,
        LecunUniform,
        LecunNormal,
        Orthogonal,
    )
}
_NAMES: dict[str, type[Initializer]] = {
    "zeros": Zeros,
    "ones": Ones,
    "constant": Constant,
    "random_uniform": RandomUniform,
    "uniform": RandomUniform,
    "random_normal": RandomNormal,
    "normal": RandomNormal,
    "truncated_normal": TruncatedNormal,
    "variance_scaling": VarianceScaling,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_uniform": LecunUniform,
    "lecun_normal": LecunNormal,
    "orthogonal": Orthogonal,
}


def get(identifier: str | Mapping | Initializer) -> Initializer:
    """Return the initializer that a name, a dict of ``serialize()`` or an instance stands for.

    Examples
    --------
    >>> from fusednn import initializers
    >>> initializers.get("he_normal")
    HeNormal(seed=None)
    """
    if isinstance(identifier, Initializer):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, Initializer):
        return identifier()
    if isinstance(identifier, str):
        found = _NAMES.get(identifier) or _CLASSES.get(identifier)
        if found is None:
            raise unknown_choice("initializer", identifier, _NAMES)
        return found()
    if isinstance(identifier, Mapping) and identifier.get("class_name") in _CLASSES:
        return _CLASSES[identifier["class_name"]](**identifier.get("config", {}))
    raise TypeError(
        f"an initializer must be a name or one of fusednn.initializers, got {identifier!r}"
    )
