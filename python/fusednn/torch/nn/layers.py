# SPDX-License-Identifier: Apache-2.0
"""Modules: a linear layer with its activation, a sequence that runs such layers as one, an MLP."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from fusednn.activations import Activation
from fusednn.torch.nn.chain import chain
from fusednn.torch.nn.rules import Rule, activation_of, rule_of

GivenActivation: TypeAlias = str | Mapping | Activation | nn.Module | None


class FusedLinear(nn.Linear):
    r"""``nn.Linear`` with the activation that follows it: :math:`y = f(x W^T + b)`.

    Parameters, their shapes and initial values, and the ``state_dict`` are those of ``nn.Linear``.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    activation : str, mapping, Activation, nn.Module or None
        A name (``"relu"``), a name with parameters (``{"name": "elu", "alpha": 0.5}`` or
        ``fusednn.activations.elu(alpha=0.5)``) or a module of torch (``nn.GELU()``); None: none.
    device, dtype
        As in ``nn.Linear``.

    Notes
    -----
    Input of shape (..., in_features), output of shape (..., out_features). float32 and float64 in
    host memory run in one compiled call; other dtypes and devices, autocast, subclasses of Tensor
    and transforms of ``torch.func`` take torch's own operations.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.nn import FusedLinear
    >>> layer = FusedLinear(3, 2, activation="relu")
    >>> layer(torch.ones(5, 3)).shape
    torch.Size([5, 2])
    >>> sorted(layer.state_dict())
    ['bias', 'weight']
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation: GivenActivation = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        self.activation = activation_of(activation)
        self._rule: Rule = rule_of(self.activation)

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation of the affine map of `input`."""
        return chain(input, (self.weight, self.bias), (self._rule,))

    def extra_repr(self) -> str:
        """Return the line that ``repr`` shows."""
        return f"{super().extra_repr()}, activation={self.activation.serialize()!r}"


class FusedSequential(nn.Sequential):
    """``nn.Sequential`` in which neighbouring `FusedLinear` layers run as one node of autograd.

    ``nn.Identity`` between them counts for nothing. A layer with hooks, or one that has been
    changed from outside, runs by itself, as in ``nn.Sequential``.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.nn import FusedLinear, FusedSequential
    >>> net = FusedSequential(FusedLinear(4, 8, activation="gelu"), FusedLinear(8, 2))
    >>> net(torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return what the modules make of `input`, one after the other."""
        for parameters, rules, module in _pieces(self):
            input = chain(input, parameters, rules) if module is None else module(input)
        return input

    def __getitem__(self, idx: slice | int | str) -> Any:
        """Return a module, or a `FusedSequential` of a slice of them."""
        if isinstance(idx, slice):
            return FusedSequential(OrderedDict(list(self._modules.items())[idx]))
        return super().__getitem__(idx)


class FusedMLP(FusedSequential):
    """A multi-layer perceptron as one node of autograd: one compiled call each way.

    Parameters
    ----------
    sizes : sequence of int
        Features of the input, of each hidden layer and of the output.
    activation : str, mapping, Activation, nn.Module or None
        Of every hidden layer, see `FusedLinear`.
    output_activation : str, mapping, Activation, nn.Module or None
        Of the last layer; None leaves logits, which losses want.
    bias : bool
    device, dtype
        As in ``nn.Linear``.

    Notes
    -----
    The layers are modules ``0``, ``1``, ... of the ``state_dict``: ``0.weight``, ``0.bias``, ...

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.nn import FusedMLP
    >>> net = FusedMLP([784, 512, 512, 10])
    >>> net(torch.rand(256, 784)).shape
    torch.Size([256, 10])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: GivenActivation = "relu",
        output_activation: GivenActivation = None,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = list(sizes)
        if len(sizes) < 2:
            raise ValueError(f"sizes={sizes!r} must name at least the input and the output")
        last = len(sizes) - 2
        super().__init__(
            *(
                FusedLinear(
                    sizes[i],
                    sizes[i + 1],
                    bias,
                    output_activation if i == last else activation,
                    device,
                    dtype,
                )
                for i in range(last + 1)
            )
        )


def _pieces(modules: nn.Sequential) -> Iterator[tuple[list, tuple[Rule, ...], nn.Module | None]]:
    """Yield the parameters and rules of each row of layers, and each module between them."""
    parameters: list[Tensor | None] = []
    rules: tuple[Rule, ...] = ()
    watched = _all_are_watched()
    for module in modules._modules.values():
        assert module is not None
        kind = type(module)
        if not watched and (kind is FusedLinear or kind is nn.Identity) and _is_untouched(module):
            if kind is FusedLinear:
                own = module._parameters
                parameters += (own["weight"], own["bias"])
                rules += (module._rule,)
            continue
        if rules:
            yield parameters, rules, None
            parameters, rules = [], ()
        yield parameters, rules, module
    if rules:
        yield parameters, rules, None


def _is_untouched(module: nn.Module) -> bool:
    """Return whether nothing but `forward` happens when a module is called."""
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )


def _all_are_watched() -> bool:
    """Return whether hooks are set on every module there is."""
    return bool(
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    )
