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
    precision : {"float32", "bfloat16"}, optional
        bfloat16: the operands of products are rounded to it; sums, parameters and everything else
        stay as they are. Default: the dtype of the parameters.

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
        precision: str | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        self._precision = _precision_of(precision, self.weight.dtype)
        self.activation = activation_of(activation)
        self._rule: Rule = rule_of(self.activation)

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation of the affine map of `input`."""
        return chain(input, (self.weight, self.bias), (self._rule,), self._precision)

    def extra_repr(self) -> str:
        """Return the line that ``repr`` shows."""
        precision = f", precision={self._precision!r}" if self._precision else ""
        return f"{super().extra_repr()}, activation={self.activation.serialize()!r}{precision}"


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
        for row, module in _pieces(self):
            input = chain(input, *row) if module is None else module(input)
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
    precision : {"float32", "bfloat16"}, optional
        See `FusedLinear`. In bfloat16 rows of layers up to 128 wide run on a CUDA device in one
        launch each way, with everything between the layers on the chip.

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
        precision: str | None = None,
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
                    precision,
                )
                for i in range(last + 1)
            )
        )


def _precision_of(given: str | None, dtype: torch.dtype) -> str:
    """Return what `chain` takes as its precision."""
    name = str(dtype).removeprefix("torch.")
    if given not in (None, name, "bfloat16") or (given == "bfloat16" and name != "float32"):
        known = "'float32' or 'bfloat16'" if name == "float32" else repr(name)
        raise ValueError(f"precision={given!r}: expected {known} for parameters of {name}")
    return "bfloat16" if given == "bfloat16" else ""


_Row: TypeAlias = tuple[list, tuple[Rule, ...], str]  # parameters, rules and precision of layers


def _pieces(modules: nn.Sequential) -> Iterator[tuple[_Row, nn.Module | None]]:
    """Yield each row of layers, and each module between them."""
    parameters: list[Tensor | None] = []
    rules: tuple[Rule, ...] = ()
    precision = ""
    watched = _all_are_watched()
    for module in modules._modules.values():
        assert module is not None
        kind = type(module)
        fuses = not watched and kind in (FusedLinear, nn.Identity) and _is_untouched(module)
        if fuses and kind is nn.Identity:
            continue
        if rules and not (fuses and module._precision == precision):
            yield (parameters, rules, precision), None
            parameters, rules = [], ()
        if not fuses:
            yield ([], (), ""), module
            continue
        own = module._parameters
        parameters += (own["weight"], own["bias"])
        rules += (module._rule,)
        precision = module._precision
    if rules:
        yield (parameters, rules, precision), None


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
