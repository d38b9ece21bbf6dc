# SPDX-License-Identifier: Apache-2.0
"""The compiled Network: views without copies, watchers, interruption, one run at a time."""

import gc
import os
import signal
import threading

import numpy as np
import pytest

from fusednn import _core, device


def make(units=(8, 3), dtype="float32", optimizer=None, loss="softmax_cross_entropy", seed=0):
    nodes = [{"type": "input", "name": "x", "inputs": [], "config": {"shape": [4]}}]
    for i, width in enumerate(units):
        nodes.append(
            {
                "type": "dense",
                "name": f"d{i}",
                "inputs": [len(nodes) - 1],
                "config": {"units": width},
            }
        )
    network = _core.Network(nodes, dtype, device.automatic(), seed)
    rng = np.random.default_rng(seed)
    for p in network.parameters():
        p["value"][...] = rng.standard_normal(p["shape"]) * 0.3
    criterion = {"rule": loss, "node": nodes[-1]["name"], "labels": True}
    accuracy = {"rule": "accuracy", "node": nodes[-1]["name"], "labels": True}
    network.set_training(
        [criterion], [accuracy], optimizer or {"rule": "sgd", "hyper": {"lr": 0.1}}
    )
    return network


def data(rows, dtype=np.float32):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((rows, 4)).astype(dtype)
    return [x], [(x.argmax(axis=1) % 3).astype(np.int32)]


def test_nodes_and_parameters():
    network = make()
    assert network.nodes()[1] == {
        "name": "d0",
        "type": "dense",
        "shape": (8,),
        "inputs": [0],
        "frozen": False,
    }
    assert [(p["node"], p["name"], p["shape"]) for p in network.parameters()] == [
        ("d0", "kernel", (4, 8)),
        ("d0", "bias", (8,)),
        ("d1", "kernel", (8, 3)),
        ("d1", "bias", (3,)),
    ]


def test_views_are_the_networks_memory():
    network = make()
    x, y = data(16)

    def now():
        # Arrays over another device's memory are what it was when they were asked for.
        return [p["value"] for p in network.parameters()]

    weights = now()
    before = network.predict(x, [2])[0]
    np.testing.assert_allclose(
        before, (x[0] @ weights[0] + weights[1]) @ weights[2] + weights[3], rtol=1e-4, atol=1e-5
    )
    now()[3][...] += 1
    np.testing.assert_allclose(network.predict(x, [2])[0], before + 1, rtol=1e-5)
    kept = [w.copy() for w in now()]
    network.compute_gradients(x, y, None, True)
    for w, k in zip(now(), kept, strict=True):
        np.testing.assert_array_equal(w, k)
    gradients = [g.copy() for g in network.gradients()]
    network.train(x, y, None, 16)
    if device.automatic() == "cpu":
        for w, k in zip(weights, now(), strict=True):
            assert np.shares_memory(w, k)
    for w, k, g in zip(now(), kept, gradients, strict=True):
        np.testing.assert_allclose(w, k - 0.1 * g, rtol=1e-5, atol=1e-6)


def test_views_outlive_the_network_and_its_optimizer():
    network = make(optimizer={"rule": "adam", "ema_decay": 0.9})
    network.train(*data(16), None, 4)
    views = [p["value"] for p in network.parameters()] + network.gradients() + network.ema()
    views += [v for state in network.optimizer_states() for v in state["values"]]
    kept = [v.copy() for v in views]
    network.set_training([], [], {"rule": "sgd"})
    assert network.optimizer_states() == []
    assert network.ema() is None
    del network
    gc.collect()
    ballast = [np.full((8, 8), 3e33, np.float32) for _ in range(200)]
    for view, copy in zip(views, kept, strict=True):
        np.testing.assert_array_equal(view, copy)
    del ballast


def test_optimizer_settings():
    network = make(optimizer={"rule": "nadam", "global_clip_norm": 1.0, "weight_decay": 0.1})
    assert [s["name"] for s in network.optimizer_states()] == ["exp_avg", "exp_avg_sq"]
    assert network.hyper("lr") == 2e-3
    network.set_hyper("lr", 0.5)
    assert network.hyper("lr") == 0.5
    assert network.hyper("weight_decay") == 0.1
    assert network.optimizer_memory == [1.0]
    network.train(*data(16), None, 4)
    assert network.optimizer_steps == 4
    assert network.training_steps == 4
    assert network.last_norm > 0
    assert network.optimizer_memory != [1.0]
    network.optimizer_steps, network.optimizer_memory, network.training_steps = 9, [0.5], 11
    assert (network.optimizer_steps, network.training_steps) == (9, 11)
    assert network.optimizer_memory == [0.5]
    for wrong in (lambda: network.hyper("momentum"), lambda: network.set_hyper("lr", np.nan)):
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(ValueError, match="expected 1"):
        network.optimizer_memory = [1.0, 2.0]


def test_without_an_optimizer():
    network = make()
    network.set_training([], [])
    for wrong in (lambda: network.hyper("lr"), lambda: network.train(data(4)[0], [])):
        with pytest.raises(ValueError, match="no optimizer"):
            wrong()


def test_frozen_layers_stay():
    network = make()
    network.set_frozen("d0", True)
    kept = [p["value"].copy() for p in network.parameters()]
    network.train(*data(16), None, 4)
    same = [np.array_equal(p["value"], k) for p, k in zip(network.parameters(), kept, strict=True)]
    assert same == [True, True, False, False]
    assert [n["frozen"] for n in network.nodes()] == [False, True, False]


def test_order_and_reports():
    network = make()
    x, y = data(10)
    report = network.evaluate(x, y, batch_size=4)
    assert (report["rows"], report["steps"], report["stopped"]) == (10, 3, False)
    shuffled = network.evaluate(x, y, batch_size=4, order=_core.shuffled(10, 3, 0))
    np.testing.assert_allclose(report["losses"], shuffled["losses"], rtol=1e-5)
    assert report["metrics"] == shuffled["metrics"]
    order = _core.shuffled(1000, 3, 1)
    assert sorted(order) == list(range(1000))
    np.testing.assert_array_equal(order, _core.shuffled(1000, 3, 1))
    for wrong in (np.arange(9), np.arange(1, 11), np.arange(10) - 1):
        with pytest.raises(ValueError, match="order"):
            network.evaluate(x, y, order=wrong)
    with pytest.raises(TypeError, match="order"):
        network.evaluate(x, y, order=np.arange(10.0))


@pytest.mark.skipif("config.getoption('--device') != 'cpu'", reason="a device has no team")
def test_running_tells_how_steps_run():
    network = make(units=(64, 64, 3))
    assert network.running() == []
    x, y = data(640)
    network.train(x, y, batch_size=64, max_threads=1)
    network.evaluate(x, y, batch_size=320, max_threads=2)
    train, evaluate = network.running()
    assert (train["what"], train["rows"], train["threads"]) == ("train", 64, 1)
    assert not train["team"]
    assert train["trials"] == train["changes"] == 0
    assert train["alone_time"] == train["team_time"] == 0
    assert (evaluate["what"], evaluate["rows"]) == ("evaluate", 320)
    assert 1 <= evaluate["threads"] <= 2  # what the caller allows is a cap
    network.train(x, y, batch_size=64, max_threads=2)  # decided anew, and now the latest
    assert [each["what"] for each in network.running()] == ["evaluate", "train"]
    assert network.running()[1]["threads"] == 2


def test_sample_weights():
    network = make()
    x, y = data(10)
    ones = network.evaluate(x, y)
    doubled = network.evaluate(x, y, np.full(10, 2, np.float32))
    np.testing.assert_allclose(doubled["losses"], np.multiply(ones["losses"], 2), rtol=1e-6)
    with pytest.raises(ValueError, match="sample_weight"):
        network.evaluate(x, y, np.ones(9, np.float32))


@pytest.mark.parametrize("n", [0, -1, -(2**60)])
def test_wrong_batch_sizes(n):
    with pytest.raises(ValueError, match="batch_size"):
        make().train(*data(4), None, n)
    assert make().train(*data(4), None, 2**62)["steps"] == 1


# ---- watching ------------------------------------------------------------------------------------


def test_watcher_sees_and_stops():
    network = make()
    seen = []

    def watch(report):
        seen.append(report)
        return len(seen) < 3

    report = network.train(*data(100), None, 10, watcher=watch, interval=0.0)
    assert report["stopped"]
    assert [r["steps"] for r in seen] == [1, 2, 3]
    assert report["steps"] == network.optimizer_steps == 3
    assert seen[1]["losses"][0] > seen[0]["losses"][0] > 0


def test_watcher_may_tune_but_not_train():
    network = make()
    errors = []

    def watch(report):
        network.set_hyper("lr", 0.0)
        for call in (
            lambda: network.train(*data(4)),
            lambda: network.set_frozen("d0", True),
            lambda: network.set_training([], []),
        ):
            with pytest.raises(RuntimeError, match="already running") as caught:
                call()
            errors.append(caught)

    report = network.train(*data(100), None, 10, watcher=watch, interval=0.0)
    assert not report["stopped"]
    assert len(errors) == 30
    assert network.hyper("lr") == 0


@pytest.mark.parametrize("batch", [10, 7])
def test_watcher_may_predict_and_evaluate(batch):
    plain, watched = make(), make()
    x, y = data(100)
    place = len(watched.nodes()) - 1
    seen = []

    def watch(report):
        weights = [p["value"].copy() for p in watched.parameters()]
        twin = make()
        for p, value in zip(twin.parameters(), weights, strict=True):
            p["value"][...] = value
        # Of other rows, and of as many as a step has.
        for rows in (batch, 33):
            part = [a[:rows] for a in x]
            np.testing.assert_array_equal(
                watched.predict(part, [place])[0], twin.predict(part, [place])[0]
            )
        inner = watched.evaluate(x, y, None, batch, watcher=lambda _: None, interval=0.0)
        assert inner["losses"] == twin.evaluate(x, y, None, batch)["losses"]
        seen.append(report)

    a = plain.train(x, y, None, batch)
    b = watched.train(x, y, None, batch, watcher=watch, interval=0.0)
    assert (a["losses"], a["metrics"]) == (b["losses"], b["metrics"])
    assert [r["steps"] for r in seen] == list(range(1, a["steps"] + 1))
    for p, q in zip(plain.parameters(), watched.parameters(), strict=True):
        np.testing.assert_array_equal(p["value"], q["value"])


def test_what_a_watcher_raises_comes_out():
    network = make()

    def watch(report):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        network.train(*data(100), None, 10, watcher=watch, interval=0.0)
    assert network.optimizer_steps == 1
    assert network.train(*data(100), None, 10)["steps"] == 10
    with pytest.raises(TypeError, match="watcher"):
        network.train(*data(100), watcher="me")


def train_on(network, x, y):
    while True:
        network.train(x, y, None, 64)


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT to itself")
def test_interrupt():
    # A step takes some time, also where a device is emulated.
    network = make(units=(512, 512, 3) if device.automatic() == "cpu" else (16, 3))
    x, y = data(200_000)
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        train_on(network, x, y)
    steps = network.optimizer_steps
    assert steps == network.training_steps > 0
    assert steps % 3125 != 0  # it did not wait for the end of an epoch
    assert all(np.isfinite(p["value"]).all() for p in network.parameters())
    network.evaluate([x[0][:100]], [y[0][:100]])
    assert network.optimizer_steps == steps


def test_one_run_at_a_time():
    network = make(units=(256, 256, 3))
    started, outcomes = threading.Event(), []

    def watch(report):
        started.set()
        return len(outcomes) < 2

    def run():
        network.train(*data(200_000), None, 16, watcher=watch, interval=0.0)

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    for call in (lambda: network.train(*data(4)), lambda: network.set_hyper("lr", 1.0)):
        with pytest.raises(RuntimeError, match="running") as caught:
            call()
        outcomes.append(caught)
    thread.join()
    network.set_hyper("lr", 1.0)


def test_networks_run_side_by_side():
    alone = make()
    for _ in range(5):
        alone.train(*data(1000), None, 10)
    networks = [make() for _ in range(4)]

    def run(network):
        for _ in range(5):
            network.train(*data(1000), None, 10)

    threads = [threading.Thread(target=run, args=[network]) for network in networks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for network in networks:
        for a, b in zip(alone.parameters(), network.parameters(), strict=True):
            np.testing.assert_array_equal(a["value"], b["value"])


# ---- wrong descriptions --------------------------------------------------------------------------


INPUT = {"type": "input", "name": "x", "inputs": [], "config": {"shape": [4]}}


def dense(**changes):
    return {"type": "dense", "name": "d", "inputs": [0], "config": {"units": 3}, **changes}


@pytest.mark.parametrize(
    ("nodes", "error", "match"),
    [
        ([], ValueError, "at least one input"),
        ([INPUT, dense(type="dens")], ValueError, "did you mean 'dense'"),
        ([INPUT, dense(inputs=[1])], ValueError, "not an earlier layer"),
        ([INPUT, dense(inputs=[-1])], ValueError, "inputs=-1"),
        ([INPUT, dense(inputs="0")], TypeError, "inputs must be a list"),
        ([INPUT, dense(inputs=[])], ValueError, "no input"),
        ([INPUT, dense(name="x")], ValueError, "two layers"),
        ([INPUT, dense(name=3)], TypeError, "name must be a string"),
        ([INPUT, dense(config={"units": 0})], ValueError, "units=0"),
        ([INPUT, dense(config={"units": 2.5})], ValueError, "units must be an integer"),
        ([INPUT, dense(config={"units": 2**70})], ValueError, "64 bits"),
        ([INPUT, dense(config={"units": {}})], ValueError, "units must be an integer"),
        ([INPUT, dense(config={"units": object()})], TypeError, "units must be a number"),
        ([INPUT, dense(config=[1])], TypeError, "config must be a dict"),
        ([INPUT, dense(extra=1)], ValueError, "'extra' is unknown"),
        ([{"name": "x"}], ValueError, "'type' is missing"),
        ([7], TypeError, "list of dicts"),
    ],
)
def test_wrong_nodes(nodes, error, match):
    with pytest.raises(error, match=match):
        _core.Network(nodes)


def test_a_failed_set_training_leaves_the_old_one():
    network = make(optimizer={"rule": "adam"})
    x, y = data(8)
    good = {"rule": "mse", "node": "d1"}
    for losses, optimizer, error in [
        ([{"rule": "mze", "node": "d1"}], None, ValueError),
        ([{"rule": "mse", "node": "d9"}], None, ValueError),
        ([{"rule": "mse", "node": "d1", "labels": True}], None, ValueError),
        ([{"rule": "mse", "node": "d1", "labels": 1}], None, TypeError),
        ([{"rule": "mse", "node": "d1", "target": 5}], None, ValueError),
        ([{"rule": "mse", "node": "d1", "target": 10**9}], None, ValueError),
        ([{"rule": "huber", "node": "d1", "parameters": {"delta": -1}}], None, ValueError),
        ([{"rule": "huber", "node": "d1", "parameters": {"delta": "a"}}], None, TypeError),
        ([good], {"rule": "adamm"}, ValueError),
        ([good], {"rule": "adam", "convention": "teras"}, ValueError),
        ([good], {"rule": "adam", "hyper": {"beta3": 1}}, ValueError),
        ([good], {"rule": "adam", "l1": -1}, ValueError),
        ([good], {"rule": "adam", "clip_norm": 1, "global_clip_norm": 1}, ValueError),
        ([good], {"rule": "adam", "maximize": "yes"}, TypeError),
    ]:
        with pytest.raises(error):
            network.set_training(losses, [], optimizer or {"rule": "sgd"})
    network.train(x, y)
    assert network.optimizer_states()[0]["name"] == "exp_avg"


def test_unknown_devices_and_dtypes():
    for arguments, match in [
        (("float16",), "precision='float16'"),
        (("float32", "tpu"), "known: cpu, cuda"),
    ]:
        with pytest.raises(ValueError, match=match):
            _core.Network([INPUT], *arguments)
