# SPDX-License-Identifier: Apache-2.0
"""torch.optim with the whole step in one native call.

Each class has the constructor of its namesake in torch.optim and is a subclass of it, so
everything that works with torch's optimizer works with this one: parameter groups, hooks,
schedulers, ``GradScaler``, ``state_dict``. `Lion` and `LAMB` are not in PyTorch. Some keywords
come on top, each also an option of a group:

master_weights : bool
    Keep a float32 copy of each bfloat16 or float16 parameter and step on that.
max_norm : float, optional
    Limit the norm of all gradients together, as ``torch.nn.utils.clip_grad_norm_`` would before
    the step; ``optimizer.gradient_norm`` is the norm before. One number for all groups.
ema : float between 0 and 1, optional
    Keep moving averages of the parameters, ``average = ema * average + (1 - ema) * p``. See
    `FusedOptimizer.averaged_parameters`.
clear_gradients : bool
    Fill the gradients with zeros in the same pass over memory, which saves
    ``zero_grad(set_to_none=False)``. They may share no memory.
stochastic_rounding : bool
    Round bfloat16 parameters and their states up or down at random, so that their means are right
    and small steps are not lost, at no cost of memory. Refused for other dtypes and beside
    `master_weights`.
seed : int
    Of that rounding. Its noise follows from the seed, the number of the step, and the places of the
    parameter among all and of the element in it: the same on every machine, and after loading a
    state.

What PyTorch's flags mean here: `foreach` and `fused` are accepted and kept; the step is fused in
any case. On a CUDA device `capturable` and `fused` keep the count of steps there, and a step then
waits for nothing: neither for a learning rate that is a tensor, nor for a GradScaler.
`differentiable` is refused. Formulas and what is not supported: docs/torch.md.
"""

from fusednn.torch.optim.adam import Adam as Adam
from fusednn.torch.optim.adam import Adamax as Adamax
from fusednn.torch.optim.adam import AdamW as AdamW
from fusednn.torch.optim.adam import NAdam as NAdam
from fusednn.torch.optim.adam import RAdam as RAdam
from fusednn.torch.optim.additional import LAMB as LAMB
from fusednn.torch.optim.additional import Lion as Lion
from fusednn.torch.optim.base import FusedOptimizer as FusedOptimizer
from fusednn.torch.optim.classic import SGD as SGD
from fusednn.torch.optim.classic import Adadelta as Adadelta
from fusednn.torch.optim.classic import Adagrad as Adagrad
from fusednn.torch.optim.classic import RMSprop as RMSprop
from fusednn.torch.optim.swap import swap_optimizer as swap_optimizer

__all__ = [
    "LAMB",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "FusedOptimizer",
    "Lion",
    "NAdam",
    "RAdam",
    "RMSprop",
    "swap_optimizer",
]
