# SPDX-License-Identifier: Apache-2.0
"""Real data sets, read from packages on this machine; nothing is ever downloaded.

Images come as a :class:`Dataset` with a fixed split into training and test samples, tables as a
:class:`TableDataset`, from which `fusednn.data` makes what a network takes.
"""

from __future__ import annotations

from fusednn.data.splitting import stratified_split as stratified_split
from fusednn.datasets.base import Dataset as Dataset
from fusednn.datasets.base import DatasetNotFoundError as DatasetNotFoundError
from fusednn.datasets.base import Entry as Entry
from fusednn.datasets.base import TableDataset as TableDataset
from fusednn.datasets.cifar import load_cifar10 as load_cifar10
from fusednn.datasets.cifar import read_cifar as read_cifar
from fusednn.datasets.idx import read_idx as read_idx
from fusednn.datasets.images import load_digits as load_digits
from fusednn.datasets.images import load_fashion_mnist as load_fashion_mnist
from fusednn.datasets.images import load_mnist_5k as load_mnist_5k
from fusednn.datasets.known import catalog as catalog
from fusednn.datasets.known import load as load
from fusednn.datasets.places import FOLDER_VARIABLE as FOLDER_VARIABLE
from fusednn.datasets.tables import load_adult as load_adult
from fusednn.datasets.tables import load_breast_cancer as load_breast_cancer
from fusednn.datasets.tables import load_california_housing as load_california_housing
from fusednn.datasets.tables import load_diabetes as load_diabetes
from fusednn.datasets.tables import load_iris as load_iris
from fusednn.datasets.tables import load_wine as load_wine

__all__ = [
    "Dataset",
    "DatasetNotFoundError",
    "TableDataset",
    "catalog",
    "load",
    "load_adult",
    "load_breast_cancer",
    "load_california_housing",
    "load_cifar10",
    "load_diabetes",
    "load_digits",
    "load_fashion_mnist",
    "load_iris",
    "load_mnist_5k",
    "load_wine",
    "read_cifar",
    "read_idx",
    "stratified_split",
]
