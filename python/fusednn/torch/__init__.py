# SPDX-License-Identifier: Apache-2.0
"""Drop-in parts for PyTorch: optimizers and layers.

>>> import torch
>>> import fusednn.torch
>>> model = torch.nn.Linear(3, 1)
>>> optimizer = fusednn.torch.optim.RMSprop(model.parameters(), lr=1e-3)

PyTorch is imported here and nowhere else in fusednn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

try:
    import torch
except ImportError:
    raise ImportError(
        "fusednn.torch needs PyTorch, which is not installed: pip install 'fusednn[torch]'"
    ) from None

# The library reads tensors through this, so that it need not be compiled against one PyTorch.
if not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
    raise ImportError(
        f"fusednn.torch needs PyTorch 2.10 or newer, found {torch.__version__}: "
        "pip install --upgrade torch"
    )

from fusednn.torch import threads  # needs torch, which is there

threads.borrow()

if TYPE_CHECKING:
    from fusednn.torch import nn as nn
    from fusednn.torch import optim as optim
    from fusednn.torch.nn import swap_modules as swap_modules
    from fusednn.torch.optim import swap_optimizer as swap_optimizer

__all__ = ["nn", "optim", "swap_modules", "swap_optimizer"]

# Imported when somebody asks for them: name -> module.
_LATER = {
    "nn": "fusednn.torch.nn",
    "swap_modules": "fusednn.torch.nn",
    "optim": "fusednn.torch.optim",
    "swap_optimizer": "fusednn.torch.optim.swap",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'fusednn.torch' has no attribute {name!r}")
    module = importlib.import_module(_LATER[name])
    return module if _LATER[name].endswith(f".{name}") else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
