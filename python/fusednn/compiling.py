# SPDX-License-Identifier: Apache-2.0
"""What ``compile`` was told, and its translation for the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusednn import losses as loss_module
from fusednn import metrics as metric_module
from fusednn import optimizers as optimizer_module
from fusednn.errors import check_number, unknown_choice
from fusednn.graph import Activity, Head
from fusednn.losses import Loss
from fusednn.metrics import Metric
from fusednn.optimizers import CONVENTIONS, Optimizer


@dataclass
class Objective:
    """Losses, metrics and optimizer, first as given and then as they fit the outputs.

    `loss`, `metrics` and `loss_weights` are kept as the caller gave them (names resolved), because
    the outputs may not be known yet; `fit_to` fills the lists, which have one entry per output,
    and `regularize` the last one.
    """

    optimizer: Optimizer
    convention: str
    loss: Any
    metrics: Any
    loss_weights: Any
    heads: list[Head] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    scored: list[tuple[int, Metric]] = field(default_factory=list)
    activity_weights: list[float] = field(default_factory=list)

    # ---- reading what the caller wrote ---------------------------------------------------------

    @classmethod
    def parse(
        cls, optimizer: Any, loss: Any, metrics: Any, loss_weights: Any, convention: str
    ) -> Objective:
        """Resolve all names; unknown ones are errors."""
        if convention not in CONVENTIONS:
            raise unknown_choice("convention", convention, CONVENTIONS)
        if loss is None:
            raise ValueError(f"loss is missing; known: {', '.join(sorted(loss_module.names()))}")
        found = optimizer_module.get(optimizer)
        found.resolve(convention)
        return cls(
            found,
            convention,
            _each(loss, loss_module.get),
            _each(metrics, metric_module.get) if metrics is not None else [],
            loss_weights
            if loss_weights is None
            else _each(loss_weights, lambda weight: check_number("loss_weights", weight, 0)),
        )

    def serialize(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "optimizer": optimizer_module.serialize(self.optimizer),
            "convention": self.convention,
            "loss": _each(self.loss, lambda loss: loss.serialize()),
            "metrics": _each(self.metrics, lambda metric: metric.serialize()),
            "loss_weights": self.loss_weights,
        }

    def all_losses(self) -> list[Loss]:
        """Return the losses as given, one after the other."""
        found: list[Loss] = []
        _each(self.loss, found.append)
        return found

    def in_python(self) -> str:
        """Return the name of a loss that is written in Python, or nothing."""
        return next((f"loss {loss.name!r}" for loss in self.all_losses() if loss.in_python), "")

    # ---- at the outputs of a graph ---------------------------------------------------------------

    def fit_to(self, heads: list[Head]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Match losses and metrics with outputs; return the engine's losses and metrics."""
        names = [head.name for head in heads]
        found = _one_each("loss", self.loss, names)
        weights = [1.0] * len(heads)
        if self.loss_weights is not None:
            weights = _one_each("loss_weights", self.loss_weights, names)
        scored = [
            (place, metric)
            for place, metrics in enumerate(_lists("metrics", self.metrics, names))
            for metric in metrics
        ]
        engine_losses = []
        for place, (head, loss) in enumerate(zip(heads, found, strict=True)):
            rule, node, parameters = loss.resolve(head)
            engine_losses.append(
                {
                    "rule": rule,
                    "node": node,
                    "parameters": parameters,
                    "target": place,
                    "labels": loss.labels,
                    "weight": weights[place],
                }
            )
        engine_metrics = [
            {**metric.resolve(heads[place], found[place]), "target": place}
            for place, metric in scored
        ]
        for place, metric in scored:
            if metric.name == "loss" or any(
                other is not metric and other.name == metric.name and where == place
                for where, other in scored
            ):
                raise ValueError(f"metrics: two quantities would be named {metric.name!r}")
        self.heads, self.losses, self.weights, self.scored = heads, found, weights, scored
        return engine_losses, engine_metrics

    def regularize(self, activities: list[Activity]) -> list[dict[str, Any]]:
        """Return the engine's losses for outputs of layers that are held small."""
        found: list[dict[str, Any]] = []
        for node, size, regularizer in activities:
            for rule, factor in (("mae", regularizer.l1), ("mse", regularizer.l2)):
                if factor:  # the rules take means over the columns
                    found.append(
                        {"rule": rule, "node": node, "weight": factor * size, "against_zero": True}
                    )
        self.activity_weights = [each["weight"] for each in found]
        return found

    def metric_names(self) -> list[str]:
        """Return the keys of the logs, "loss" first."""
        several = len(self.heads) > 1
        names = ["loss"]
        if several:
            names += [f"{head.name}_loss" for head in self.heads]
        for place, metric in self.scored:
            prefix = f"{self.heads[place].name}_" if several else ""
            names.append(prefix + metric.name)
        return names

    def logs(self, report: Mapping[str, Any], mean_weight: float) -> dict[str, float]:
        """Return means over the samples that the engine has seen, by name.

        A loss is divided by the number of samples, as the loss that is minimised; a metric by the
        sum of the sample weights.
        """
        rows = report["rows"] or 1
        means = [total / rows for total in report["losses"]]
        weights = self.weights + self.activity_weights
        penalty = report["penalty"] / rows
        values = [penalty + sum(w * mean for w, mean in zip(weights, means, strict=True))]
        if len(self.losses) > 1:
            values += means[: len(self.losses)]
        weight = rows * mean_weight
        for (_, metric), total in zip(self.scored, report["metrics"], strict=True):
            values.append(metric.result(total, weight))
        return dict(zip(self.metric_names(), values, strict=True))


def join_metrics(first: Any, second: Any) -> Any:
    """Return two sets of metrics, of one form, as one."""
    if first is None or second is None:
        return second if first is None else first
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        names = [*first, *(name for name in second if name not in first)]
        return {name: join_metrics(first.get(name), second.get(name)) for name in names}
    lists = [list(m) if isinstance(m, (list, tuple)) else [m] for m in (first, second)]
    if all(isinstance(item, (list, tuple)) for given in lists for item in given):
        if len(lists[0]) != len(lists[1]):
            raise ValueError(
                f"metrics are for {len(lists[0])} outputs, weighted_metrics for {len(lists[1])}"
            )
        return [[*a, *b] for a, b in zip(*lists, strict=True)]
    if isinstance(first, Mapping) or isinstance(second, Mapping):
        raise TypeError("metrics and weighted_metrics must both be lists or both be dicts")
    return lists[0] + lists[1]


def _is_config(value: object) -> bool:
    return isinstance(value, Mapping) and "class_name" in value


def _each(value: Any, convert: Any) -> Any:
    """Apply `convert` to every leaf of nested lists and dicts."""
    if isinstance(value, Mapping) and not _is_config(value):
        return {key: _each(item, convert) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_each(item, convert) for item in value]
    return convert(value)


def _check_names(argument: str, value: Mapping, names: Sequence[str]) -> None:
    for key in value:
        if key not in names:
            raise unknown_choice(f"{argument}: output", key, names)


def _one_each(argument: str, value: Any, names: Sequence[str]) -> list[Any]:
    """Return one entry per output, given one for all, a list, or a dict by output name."""
    if isinstance(value, Mapping):
        _check_names(argument, value, names)
        if missing := [name for name in names if name not in value]:
            raise ValueError(f"{argument} has no entry for output {missing[0]!r}")
        return [value[name] for name in names]
    if isinstance(value, (list, tuple)):
        if len(value) != len(names):
            raise ValueError(
                f"{argument} must have one entry per output ({', '.join(names)}), got {len(value)}"
            )
        return list(value)
    return [value] * len(names)


def _lists(argument: str, value: Any, names: Sequence[str]) -> list[list[Any]]:
    """Return a list of metrics per output."""

    def as_list(item: Any) -> list[Any]:
        return list(item) if isinstance(item, (list, tuple)) else [item]

    if isinstance(value, Mapping):
        _check_names(argument, value, names)
        return [as_list(value[name]) if name in value else [] for name in names]
    given = as_list(value)
    if len(names) == 1:
        return [[m for item in given for m in as_list(item)]]
    if any(isinstance(item, (list, tuple)) for item in given):
        if len(given) != len(names):
            raise ValueError(
                f"{argument} must have one list per output ({', '.join(names)}), got {len(given)}"
            )
        return [as_list(item) for item in given]
    if given and len(given) != len(names):
        raise ValueError(
            f"{argument}: with {len(names)} outputs give a list per output, or a dict by output "
            f"name ({', '.join(names)})"
        )
    return [as_list(item) for item in given] or [[] for _ in names]
