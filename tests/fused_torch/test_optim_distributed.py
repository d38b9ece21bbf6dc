# SPDX-License-Identifier: Apache-2.0
"""Two processes on one host: data parallel training, and sharded parameters and state."""

from __future__ import annotations

import os
import time
import warnings

import pytest

pytest.importorskip("torch")

import torch

if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this PyTorch has no gloo", allow_module_level=True)

from fusednn.torch import optim
from twins import assert_same, loss_of, network

WORLD = 2
STEPS = 5
NAMES = ("Adam", "RMSprop")


def make(kind, house, name):
    """A model that the processes share, and the optimizer of its parameters."""
    model, optimizer = network(torch.float64), getattr(house, name)
    options = {"foreach": False} if house is torch.optim else {}
    if kind in ("ddp", "zero"):
        model = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    elif kind.startswith("fsdp1"):
        from torch.distributed.fsdp import FullyShardedDataParallel

        model = FullyShardedDataParallel(
            model, device_id=torch.device("cpu"), use_orig_params=kind.endswith("original")
        )
    else:
        from torch.distributed.fsdp import fully_shard

        model = fully_shard(model, mesh=torch.distributed.init_device_mesh("cpu", (WORLD,)))
    if kind == "zero":
        from torch.distributed.optim import ZeroRedundancyOptimizer

        return model, ZeroRedundancyOptimizer(model.parameters(), optimizer, **options)
    return model, optimizer(model.parameters(), **options)


def train(model, optimizer, first=0):
    for step in range(first, first + STEPS):
        optimizer.zero_grad()
        loss_of(model, WORLD * step + torch.distributed.get_rank()).backward()
        optimizer.step()


def assert_same_model(a, b):
    ours, theirs = (
        [getattr(p, "to_local", lambda p=p: p)() for p in m.parameters()] for m in (a, b)
    )
    assert_same(ours, theirs, 1e-11)


def train_alike(kind, name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours, optimizer = make(kind, optim, name)
        train(ours, optimizer)
    fallbacks = [str(w.message) for w in caught if "PyTorch's own code" in str(w.message)]
    theirs = make(kind, torch.optim, name)
    train(*theirs)
    assert_same_model(ours, theirs[0])
    if kind == "fsdp2":
        assert len(fallbacks) == 1
        assert "DTensor" in fallbacks[0]
    else:
        assert not fallbacks
        assert getattr(optimizer, "optim", optimizer)._plan.buckets


def whole_state(kind, model, optimizer):
    """The state of all processes together, in each of them."""
    if kind == "zero":
        optimizer.consolidate_state_dict(to=0)
        states = [optimizer.state_dict() if torch.distributed.get_rank() == 0 else None]
        torch.distributed.broadcast_object_list(states)
        return states[0]
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel.optim_state_dict(model, optimizer)


def load_whole(kind, model, optimizer, state):
    if kind != "zero":
        from torch.distributed.fsdp import FullyShardedDataParallel

        state = FullyShardedDataParallel.optim_state_dict_to_load(model, optimizer, state)
    optimizer.load_state_dict(state)


def change_houses(kind, name):
    """Each goes on with the state that the other one has gathered."""
    pairs = [make(kind, house, name) for house in (optim, torch.optim)]
    for pair in pairs:
        train(*pair)
    ours, theirs = (whole_state(kind, *pair) for pair in pairs)
    assert ours["state"].keys() == theirs["state"].keys()
    for key, entries in theirs["state"].items():
        assert ours["state"][key].keys() == entries.keys()
        values = [ours["state"][key][entry] for entry in entries]
        assert [v.dtype for v in values] == [v.dtype for v in entries.values()]
        assert_same(values, entries.values(), 1e-11)
    for pair, state in zip(pairs, (theirs, ours), strict=True):
        load_whole(kind, *pair, state)
        train(*pair, first=STEPS)
    assert_same_model(pairs[0][0], pairs[1][0])


JOBS = [
    *((train_alike, kind) for kind in ("ddp", "zero", "fsdp1", "fsdp1 original", "fsdp2")),
    *((change_houses, kind) for kind in ("zero", "fsdp1", "fsdp1 original")),
]


def work(rank, file):
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=WORLD
    )
    try:
        for job, kind in JOBS:
            for name in NAMES:
                what = f"{job.__name__}: {kind}, {name}"
                job(kind, name)
    except BaseException as error:
        torch.distributed.destroy_process_group()
        raise AssertionError(what) from error
    # Threads of gloo now and then abort a process that leaves by the door ("terminate called
    # without an active exception"), which is not what is tested here.
    torch.distributed.barrier()
    time.sleep(0.2)  # the other one may still be reading the last message
    os._exit(0)


# One pair of processes for all: starting it takes longer than the rest.
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_two_processes(tmp_path):
    torch.multiprocessing.spawn(work, args=(tmp_path / "meeting",), nprocs=WORLD)
