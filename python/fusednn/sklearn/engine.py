# SPDX-License-Identifier: Apache-2.0
"""A network of the engine at work for an estimator: epochs, values, gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusednn import _core
from fusednn.sklearn.architecture import Architecture, Weights, dense_blocks, dense_rows
from fusednn.sklearn.objectives import Objective
from fusednn.sklearn.optimizer import Optimizer
from fusednn.sklearn.threads import watcher

# Rows whose gradient is taken at once where all rows count: what they need stays in memory's reach.
_GRADIENT_ROWS = 8192


@dataclass(frozen=True)
class Settings:
    """What a network is made of. Two equal ones describe interchangeable networks."""

    architecture: Architecture
    objective: Objective
    dtype: str
    precision: str
    device: str
    threads: int
    seed: int


@dataclass
class Samples:
    """Data as the engine takes them.

    Attributes
    ----------
    X : array, or sparse matrix in CSR format
    targets : array
    weight : array or None
    constant : array or None
        Of each row, what its loss has beside the engine's.
    """

    X: Any
    targets: np.ndarray
    weight: np.ndarray | None = None
    constant: np.ndarray | None = None

    @property
    def rows(self) -> int:
        return self.X.shape[0]

    def part(self, rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return inputs, targets and weights of adjacent rows."""
        x = self.X[rows]
        if not isinstance(x, np.ndarray):
            x = x.toarray()
        return x, self.targets[rows], None if self.weight is None else self.weight[rows]


def _shares(
    weight: np.ndarray | None, order: np.ndarray | None, batch_size: int, rows: int
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return weights whose mean is 1 in each batch, and what divides the penalty of each batch.

    That is one over the sum of the weights given; a batch that weighs nothing has no penalty.
    """
    starts = np.arange(0, rows, batch_size)
    sizes = np.full(len(starts), float(batch_size))
    sizes[-1] = rows - starts[-1]
    if weight is None:
        return None, 1 / sizes
    ordered = weight if order is None else weight[order]
    masses = np.add.reduceat(ordered, starts, dtype=np.float64)
    if masses.min() < 0:
        raise ValueError(f"sample_weight has a negative sum, {masses.min():g}, over a batch")
    scales = np.divide(1, masses, out=np.zeros_like(masses), where=masses != 0)
    shares = np.empty_like(weight)
    places = slice(None) if order is None else order
    shares[places] = ordered * np.repeat(sizes * scales, sizes.astype(int))
    return shares, scales


def _portions(
    samples: Samples, order: np.ndarray | None, batch_size: int
) -> Iterator[tuple[np.ndarray, Any]]:
    """Yield the inputs of whole batches, with the places of their rows among all rows.

    An array comes in one piece as it lies; a sparse matrix in the order of the epoch.
    """
    if isinstance(samples.X, np.ndarray):
        yield samples.X, slice(None)
        return
    rows, features = samples.X.shape
    length = dense_rows(features * batch_size) * batch_size
    places = np.arange(rows) if order is None else order
    for begin in range(0, rows, length):
        chosen = places[begin : begin + length]
        yield samples.X[chosen].toarray(), chosen


@dataclass(frozen=True)
class Penalty:
    """alpha / 2 times the squares, and l1 times the sizes, of all kernels, per sum of weights."""

    alpha: float
    l1: float

    def value(self, kernels: Sequence[np.ndarray]) -> float:
        total = 0.0
        if self.alpha:
            total += 0.5 * self.alpha * sum(float(k @ k) for k in kernels)
        if self.l1:
            total += self.l1 * sum(float(np.abs(k).sum()) for k in kernels)
        return total


class Engine:
    """A network of the engine, and views of its parameters.

    Attributes
    ----------
    weights : Weights
        The network's own memory: writing to the arrays changes it.
    kernels : list of array
        The same kernels, without their shape.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        architecture = settings.architecture
        nodes = architecture.nodes()
        self._network = _core.Network(nodes, settings.precision, settings.device, settings.seed)
        self._criterion = settings.objective.criterion(architecture.output_node)
        self._parameters = self._network.parameters()
        named: dict[str, list[np.ndarray]] = {}
        for parameter in self._parameters:
            named.setdefault(parameter["name"], []).append(parameter["value"])
        norms = (named.get(k, []) for k in ("gamma", "beta", "moving_mean", "moving_variance"))
        self.weights = Weights(
            named["kernel"], named["bias"], [list(n) for n in zip(*norms, strict=True)]
        )
        self.kernels = [kernel.reshape(-1) for kernel in named["kernel"]]
        self._output = len(nodes) - 1
        self._optimizer: Optimizer | None = None
        self._penalty: Penalty | None = None

    def load(self, weights: Weights) -> None:
        """Copy weights into the network, except where they are its memory already."""
        pairs = [
            *zip(self.weights.coefs, weights.coefs, strict=True),
            *zip(self.weights.intercepts, weights.intercepts, strict=True),
        ]
        for own, given in zip(self.weights.norms, weights.norms, strict=True):
            pairs += zip(own, given, strict=True)
        for own_array, given_array in pairs:
            if own_array is not given_array:
                own_array[...] = given_array

    def use(self, optimizer: Optimizer | None, penalty: Penalty) -> None:
        """Make ready for steps of an optimizer, or for none, with a penalty on all kernels."""
        if (optimizer, penalty) == (self._optimizer, self._penalty):
            return
        if optimizer is None:
            self._network.set_training([self._criterion])
        else:
            of_kernels = {"l1": penalty.l1, "l2": penalty.alpha}
            treatments = [of_kernels if p["name"] == "kernel" else {} for p in self._parameters]
            optimizer.join(self._network, self._criterion, treatments)
        self._optimizer, self._penalty = optimizer, penalty

    def epoch(self, samples: Samples, order: np.ndarray | None, batch_size: int) -> float:
        """Take one step per batch and return the sum over the rows of the loss before each step.

        As in scikit-learn, loss and gradient of a batch are means by weight over its rows, and the
        penalty is divided by the sum of these weights.
        """
        weight, scales = _shares(samples.weight, order, batch_size, samples.rows)
        assert self._optimizer is not None
        rates = self._optimizer.rates_of(len(scales))
        total, first = 0.0, 0
        for x, places in _portions(samples, order, batch_size):
            whole = isinstance(places, slice)
            steps = slice(first, first - (-len(x) // batch_size))
            report = self._network.train(
                [x],
                [samples.targets[places]],
                None if weight is None else weight[places],
                batch_size,
                order=order if whole else None,
                watcher=watcher(),
                max_threads=self.settings.threads,
                schedules={"lr": rates[steps], "penalty_scale": scales[steps]},
            )
            total += self.settings.objective.reported * report["losses"][0] + report["penalty"]
            first = steps.stop
        if samples.constant is not None:
            total += float(samples.constant.sum() if weight is None else samples.constant @ weight)
        self._optimizer.learning_rate = float(rates[-1])
        return total

    def epochs(
        self,
        samples: Samples,
        orders: _core.Orders | None,
        n: int,
        batch_size: int,
        plateau: _core.Plateau,
        losses: list[float],
    ) -> None:
        """Take the steps of n epochs in one call, or of fewer where the plateau is reached.

        The loss of each is appended to `losses`, also where the user interrupts. The learning rate
        is that of now throughout. Samples have no weights, and are not sparse.
        """
        _, scales = _shares(None, None, batch_size, samples.rows)
        assert self._optimizer is not None
        constant = samples.constant
        self._network.train_epochs(
            [samples.X],
            [samples.targets],
            batch_size,
            n,
            plateau,
            losses,
            orders,
            self.settings.objective.reported,
            0.0 if constant is None else float(constant.sum()),
            max_threads=self.settings.threads,
            schedules={"lr": self._optimizer.rates_of(len(scales)), "penalty_scale": scales},
            watcher=watcher(),
        )

    def loss(self, samples: Samples) -> float:
        """Return the mean loss without penalty, as in prediction."""
        total = self._whole(samples, None) * self.settings.objective.reported
        if samples.constant is not None:
            weight = samples.weight
            total += float(samples.constant.sum() if weight is None else samples.constant @ weight)
        return total / self._mass(samples)

    @staticmethod
    def _mass(samples: Samples) -> float:
        return float(samples.rows if samples.weight is None else samples.weight.sum())

    def _whole(self, samples: Samples, gradient: np.ndarray | None) -> float:
        """Return the sum of the losses; adds the sum of the gradients where an array is given."""
        total = 0.0
        n = _GRADIENT_ROWS
        if not isinstance(samples.X, np.ndarray):
            n = min(n, dense_rows(samples.X.shape[1]))
        for begin in range(0, samples.rows, n):
            rows = slice(begin, begin + n)
            x, targets, weight = samples.part(rows)
            if gradient is None:
                report = self._network.evaluate(
                    [x], [targets], weight, len(targets), max_threads=self.settings.threads
                )
            else:
                report = self._network.compute_gradients(
                    [x], [targets], weight, False, max_threads=self.settings.threads
                )
                gradient += self._pack(self._network.gradients()) * len(targets)
            total += report["losses"][0]
        return total

    def value_and_gradient(
        self, packed: np.ndarray, samples: Samples, penalty: Penalty
    ) -> tuple[float, np.ndarray]:
        """Return the objective over all rows at some weights, and its gradient.

        Here the value belongs to the gradient: with several outputs it is the sum over them.
        """
        watcher()
        self.unpack(packed)
        mass = self._mass(samples)
        gradient = np.zeros_like(packed)
        value = self._whole(samples, gradient) * self.settings.objective.followed
        value += penalty.value(self.kernels)
        n = sum(kernel.size for kernel in self.kernels)
        gradient[:n] += penalty.alpha * packed[:n]
        if penalty.l1:
            gradient[:n] += penalty.l1 * np.sign(packed[:n])
        return value / mass, gradient / mass

    def named_parameters(self) -> dict[str, np.ndarray]:
        """Return the network's own memory by layer and name."""
        return {f"{p['node']}/{p['name']}": p["value"] for p in self._parameters}

    def pack(self) -> np.ndarray:
        """Return all that is learned as one array, the kernels first."""
        return self._pack([parameter["value"] for parameter in self._parameters])

    def _learned(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        named = list(zip(self._parameters, arrays, strict=True))
        first = [array for p, array in named if p["name"] == "kernel"]
        return first + [a for p, a in named if p["trainable"] and p["name"] != "kernel"]

    def _pack(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([array.reshape(-1) for array in self._learned(arrays)])

    def unpack(self, packed: np.ndarray) -> None:
        """Set all that is learned from one array."""
        begin = 0
        for value in self._learned([parameter["value"] for parameter in self._parameters]):
            value.reshape(-1)[...] = packed[begin : begin + value.size]
            begin += value.size

    def outputs(self, X: Any) -> np.ndarray:
        """Return the values of the last layer, without its activation."""
        parts = [
            self._network.predict([block], [self._output], max_threads=self.settings.threads)[0]
            for block in dense_blocks(X, np.dtype(self.settings.dtype))
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
