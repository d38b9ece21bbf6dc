# SPDX-License-Identifier: Apache-2.0
"""The benchmark's cases: complete, right, and refused when they are slightly wrong."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

import fusednn
import oracle
from fusednn import _core
from fusednn.bench import ceilings, goals, loops, networks, reference, rivals
from fusednn.bench import suites as suites_module
from fusednn.bench.suites import gemm, loss, optimizer, step
from fusednn.bench.suites import torch as torch_suite


@pytest.mark.parametrize("suite", suites_module.SUITES)
def test_every_case_states_its_costs(suite):
    cases = list(suites_module.cases(suite))
    assert cases or suites_module.notes(suite)
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        assert case.suite == suite
        assert case.bytes > 0
        json.dumps(dict(case.params))


@pytest.mark.parametrize("suite", suites_module.SUITES)
def test_goals_name_rivals_that_there_are(suite):
    # What sets up much memory is like its small neighbour.
    for case in suites_module.cases(suite):
        named = {name for goal in case.goals if goal.kind == "ratio" for name in goal.of}
        if named and case.bytes < 2e6 and suite != "fit":
            assert named & set(case.setup().rivals), case.name
        assert all(goal.kind in goals.KINDS for goal in case.goals)


def test_every_rule_has_its_cases():
    cases = {suite: list(suites_module.cases(suite)) for suite in suites_module.SUITES}
    for way in ("forward", "backward"):
        there = {c.params["activation"] for c in cases["activation"] if c.params.get("pass") == way}
        assert there == set(_core.activations()) - {"linear"}
    assert {case.params["loss"] for case in cases["loss"]} == set(_core.losses())
    for size in ("32M", "50 x 1000"):
        there = {c.params["rule"] for c in cases["optimizer"] if c.name.endswith(size)}
        assert there == set(_core.optimizers())


def test_products_begin_with_a_line_of_memory():
    # torch's arrays do, so everybody's shall: a vector across two lines takes twice as long.
    for shape in [(3, 5, 7), (67, 131, 97)]:
        assert all(array.ctypes.data % loops.LINE == 0 for array in gemm._arrays(shape))


def test_growth_has_its_axes():
    cases = list(suites_module.cases("growth"))
    for axis in ("width", "depth", "batch", "threads"):
        values = [case.params["value"] for case in cases if case.params["axis"] == axis]
        assert values == sorted(set(values))
        assert values[0] == 1 or axis == "width"
    threads = [case.threads for case in cases if case.params["axis"] == "threads"]
    assert threads == ceilings.team_sizes(fusednn.get_num_threads())


def test_the_torch_suite_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(torch_suite, "_has", lambda name: False)
    assert list(torch_suite.cases()) == []
    if importlib.util.find_spec("torch"):
        assert "no fusednn.torch.optim" in torch_suite.notes()[0]
        assert "no fusednn.torch.nn" in torch_suite.notes()[1]
    monkeypatch.setattr(torch_suite.importlib.util, "find_spec", lambda name: None)
    assert torch_suite.notes() == ["suite torch is left out: torch is not installed"]


# ---- the definitions of the gate are those of the tests' oracle --------------------------------


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_reference_of_an_activation(name):
    x = np.linspace(-9, 9, 1000)  # no edge is among them
    value, slope = reference.ACTIVATIONS[name]
    np.testing.assert_allclose(value(x), oracle.ACTIVATIONS[name].forward(x), rtol=1e-9, atol=1e-12)
    expected = oracle.ACTIVATIONS[name].derivative(x)
    np.testing.assert_allclose(slope(x), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", reference.LOSSES)
def test_reference_of_a_loss(name):
    right = reference.LOSSES[name]
    x = loss._drawn(right.predictions, (7, 5), right.rowwise, seed=3)
    target = loss._drawn(right.targets, (7, 5), right.rowwise, seed=4)
    value, gradient = right(x, target)
    expected, slopes = oracle.loss(name, x, target)
    assert value == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-7, atol=1e-10)


# ---- the gate ----------------------------------------------------------------------------------


def small_cases():
    """One case of every kind that is quickly set up."""
    names = {
        "gemm": (
            "dx 64x64x64",
            "dw 64x64x64, 1 thread",
            "dw 67x131x97",
            "forward 16x32x32",
            "layer relu 1x512x512",
            "layer relu 512x512x512",
        ),
        "growth": ("width 16", "depth 1", "batch 1", "threads 1"),
        "step": ("8-32-32-1, batch 32", "8-32-32-1, batch 32, on batch"),
        "inference": ("784-512-512-10, batch 1",),
    }
    found = []
    for suite, wanted in names.items():
        found += [case for case in suites_module.cases(suite) if case.name in wanted]
    found += [c for c in suites_module.cases("optimizer") if c.name.endswith("50 x 1000")]
    found += [c for c in suites_module.cases("activation") if c.name.endswith("cache")]
    found += [c for c in suites_module.cases("loss") if c.bytes < 1e6]
    found += [c for c in suites_module.cases("torch") if c.name.endswith("50 x 1000")]
    return found


@pytest.mark.parametrize("case", small_cases(), ids=lambda case: case.name)
def test_our_answers_pass_the_gate(case):
    work = case.setup()
    assert work.check(work.ours.answer()) == ""
    work.ours.call()


@pytest.mark.parametrize("case", small_cases(), ids=lambda case: case.name)
def test_rivals_answers_pass_the_gate(case):
    work = case.setup()
    libraries = ["fusednn", *rivals.installed()]
    for name in filter(rivals.chooser(libraries), work.rivals):
        if "compile" not in name and name != "jax":  # takes a minute
            candidate = work.rivals[name]()
            assert (candidate.check or work.check)(candidate.answer()) == "", name


@pytest.mark.parametrize("name", reference.OPTIMIZERS)
def test_the_gate_sees_an_optimizer_that_is_one_percent_off(name):
    (case,) = (
        c
        for c in suites_module.cases("optimizer")
        if c.params["rule"] == name and c.params["tensors"] == 50
    )
    work = case.setup()
    start = optimizer._sample(optimizer.tensors(50, 1000)[0])
    reached = work.ours.answer()
    assert work.check(reached) == ""
    assert "moved wrong by 1.0e-02" in work.check(start + 1.01 * (reached - start))


def test_the_gate_sees_a_step_with_a_wrong_rate():
    network = networks.Network((8, 32, 32, 1), 32)
    weights = reference.initial_weights(network.widths, seed=0)
    x, y = network.batches(1)
    right, _ = reference.network_trained(weights, x, y, 2)
    check = step.moved_as(weights, right)
    assert check(right) == ""
    off = [w + 1.05 * (r - w) for w, r in zip(weights, right, strict=True)]
    assert "weights moved wrong by 5.0e-02" in check(off)


def test_costs_of_a_network():
    network = networks.Network((4096, 4096, 4096), 1024)
    assert network.name == "4096 x2, batch 1024"
    assert network.step_flops == 5 * 2 * 1024 * 4096**2  # no gradient for the input
    assert networks.Network((8, 32, 32, 1), 32).name == "8-32-32-1, batch 32"
    assert network.parameters == 2 * (4096**2 + 4096)
