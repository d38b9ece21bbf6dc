# SPDX-License-Identifier: Apache-2.0
"""Fused optimizers over lists of arrays, changed where they lie.

Names, defaults and formulas are those of ``torch.optim``. In the formulas p is a parameter, g its
gradient, t the number of its step (1, 2, ...).

>>> import numpy as np
>>> from fusednn.optim import Adam
>>> w, b = np.zeros((2, 3), np.float32), np.zeros(3, np.float32)
>>> opt = Adam([w, b], lr=0.1)
>>> opt.step([np.ones_like(w), np.ones_like(b)])
>>> b
array([-0.1, -0.1, -0.1], dtype=float32)

Every optimizer takes

params : list of arrays, or list of dict
    NumPy arrays, or what speaks the buffer protocol or DLPack: float32, float64, float16 or
    bfloat16 (with the package ml_dtypes, which brings it to NumPy), writable, without gaps (any
    order of the axes will do), and no two may share memory. They lie in the memory of the CPU or,
    all of them C-contiguous, on a CUDA device (CuPy arrays, or what else shows
    ``__cuda_array_interface__``), where a step goes to the stream of their library. The memory is
    looked up once, so an array must stay where it is. JAX arrays are read-only and refused. Dicts
    are groups with options of their own:
    ``[{"params": [w]}, {"params": [b], "weight_decay": 0.0}]``.
maximize : bool
    Step uphill.
max_norm : float, optional
    The largest norm of all gradients together; larger ones are scaled by
    ``max_norm / (norm + 1e-6)`` as by ``clip_grad_norm_``, in the same native call. A norm that is
    not finite makes the parameters NaN instead of hiding it.
ema : float in [0, 1), optional
    Keep moving averages of the parameters, ``average = ema * average + (1 - ema) * p``, which
    `Optimizer.averages` returns.
master_weights : bool
    Keep a float32 copy of each float16 or bfloat16 parameter, which the steps add up in.
    Arithmetic is float32 in any case; without the copy, steps that are too small to round to
    another float16 are lost.
stochastic_rounding : bool
    Round bfloat16 parameters and their states up or down at random, so that their means are right
    and small steps are not lost, at no cost of memory. Also an option of a group; refused for other
    dtypes and beside `master_weights`.
seed : int
    Of that rounding. Its noise follows from the seed, the number of the step, and the places of the
    parameter and of the element in it: the same on every machine, and after loading a state.

A whole step is one native call, in which all arrays of one dtype are passed over once. The options
of ``param_groups`` may be changed between steps.
"""

from __future__ import annotations

from fusednn.optim.adam import LAMB as LAMB
from fusednn.optim.adam import Adam as Adam
from fusednn.optim.adam import Adamax as Adamax
from fusednn.optim.adam import AdamW as AdamW
from fusednn.optim.adam import Lion as Lion
from fusednn.optim.adam import NAdam as NAdam
from fusednn.optim.adam import RAdam as RAdam
from fusednn.optim.base import Optimizer as Optimizer
from fusednn.optim.classic import SGD as SGD
from fusednn.optim.classic import Adadelta as Adadelta
from fusednn.optim.classic import Adagrad as Adagrad
from fusednn.optim.classic import RMSprop as RMSprop

__all__ = [
    "LAMB",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
]
