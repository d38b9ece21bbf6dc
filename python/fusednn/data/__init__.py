# SPDX-License-Identifier: Apache-2.0
"""Tables: reading them, preparing them for a network, and keeping how that was done with it.

Importing this needs NumPy only; Parquet files need pyarrow.
"""

from __future__ import annotations

from fusednn.data.batches import TableBatches as TableBatches
from fusednn.data.columns import Column as Column
from fusednn.data.csv_files import CSVFile as CSVFile
from fusednn.data.csv_files import read_csv as read_csv
from fusednn.data.csv_files import write_csv as write_csv
from fusednn.data.files import read as read
from fusednn.data.files import read_npz as read_npz
from fusednn.data.files import read_parquet as read_parquet
from fusednn.data.preprocessor import Preprocessor as Preprocessor
from fusednn.data.splitting import Split as Split
from fusednn.data.splitting import split as split
from fusednn.data.table import ColumnNotFoundError as ColumnNotFoundError
from fusednn.data.table import Table as Table
from fusednn.data.table_model import TableModel as TableModel
from fusednn.data.targets import Classes as Classes
from fusednn.data.targets import Quantity as Quantity

__all__ = [
    "CSVFile",
    "Classes",
    "Column",
    "ColumnNotFoundError",
    "Preprocessor",
    "Quantity",
    "Split",
    "Table",
    "TableBatches",
    "TableModel",
    "read",
    "read_csv",
    "read_npz",
    "read_parquet",
    "split",
    "write_csv",
]
