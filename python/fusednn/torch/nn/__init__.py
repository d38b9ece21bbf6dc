# SPDX-License-Identifier: Apache-2.0
"""Layers for PyTorch whose forward and backward passes are compiled calls.

>>> import torch
>>> from fusednn.torch.nn import FusedMLP, fused_cross_entropy
>>> net = FusedMLP([784, 512, 512, 10])
>>> loss = fused_cross_entropy(net(torch.rand(256, 784)), torch.randint(10, (256,)))
>>> loss.backward()

`swap_modules` puts them into a model that is there already.
"""

from fusednn.torch.nn import operators
from fusednn.torch.nn.cross_entropy import fused_cross_entropy
from fusednn.torch.nn.layers import FusedLinear, FusedMLP, FusedSequential
from fusednn.torch.nn.swap import SwapReport, swap_modules

__all__ = [
    "FusedLinear",
    "FusedMLP",
    "FusedSequential",
    "SwapReport",
    "fused_cross_entropy",
    "swap_modules",
]

del operators  # imported to register what it holds
