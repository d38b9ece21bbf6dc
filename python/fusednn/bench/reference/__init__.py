# SPDX-License-Identifier: Apache-2.0
"""What the gate compares with: NumPy in float64, written for clarity.

The tests have an oracle of their own, with every convention and every option; the wheel has not. A
test compares the two.
"""

from fusednn.bench.reference.activations import ACTIVATIONS
from fusednn.bench.reference.losses import LOSSES, Loss, cross_entropy, mse
from fusednn.bench.reference.networks import (
    initial_weights,
    network_forward,
    network_trained,
    normalised,
)
from fusednn.bench.reference.optimizers import OPTIMIZERS, Optimizer, optimized

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "OPTIMIZERS",
    "Loss",
    "Optimizer",
    "cross_entropy",
    "initial_weights",
    "mse",
    "network_forward",
    "network_trained",
    "normalised",
    "optimized",
]
