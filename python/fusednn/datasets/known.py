# SPDX-License-Identifier: Apache-2.0
"""The data sets that the package knows."""

from __future__ import annotations

import functools

from fusednn.datasets import images, tables
from fusednn.datasets.base import Dataset, Entry, TableDataset


def catalog() -> tuple[Entry, ...]:
    """Return the known data sets: how each is loaded, where it lies (or None), how to install it.

    Examples
    --------
    >>> import fusednn
    >>> [entry.name for entry in fusednn.datasets.catalog()][:3]
    ['digits', 'fashion-mnist', 'mnist-5k']
    """
    widedeep = tables.locate_widedeep
    sklearn = images.locate_digits
    return (
        Entry(
            "digits", "handwritten digits, 1797 of 8x8 pixels",
            images.load_digits, sklearn, images.DIGITS_HELP, "label",
        ),
        Entry(
            "fashion-mnist", "photographs of clothes, 70000 of 28x28 pixels",
            images.load_fashion_mnist, images.locate_fashion_mnist, images.FASHION_MNIST_HELP,
            "label",
        ),
        Entry(
            "mnist-5k", "handwritten digits, 5000 of 28x28 pixels",
            images.load_mnist_5k, images.locate_mnist_5k, images.MNIST_5K_HELP, "label",
        ),
        Entry(
            "california-housing", "house prices in 20640 districts, 8 numbers each",
            tables.load_california_housing, functools.partial(widedeep, "california_housing"),
            tables.WIDEDEEP_HELP, "MedHouseVal",
        ),
        Entry(
            "adult", "incomes of 48842 people, 14 columns of numbers and text",
            tables.load_adult, functools.partial(widedeep, "adult"), tables.WIDEDEEP_HELP, "income",
        ),
        Entry(
            "diabetes", "progression in 442 patients, 10 numbers each",
            tables.load_diabetes, sklearn, tables.SKLEARN_HELP, "progression",
        ),
        Entry(
            "breast-cancer", "569 tumours, 30 numbers each, malignant or benign",
            tables.load_breast_cancer, sklearn, tables.SKLEARN_HELP, "diagnosis",
        ),
        Entry(
            "iris", "150 flowers of 3 species, 4 numbers each",
            tables.load_iris, sklearn, tables.SKLEARN_HELP, "species",
        ),
        Entry(
            "wine", "178 wines of 3 growers, 13 numbers each",
            tables.load_wine, sklearn, tables.SKLEARN_HELP, "grower",
        ),
    )  # fmt: skip


def load(name: str) -> Dataset | TableDataset:
    """Load a data set by the name that `catalog` gives it.

    Raises
    ------
    ValueError
        An unknown name.
    DatasetNotFoundError
        If it is not on this machine; the message says how to install it.

    Examples
    --------
    >>> import fusednn
    >>> fusednn.datasets.load("iris").target
    'species'
    """
    from fusednn.errors import unknown_choice

    for entry in catalog():
        if entry.name == name:
            found: Dataset | TableDataset = entry.load()
            return found
    raise unknown_choice("name", name, [entry.name for entry in catalog()])
