# SPDX-License-Identifier: Apache-2.0
"""Compiled steps run on PyTorch's own threads, and where those are not to be had on their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import pytest

pytest.importorskip("torch")

import torch

from fusednn.torch import optim
from fusednn.torch.threads import borrow

LARGE = 600_001  # elements, which more than one thread steps over


def stepped():
    p = torch.nn.Parameter(torch.linspace(-1, 1, LARGE))
    optimizer = optim.Adam([p], lr=0.1)
    for _ in range(3):
        p.grad = torch.linspace(1, 2, LARGE)
        optimizer.step()
    return p.detach()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="depends on how torch was built")
def test_the_runtime_of_pytorch_is_found():
    assert borrow()


def test_same_bits_with_any_number_of_theirs_and_ours(threads):
    before, expected = torch.get_num_threads(), stepped()
    try:
        for theirs in (1, 2, 3):
            for ours in (1, 2, 4):
                torch.set_num_threads(theirs)
                with threads(ours):
                    assert torch.equal(stepped(), expected)
    finally:
        torch.set_num_threads(before)


def test_several_threads_of_python_at_once():
    expected, found = stepped(), []
    workers = [threading.Thread(target=lambda: found.append(stepped())) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    assert all(torch.equal(each, expected) for each in found)


def run_python(source, **environment):
    environment = {**os.environ, **environment}
    command = [sys.executable, "-c", textwrap.dedent(source)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


STEPS = """
    import os, torch
    from fusednn.torch import optim
    p = torch.nn.Parameter(torch.ones(600_001))
    optimizer = optim.SGD([p], lr=0.5)
    p.grad = torch.ones(600_001)  # here, because torch's own operations hang in a forked child
    def step():
        optimizer.step()
        return p[0].item(), p[-1].item()
    print(step())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_goes_without_their_threads():
    source = (
        STEPS
        + """
    child = os.fork()
    if child == 0:
        os._exit(0 if [step() for _ in range(3)][-1] == (-1.0, -1.0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print(step())
    """
    )
    assert run_python(source).split("\n")[:2] == ["(0.5, 0.5)", "(0.0, 0.0)"]


@pytest.mark.parametrize("setting", [{"OMP_DYNAMIC": "true"}, {"OMP_THREAD_LIMIT": "1"}], ids=str)
def test_a_runtime_that_gives_fewer_threads(setting):
    assert run_python(STEPS, **setting) == "(0.5, 0.5)\n"
