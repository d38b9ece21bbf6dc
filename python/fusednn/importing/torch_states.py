# SPDX-License-Identifier: Apache-2.0
"""PyTorch's state dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fusednn.models import Model

# Names of parameters there, by what they are called here.
TORCH_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _to_numpy(name: str, tensor: Any) -> np.ndarray:
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":
            tensor = tensor.float()
    array = np.asarray(tensor)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"state_dict[{name!r}] must be an array of numbers, got {array.dtype}")
    return array


def _modules(state_dict: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays of every module, in their order."""
    modules: dict[str, dict[str, np.ndarray]] = {}
    for key, value in state_dict.items():
        module, _, name = key.rpartition(".")
        if name != "num_batches_tracked":
            modules.setdefault(module, {})[name] = _to_numpy(key, value)
    return modules


def load_state_dict(
    model: Model, state_dict: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> None:
    """Take the weights of a PyTorch module: Linear, BatchNorm1d, LayerNorm.

    Parameters
    ----------
    model : Model
    state_dict : dict
        What ``module.state_dict()`` returns, or the same with NumPy arrays. The matrices of Linear
        layers are transposed, because they lie as (out, in) there.
    names : dict, optional
        Module by the name of a layer of the model. Without it modules and layers are matched in
        order.

    Raises
    ------
    ValueError
        With nothing changed, where number, names or shapes do not fit.

    Notes
    -----
    Batch normalisation also has other constants there: use
    ``BatchNormalization(momentum=0.9, epsilon=1e-5)``. LayerNorm has epsilon 1e-5 as well.

    Examples
    --------
    >>> import numpy as np, fusednn
    >>> model = fusednn.Sequential([fusednn.layers.Dense(1)], input_shape=(2,))
    >>> state = {"0.weight": np.array([[1.0, 2.0]]), "0.bias": np.array([3.0])}
    >>> fusednn.importing.load_state_dict(model, state)
    >>> model.predict([[1.0, 1.0]]).tolist()
    [[6.0]]
    """
    model._use_engine()
    own: dict[str, dict[str, np.ndarray]] = {}
    for key, view in model._named_parameters().items():
        layer, _, name = key.partition("/")
        own.setdefault(layer, {})[name] = view
    modules = _modules(state_dict)
    if names is None:
        if len(own) != len(modules):
            raise ValueError(
                f"state_dict has {len(modules)} modules with arrays ({', '.join(modules)}), the "
                f"model {len(own)} layers ({', '.join(own)}); say which are which with names="
            )
        names = dict(zip(own, modules, strict=True))
    pairs = []
    for layer, module in names.items():
        if layer not in own or module not in modules:
            raise ValueError(
                f"names: {layer!r}: {module!r} is not a layer ({', '.join(own)}) and a module "
                f"({', '.join(modules)})"
            )
        pairs += _pairs(layer, own[layer], module, modules[module])
    for view, array in pairs:
        view[...] = array
    model._restart_average()


def _pairs(
    layer: str, views: Mapping[str, np.ndarray], module: str, arrays: Mapping[str, np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = []
    wanted = {TORCH_NAMES[name] for name in views}
    if wanted != set(arrays):
        raise ValueError(
            f"layer {layer!r} needs {', '.join(sorted(wanted))} of module {module!r}, which has "
            f"{', '.join(sorted(arrays))}"
        )
    for name, view in views.items():
        array = arrays[TORCH_NAMES[name]]
        array = array.T if name == "kernel" else array
        if array.shape != view.shape:
            raise ValueError(
                f"{module}.{TORCH_NAMES[name]} is {array.shape} for layer {layer!r}, which needs "
                f"{view.shape}"
            )
        pairs.append((view, array))
    return pairs
