# SPDX-License-Identifier: Apache-2.0
"""All that is known after a training, for the report and for scripts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import fusednn
from fusednn.cli.training.fitting import Parts, Search
from fusednn.cli.training.scores import HEADLINES, Competitor, Importance, Scores
from fusednn.machine import processor_name

FORMAT = 1


@dataclass(frozen=True)
class Outcome:
    """A finished training, tested.

    `outputs` is what the network gives for the test rows.
    """

    source: str
    parts: Parts
    search: Search
    scores: Scores
    outputs: np.ndarray
    competitors: list[Competitor]
    importances: list[Importance]
    notes: list[str]
    seed: int
    rows: int
    seconds: float

    @property
    def headline(self) -> str:
        """The metric that counts for the task."""
        return HEADLINES[self.parts.target.task]

    def about(self) -> dict[str, Any]:
        """Return what is kept in the model file."""
        return {
            "source": self.source,
            "task": self.parts.target.task,
            "scores": finite(self.scores),
            "settings": self.search.best.settings.to_dict(),
            "rows": self.sizes,
            "seed": self.seed,
            "fusednn": fusednn.__version__,
        }

    @property
    def sizes(self) -> dict[str, int]:
        """How many rows each part has."""
        names = ("train", "validation", "test")
        return {name: len(y) for name, y in zip(names, self.parts.y, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``metrics.json``."""
        best, target = self.search.best, self.parts.target
        return {
            "format": FORMAT,
            **self.about(),
            "target": target.name,
            "classes": list(getattr(target, "labels", ())) or None,
            "inputs": len(self.parts.preprocessor.feature_names),
            "headline": self.headline,
            "competitors": finite([asdict(other) for other in self.competitors]),
            "importance": finite([asdict(importance) for importance in self.importances]),
            "training": {
                "seconds": best.seconds,
                "epochs": len(best.history["loss"]),
                "best_epoch": best.best_epoch,
                "validation_loss": best.best,
                "interrupted": self.search.interrupted,
                "history": finite(best.history),
            },
            "trials": [
                {
                    "settings": trial.settings.to_dict(),
                    "validation_loss": trial.best,
                    "seconds": trial.seconds,
                }
                for trial in self.search.trials
            ],
            "notes": self.notes,
            "seconds": self.seconds,
            "machine": processor_name(),
        }


def finite(value: Any) -> Any:
    """Return plain values with None for NaN and infinities, which JSON has not."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
