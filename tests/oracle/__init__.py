# SPDX-License-Identifier: Apache-2.0
"""The oracle: every rule again, by another hand, in plain NumPy float64.

Tests and benchmarks compare the kernels with it. It is written from the mathematical definitions
and from what torch and Keras document, and never imports fusednn.
"""

from .activations import (
    ACTIVATIONS,
    Activation,
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)
from .layers import (
    batch_norm_backward,
    batch_norm_forward,
    dense_backward,
    dense_forward,
    dropout,
    layer_norm_backward,
    layer_norm_forward,
    philox4x32_10,
)
from .losses import POINTWISE_LOSSES, ROWWISE_LOSSES, PointwiseLoss, RowwiseLoss, loss
from .optimizers import (
    CONVENTIONS,
    OPTIMIZERS,
    Optimizer,
    clip_coefficient,
    decorate_gradients,
    decoupled_weight_decay,
    ema,
)

__all__ = [
    "ACTIVATIONS",
    "CONVENTIONS",
    "OPTIMIZERS",
    "POINTWISE_LOSSES",
    "ROWWISE_LOSSES",
    "Activation",
    "Optimizer",
    "PointwiseLoss",
    "RowwiseLoss",
    "batch_norm_backward",
    "batch_norm_forward",
    "clip_coefficient",
    "decorate_gradients",
    "decoupled_weight_decay",
    "dense_backward",
    "dense_forward",
    "dropout",
    "ema",
    "layer_norm_backward",
    "layer_norm_forward",
    "log_softmax",
    "log_softmax_backward",
    "loss",
    "philox4x32_10",
    "softmax",
    "softmax_backward",
]
