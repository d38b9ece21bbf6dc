# SPDX-License-Identifier: Apache-2.0
"""Ten seeds on five data sets: our score differs from scikit-learn's by less than its own spread.

``python tests/sklearn_estimators/test_seeds.py`` prints the table of docs/sklearn.md.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import neural_network
from threadpoolctl import threadpool_limits

import fusednn.sklearn
from fusednn import data, datasets

SEEDS = range(10)


@dataclass(frozen=True)
class Comparison:
    """A data set, the most rows of it that take part, the hidden layers, the epochs."""

    name: str
    rows: int
    hidden: tuple[int, ...]
    epochs: int
    rate: float = 1e-3


COMPARISONS = [
    Comparison("digits", 1797, (64,), 20),
    Comparison("breast-cancer", 569, (32,), 30),
    Comparison("diabetes", 442, (32,), 60, 1e-2),
    Comparison("california-housing", 5000, (64,), 15),
    Comparison("adult", 5000, (64,), 5),
]


def parts(comparison):
    """Return inputs and targets for training, and for the score."""
    found = datasets.load(comparison.name)
    if isinstance(found, datasets.Dataset):
        return found.x_train, found.y_train, found.x_test, found.y_test
    rows = np.random.default_rng(0).permutation(len(found.table))[: comparison.rows]
    split = data.split(len(rows), validation=0, test=0.25, seed=0)
    train, test = (found.table.take(rows[part]) for part in (split.train, split.test))
    made = data.Preprocessor(found.target, found.task).fit(train)
    arrays = []
    for table in (train, test):
        y = made.transform_target(table).reshape(-1)
        if found.task != "regression":
            y = y.astype(np.int64)
        arrays += [made.transform(table), y]
    return arrays


def scores(comparison):
    """Return the scores of all seeds, of scikit-learn and of ours."""
    x_train, y_train, x_test, y_test = parts(comparison)
    kind = "MLPClassifier" if y_train.dtype.kind == "i" else "MLPRegressor"
    found = []
    for library in (neural_network, fusednn.sklearn):
        of_library = []
        for seed in SEEDS:
            model = getattr(library, kind)(
                hidden_layer_sizes=comparison.hidden,
                learning_rate_init=comparison.rate,
                max_iter=comparison.epochs,
                random_state=seed,
            )
            with warnings.catch_warnings(), threadpool_limits(1):
                warnings.simplefilter("ignore")
                of_library.append(model.fit(x_train, y_train).score(x_test, y_test))
        found.append(np.array(of_library))
    return found


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda comparison: comparison.name)
def test_scores_over_seeds(comparison):
    try:
        theirs, ours = scores(comparison)
    except datasets.DatasetNotFoundError as missing:
        pytest.skip(str(missing))
    spread = theirs.std(ddof=1)
    assert 0 < spread < 0.1
    assert theirs.min() > 0.2
    # Seed by seed, which is more than the means could show.
    assert np.abs(ours - theirs).max() < spread
    assert abs(ours.mean() - theirs.mean()) < spread / 3


def main():
    print("| data | rows | hidden | epochs | scikit-learn | ours | spread | largest difference |")
    print("|---|---|---|---|---|---|---|---|")
    for each in COMPARISONS:
        theirs, ours = scores(each)
        gap = np.abs(ours - theirs).max()
        print(
            f"| {each.name} | {each.rows} | {each.hidden} | {each.epochs} | {theirs.mean():.4f} "
            f"| {ours.mean():.4f} | {theirs.std(ddof=1):.4f} | {gap:.1e} |"
        )


if __name__ == "__main__":
    main()
