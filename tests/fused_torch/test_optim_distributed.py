# SPDX-License-Identifier: Apache-2.0
"""Two processes on one host: data parallel training and sharded flat parameters."""

from __future__ import annotations

import os
import tempfile
import time
import warnings

import pytest

pytest.importorskip("torch")

import torch

if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this PyTorch has no gloo", allow_module_level=True)

WORLD = 2
STEPS = 5


def loss_of(model, step, rank):
    generator = torch.Generator().manual_seed(10 * step + rank)
    x = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    return torch.nn.functional.mse_loss(model(x), x[:, :3].sin())


def network():
    torch.manual_seed(0)
    layers = torch.nn.Linear(6, 13), torch.nn.Tanh(), torch.nn.Linear(13, 3)
    return torch.nn.Sequential(*layers).double()


def wrapped(kind):
    if kind == "ddp":
        return torch.nn.parallel.DistributedDataParallel(network(), gradient_as_bucket_view=True)
    if kind.startswith("fsdp1"):
        from torch.distributed.fsdp import FullyShardedDataParallel

        return FullyShardedDataParallel(
            network(), device_id=torch.device("cpu"), use_orig_params=kind.endswith("original")
        )
    from torch.distributed.fsdp import fully_shard

    mesh = torch.distributed.init_device_mesh("cpu", (WORLD,))
    return fully_shard(network(), mesh=mesh)


def train(kind, fused, name, rank):
    from fusednn.torch import optim

    model = wrapped(kind)
    options = {} if fused else {"foreach": False}
    optimizer = getattr(optim if fused else torch.optim, name)(model.parameters(), **options)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, step, rank).backward()
        optimizer.step()
    local = [getattr(p, "to_local", lambda p=p: p)() for p in model.parameters()]
    return optimizer, [p.detach().clone() for p in local]


def work(rank, file, kind, name):
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=WORLD
    )
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            optimizer, ours = train(kind, True, name, rank)
        fallbacks = [str(w.message) for w in caught if "PyTorch's own code" in str(w.message)]
        _, theirs = train(kind, False, name, rank)
        for p, q in zip(ours, theirs, strict=True):
            assert torch.allclose(p, q, rtol=1e-11, atol=1e-12)
        if kind == "fsdp2":
            assert len(fallbacks) == 1
            assert "DTensor" in fallbacks[0]
        else:
            assert not fallbacks
            assert optimizer._plan.buckets
    except BaseException:
        torch.distributed.destroy_process_group()
        raise
    # Threads of gloo now and then abort a process that leaves by the door ("terminate called
    # without an active exception"), which is not what is tested here.
    torch.distributed.barrier()
    time.sleep(0.2)  # the other one may still be reading the last message
    os._exit(0)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["Adam", "RMSprop"])
@pytest.mark.parametrize("kind", ["ddp", "fsdp1", "fsdp1 original", "fsdp2"])
def test_two_processes(kind, name):
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(
            work, args=(os.path.join(folder, "meeting"), kind, name), nprocs=WORLD
        )
