# SPDX-License-Identifier: Apache-2.0
"""Training steps on a device: many in a row, without the host, the bits of steps one by one."""

import numpy as np
import pytest

from fusednn import _core
from fusednn import device as devices

pytestmark = pytest.mark.skipif(bool(devices.cuda_problem()), reason=devices.cuda_problem())
if not devices.cuda_problem():
    from fusednn import _cuda


def network(on="cuda", wide=False, **optimizer):
    nodes = [
        {"type": "input", "name": "x", "inputs": [], "config": {"shape": [6]}},
        {"type": "dense", "name": "a", "inputs": [0], "config": {"units": 72 if wide else 9}},
        {"type": "activation", "name": "b", "inputs": [1], "config": {"rule": "tanh"}},
        {"type": "dropout", "name": "c", "inputs": [2], "config": {"rate": 0.2}},
        {"type": "dense", "name": "d", "inputs": [3], "config": {"units": 3}},
    ]
    made = _core.Network(nodes, "float32", on, 3)
    rng = np.random.default_rng(0)
    for p in made.parameters():
        p["value"][...] = rng.standard_normal(p["shape"]) * 0.3
    error = {"rule": "mse", "node": "d"}
    optimizer = {"rule": "adam", "hyper": {"lr": 0.02}, **optimizer}
    made.set_training([error], [{"rule": "mae", "node": "d"}], optimizer)
    return made


def data(rows, weighted=False):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((rows, 6)).astype(np.float32)
    y = np.tanh(x[:, :3] * 2).astype(np.float32)
    return [x], [y], rng.uniform(0.5, 2, rows).astype(np.float32) if weighted else None


def state(made):
    """Everything that a checkpoint has, and the report of an evaluation."""
    found = [p["value"].copy() for p in made.parameters()]
    for each in made.optimizer_states():
        found += [value.copy() for value in each["values"]]
    for more in (made.ema(), made.collected_gradients()):
        found += [] if more is None else [value.copy() for value in more]
    found += [np.array(made.optimizer_memory), np.array(made.optimizer_steps)]
    found += [np.array(made.training_steps), np.array(made.collected)]
    return found


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


TREATED = [{"rate": 0.5, "l2": 0.01}, {}, {"l1": 0.003, "decays": False}, {}]
SETTINGS = {
    "plain": {},
    "clipped": {"optimizer": {"global_clip_norm": 0.1, "ema_decay": 0.9}},
    "clipped by tensor": {"optimizer": {"clip_norm": 0.05, "treatments": TREATED}},
    "treated": {"optimizer": {"treatments": TREATED, "weight_decay": 0.1, "decoupled": True}},
    "collected": {"optimizer": {"accumulation_steps": 4, "treatments": TREATED}},
    "weighted": {"weighted": True},
    "mixed": {"mixup": 0.3},
    "scheduled": {"schedule": True, "optimizer": {"treatments": TREATED}},
    "scheduled, collected": {"schedule": True, "optimizer": {"accumulation_steps": 3}},
}


def train(made, rows, batch, *, one_by_one, weighted=False, mixup=0.0, schedule=False):
    steps = -(-rows // batch)
    schedules = {}
    if schedule:
        schedules = {
            "lr": 0.02 + 0.01 * np.cos(np.arange(steps)),
            "penalty_scale": 1 + 0.5 * np.sin(np.arange(steps)),
        }
    return made.train(
        *data(rows, weighted), batch, np.random.default_rng(2).permutation(rows),
        watcher=(lambda report: True) if one_by_one else None, interval=0.0,
        schedules=schedules, mixup=mixup,
    )  # fmt: skip


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_steps_in_a_row_have_the_bits_of_steps_one_by_one(name, wide):
    setting = {**SETTINGS[name]}
    optimizer = setting.pop("optimizer", {})
    results, reports = [], []
    for one_by_one in (True, False):
        made = network(wide=wide, **optimizer)
        # The third epoch runs from graphs of several steps; a tail is a program of its own.
        reports.append([train(made, 133, 10, one_by_one=one_by_one, **setting) for _ in range(3)])
        results.append(state(made))
    assert_same(*results)
    assert reports[0] == reports[1]


@pytest.mark.parametrize("name", ["plain", "treated", "scheduled", "collected"])
def test_both_devices_agree_on_settings(name):
    setting = {**SETTINGS[name]}
    optimizer = setting.pop("optimizer", {})
    results = []
    for on in ("cuda", "cpu"):
        made = network(on, **optimizer)
        for _ in range(3):
            train(made, 133, 10, one_by_one=False, **setting)
        results.append(state(made))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("rule", sorted(_core.optimizers()))
def test_every_rule_goes_through_many_steps(rule):
    results = []
    for one_by_one in (True, False):
        made = network(rule=rule, hyper={"lr": 0.01})
        for _ in range(2):
            train(made, 90, 10, one_by_one=one_by_one)
        results.append(state(made))
    assert_same(*results)


def counted(call, *arguments):
    before = _cuda.recordings()
    call(*arguments)
    after = _cuda.recordings()
    return {name: after[name] - before[name] for name in before}


def test_the_host_sends_nothing_from_step_to_step():
    made = network()
    x, y, _ = data(3000)

    def epoch(steps):
        made.train([x[0][: 10 * steps]], [y[0][: 10 * steps]], None, 10)

    def look(steps):
        made.evaluate([x[0][: 10 * steps]], [y[0][: 10 * steps]], None, 10)

    for run in (epoch, look):
        for steps in (200, 20):
            run(steps)
            run(steps)
        few, many = counted(run, 20), counted(run, 200)
        assert few["uploads"] == many["uploads"] <= 8  # the data, and where the run begins
        assert 1 <= few["replays"] <= many["replays"] <= 20


def test_the_last_steps_of_an_epoch_have_a_graph_of_their_own():
    made = network()
    x, y, weight = data(145)

    def epoch():
        made.train(x, y, weight, 10)

    epoch()  # the first step, then the graph of one
    assert counted(epoch)["graphs"] == 2  # of 14 steps, and of the tail
    again = counted(epoch)
    assert (again["graphs"], again["replays"]) == (0, 2)


def test_a_run_that_is_stopped_stands_between_two_steps():
    x, y, _ = data(4000)
    made = network()
    seen = []

    def watcher(report):
        seen.append((report["steps"], made.optimizer_steps, made.training_steps))
        return len(seen) < 2

    report = made.train(x, y, None, 4, watcher=watcher, interval=1e-9)
    assert [steps for steps, _, _ in seen] == [steps for _, steps, _ in seen]
    assert seen[1][0] == report["steps"] == made.optimizer_steps < 1000
    rows = report["rows"]
    rest = made.train([x[0][rows:]], [y[0][rows:]], None, 4)
    whole = network()
    whole.train(x, y, None, 4)
    assert_same(state(made), state(whole))
    assert rest["steps"] + report["steps"] == 1000


def test_what_a_watcher_changes_counts_from_the_next_step_on():
    x, y, _ = data(4000)
    made = network()

    def watcher(report):
        made.set_hyper("lr", 0.0)
        before.append([p["value"].copy() for p in made.parameters()])
        made.evaluate(x, y, None, 100)  # in the middle of the run, on the same clock
        return True

    before = []
    made.train(x, y, None, 4, watcher=watcher, interval=1e-9)
    assert len(before) > 1
    assert_same(before[0], [p["value"] for p in made.parameters()])


def test_held_arrays_come_once():
    made, other = network(), network()
    x, y, _ = data(120)
    held_out = data(50)
    made.hold([*x, *y, *held_out[0], *held_out[1]])
    for _ in range(2):
        for each in (made, other):
            each.train(x, y, None, 10)
            each.evaluate(*held_out, 25)
    assert_same(state(made), state(other))
    plain = counted(other.train, x, y, None, 10)["uploads"]
    assert counted(made.train, x, y, None, 10)["uploads"] == plain - 2
    made.hold([])
    x[0][...] = 0
    for each in (made, other):
        each.train(x, y, None, 10)
    assert_same(state(made), state(other))
