# SPDX-License-Identifier: Apache-2.0
"""Optimizers over arrays, with every instruction set that runs here, in both dtypes."""

import numpy as np
import pytest

from fusednn import _core

ISAS = [entry["name"] for entry in _core.isas() if entry["supported"]]


@pytest.fixture(params=ISAS)
def isa(request):
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)
