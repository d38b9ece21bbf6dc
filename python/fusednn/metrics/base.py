# SPDX-License-Identifier: Apache-2.0
"""What all metrics share."""

from __future__ import annotations

from typing import Any

from fusednn.graph import Head
from fusednn.losses import Loss


class Metric:
    """Base class of all metrics.

    Attributes
    ----------
    name : str
        Its key in `History`.
    """

    name: str

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {}

    def serialize(self) -> dict[str, Any]:
        """Return what ``get`` makes the same metric of."""
        config = self.get_config()
        return {"class_name": type(self).__name__, "config": config, "name": self.name}

    def resolve(self, head: Head, loss: Loss) -> dict[str, Any]:
        """Return what the engine is told: rule, node, labels and what the rule needs.

        ValueError where the metric does not fit the output or the loss.
        """
        raise NotImplementedError(f"{type(self).__name__} must define resolve()")

    def finish(self, mean: float) -> float:
        """Return the metric, given the mean over samples of what the engine computed."""
        return mean

    def result(self, total: Any, weight: float) -> Any:
        """Return the metric, given the engine's sum over samples and the sum of their weights."""
        return self.finish(total / weight if weight else float("nan"))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"
