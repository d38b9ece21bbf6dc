# SPDX-License-Identifier: Apache-2.0
"""What layers do with tensors of a device, where there is none: fake tensors have no memory."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from fusednn.torch import nn  # noqa: E402
from fusednn.torch.nn import gate  # noqa: E402


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("operator", ["chain", "chain_backward", "cross_entropy"])
def test_operators_have_kernels_for_the_processor_alone(operator):
    """Other tensors are an error of the dispatcher, never a wrong address."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    assert has(f"fusednn::{operator}", "CPU")
    assert not has(f"fusednn::{operator}", "CUDA")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_compiled_layer_records_ours_for_the_processor_alone(device, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    net = nn.FusedMLP([4, 8, 2])
    with FakeTensorMode(), torch.no_grad():
        there = {name: torch.empty(p.shape, device=device) for name, p in net.named_parameters()}
        x = torch.empty(5, 4, device=device)
        target = torch.empty(5, dtype=torch.int64, device=device)
        assert gate.traces_fused([x, *there.values()]) is (device == "cpu")
        with Recorder() as recorder:
            y = torch.func.functional_call(net, there, (x,))
            loss = nn.fused_cross_entropy(y, target)
    ours = [name for name in recorder.names if name.startswith("fusednn")]
    assert bool(ours) is (device == "cpu")
    assert y.device.type == loss.device.type == device
    assert y.shape == (5, 2)
