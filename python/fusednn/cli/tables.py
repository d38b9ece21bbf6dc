# SPDX-License-Identifier: Apache-2.0
"""What the demo prints: numbers in aligned columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from fusednn.cli.rivals import Result


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def confusion_matrix(truth: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """Count how often each true class (row) was taken for each class (column)."""
    return np.bincount(truth * classes + said, minlength=classes**2).reshape(classes, classes)


def confusion_table(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Return the confusion matrix as text, with a dot for zero and the recall of each class."""
    rows = [["", *classes, "recall"]]
    for name, counts, right in zip(classes, matrix, matrix.diagonal(), strict=True):
        found = right / max(counts.sum(), 1)
        rows.append([name, *(str(n) if n else "." for n in counts), f"{found:.3f}"])
    return aligned(rows)


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def comparison_table(results: Sequence[Result]) -> str:
    """Return one line per library; speeds are compared with the first, per epoch."""
    rows = [["", "epochs", "time", "per epoch", "test accuracy", ""]]
    ours = results[0].seconds / results[0].epochs
    for result in results:
        each = result.seconds / result.epochs
        ratio = f"{each / ours:.1f} x our time" if result is not results[0] else ""
        rows.append(
            [
                result.library,
                str(result.epochs),
                _duration(result.seconds),
                _duration(each),
                f"{result.accuracy:.4f}",
                ratio,
            ]
        )
    return aligned(rows)


def history_csv(history: Mapping[str, Sequence[float]]) -> str:
    """Return the history as CSV, one line per epoch."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", *history])
    for epoch, values in enumerate(zip(*history.values(), strict=True), start=1):
        writer.writerow([epoch, *values])
    return text.getvalue()
