# SPDX-License-Identifier: Apache-2.0
"""Single operations on arrays: forward and backward passes, losses, optimizer steps.

Arrays are NumPy arrays or anything else in the memory of the CPU that has ``__dlpack__`` (PyTorch,
JAX, ...) or the buffer protocol (``array.array``, ``memoryview``, ...). They are float32 or
float64, all of one call alike, and are read where they lie: rows may be apart and memory may be
read-only. What cannot be read so (a transposed array, for instance) is copied. Python's own numbers
and lists take the dtype of the first array, or float64. Results are NumPy arrays; an ``out`` is
written in place and returned.

Arrays may lie on a CUDA device instead (CuPy, PyTorch, or whatever shows ``__dlpack__`` or
``__cuda_array_interface__``), all arrays of one call alike. They are contiguous then, class numbers
are int32, the work goes to the stream of the first array's library, and results are arrays of that
library. Nothing is copied to the host, but for a loss that is returned as a number.

All functions raise TypeError for a wrong dtype and ValueError for a wrong shape, an unknown name, a
hyper-parameter outside its domain, an array on another device, or an ``out`` that is read-only or
cannot be written as it lies. Nothing is changed then.
"""

from fusednn.ops.dense import (
    DenseContext,
    dense_backward,
    dense_forward,
)
from fusednn.ops.elementwise import (
    activation_backward,
    activation_forward,
    dropout,
    elementary,
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)
from fusednn.ops.losses import loss
from fusednn.ops.normalization import (
    NormContext,
    batch_norm_backward,
    batch_norm_forward,
    layer_norm_backward,
    layer_norm_forward,
)
from fusednn.ops.optimizers import init_optimizer_state, optimizer_step

__all__ = [
    "DenseContext",
    "NormContext",
    "activation_backward",
    "activation_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "dense_backward",
    "dense_forward",
    "dropout",
    "elementary",
    "init_optimizer_state",
    "layer_norm_backward",
    "layer_norm_forward",
    "log_softmax",
    "log_softmax_backward",
    "loss",
    "optimizer_step",
    "softmax",
    "softmax_backward",
]
