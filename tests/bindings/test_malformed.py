# SPDX-License-Identifier: Apache-2.0
"""Ten thousand malformed calls: an error that says so or a result; no crash, nothing half done.

Every call starts out right; then some of its arguments are replaced by things from `STRANGE`.
"""

import array
import os

import numpy as np
import pytest

from fusednn import _core, ops

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

CALLS_PER_EXAMPLE = 10
EXAMPLES = 1000


def read_only(a):
    a.flags.writeable = False
    return a


class BrokenDLPack:
    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **options):
        raise RuntimeError("broken")


class OnAnotherDevice(BrokenDLPack):
    def __dlpack_device__(self):
        return (2, 0)


class BrokenArray:
    def __array__(self, *arguments, **options):
        raise AttributeError("broken")

    def __repr__(self):
        raise LookupError("broken")


STRANGE = [
    lambda: np.ones((2, 3)),
    lambda: np.ones((3, 2)),
    lambda: np.ones((2, 3), np.float32),
    lambda: np.ones(3),
    lambda: np.ones(2, np.float32),
    lambda: np.ones(()),
    lambda: np.ones((2, 3, 1)),
    lambda: np.ones((0, 3)),
    lambda: np.ones((2, 0)),
    lambda: np.ones((1,) * 30),
    lambda: np.full((2, 3), np.nan),
    lambda: np.full((2, 3), -np.inf),
    lambda: np.ones((3, 2)).T,
    lambda: np.ones((2, 6))[:, ::2],
    lambda: np.ones((2, 3))[::-1],
    lambda: np.broadcast_to(1.0, (2, 3)),
    lambda: read_only(np.ones((2, 3))),
    lambda: np.array([0, 1]),
    lambda: np.array([0, 7]),
    lambda: np.array([-1, 2**40]),
    lambda: np.array([0, 2**64 - 1], np.uint64),
    lambda: np.array([0.0, np.nan]),
    lambda: np.ones((2, 3), np.int32),
    lambda: np.ones((2, 3), np.complex64),
    lambda: np.ones((2, 3), bool),
    lambda: np.ones((2, 3), np.float16),
    lambda: np.ones((2, 3), ">f8"),
    lambda: np.ones((2, 3), object),
    lambda: np.array([["a", "b"]]),
    lambda: np.array(["2026-01-01"], "M8[D]"),
    lambda: array.array("d", [1, 2, 3]),
    lambda: bytearray(48),
    lambda: memoryview(bytes(48)),
    lambda: [np.ones((2, 3))],
    lambda: [np.ones((2, 3)), np.ones(3)],
    lambda: [None],
    lambda: [[1.0], [1.0, 2.0]],
    lambda: [],
    lambda: (),
    lambda: {},
    lambda: {"memory": 1},
    lambda: {"lr": "fast"},
    lambda: {1: 2},
    lambda: {"units": -3},
    lambda: {"shape": [2**62, 2**62]},
    lambda: None,
    lambda: True,
    lambda: 0,
    lambda: -1,
    lambda: 3,
    lambda: 2**31,
    lambda: 2**63,
    lambda: -(2**70),
    lambda: 0.5,
    lambda: -1.0,
    lambda: np.nan,
    lambda: np.inf,
    lambda: 1e308,
    lambda: 1j,
    lambda: "",
    lambda: "relu",
    lambda: "lru",
    lambda: "mean",
    lambda: "\ud800",
    lambda: "x" * 1000,
    lambda: b"relu",
    lambda: object(),
    lambda: len,
    lambda: np.float32,
    BrokenDLPack,
    OnAnotherDevice,
    BrokenArray,
]
TOO_LARGE = [lambda: np.broadcast_to(1.0, (2**40, 3)), lambda: {"units": 2**45}]
# Where memory is short a sanitizer's allocator does not throw: it ends the process.
if "libasan" not in os.environ.get("LD_PRELOAD", ""):
    STRANGE += TOO_LARGE


def two_by_three():
    return np.linspace(0.1, 0.9, 6).reshape(2, 3)


def with_state(name):
    p = [two_by_three(), np.ones(3)]
    return {
        "name": name,
        "parameters": p,
        "gradients": [np.full_like(a, 0.5) for a in p],
        "state": ops.init_optimizer_state(name, p, ema=0.9),
        "step": 1,
        "convention": "torch",
        "lr": 0.1,
        "weight_decay": 0.1,
        "decoupled": False,
        "l1": 0.0,
        "maximize": False,
        "clip_value": None,
        "clip_norm": None,
        "global_clip_norm": 1.0,
        "ema": 0.9,
        "clear_gradient": True,
    }


def network():
    nodes = [
        {"type": "input", "name": "x", "inputs": [], "config": {"shape": [3]}},
        {"type": "dense", "name": "d", "inputs": [0], "config": {"units": 3}},
    ]
    made = _core.Network(nodes, "float64")
    loss = {"rule": "softmax_cross_entropy", "node": "d", "labels": True}
    made.set_training([loss], [], {"rule": "adam"})
    return made


class OfNetwork:
    """A method of a small network that is made for the call; its memory must stay on errors."""

    def __init__(self, method):
        self.method = method

    def __call__(self, self_, **arguments):
        if not isinstance(self_, _core.Network):
            raise TypeError("not a network")
        views = [p["value"] for p in self_.parameters()]
        views += [v for state in self_.optimizer_states() for v in state["values"]]
        before = [v.tobytes() for v in views]
        try:
            getattr(self_, self.method)(**arguments)
        except Exception:
            if not callable(arguments.get("watcher")):  # one that fails does so after a step
                assert [v.tobytes() for v in views] == before
                assert self_.optimizer_steps == 0
            raise


def node(**entries):
    """A dense layer behind an input, from the entries of its description."""
    source = {"type": "input", "name": "x", "inputs": [], "config": {"shape": entries.pop("shape")}}
    options = [entries.pop(key) for key in ("dtype", "device", "seed")]
    made = _core.Network([source, entries], *options)
    made.predict([np.ones((2, 3), options[0])], [1])


def criterion(**entries):
    made = network()
    optimizer = entries.pop("optimizer")
    made.set_training([entries], [entries], optimizer)
    target = np.array([0, 1]) if entries.get("labels") else two_by_three()
    made.train([two_by_three()], [target])


TRAIN = {
    "inputs": lambda: [two_by_three()],
    "targets": lambda: [np.array([0, 2])],
    "sample_weight": lambda: None,
}
EPOCH = {
    **TRAIN,
    "batch_size": lambda: 2,
    "order": lambda: None,
    "watcher": lambda: None,
    "interval": lambda: 0.0,
    "max_threads": lambda: 0,
}


def call(function, **arguments):
    return function, lambda: {name: make() for name, make in arguments.items()}


def constant(value):
    return lambda: value


RIGHT = [
    call(ops.elementary, name=constant("exp"), x=two_by_three, out=two_by_three),
    call(
        ops.activation_forward,
        name=constant("leaky_relu"),
        x=two_by_three,
        out=two_by_three,
        negative_slope=constant(0.1),
    ),
    call(
        ops.activation_backward,
        dy=two_by_three,
        x=two_by_three,
        name=constant("gelu"),
        out=two_by_three,
    ),
    call(ops.softmax, x=two_by_three, out=two_by_three),
    call(ops.log_softmax_backward, dy=two_by_three, y=two_by_three, out=two_by_three),
    call(
        ops.dense_forward,
        x=two_by_three,
        w=lambda: np.ones((3, 3)),
        b=lambda: np.ones(3),
        activation=constant("elu"),
        out=two_by_three,
        return_context=constant(True),
    ),
    call(
        ops.dense_backward,
        dy=two_by_three,
        context=lambda: ops.dense_forward(two_by_three(), np.ones((3, 3)), return_context=True)[1],
    ),
    call(
        lambda dy, **parts: ops.dense_backward(dy, ops.DenseContext(**parts)),
        dy=two_by_three,
        x=two_by_three,
        w=lambda: np.ones((3, 3)),
        saved=two_by_three,
        has_bias=constant(True),
        activation=constant("tanh"),
        hyper=dict,
    ),
    call(
        ops.dropout,
        x=two_by_three,
        rate=constant(0.5),
        seed=constant(1),
        step=constant(2),
        stream=constant(3),
        out=two_by_three,
    ),
    call(
        ops.batch_norm_forward,
        x=two_by_three,
        gamma=lambda: np.ones(3),
        beta=lambda: np.ones(3),
        running_mean=lambda: np.ones(3),
        running_variance=lambda: np.ones(3),
        training=constant(True),
        momentum=constant(0.1),
        epsilon=constant(1e-5),
    ),
    call(
        ops.layer_norm_forward,
        x=two_by_three,
        gamma=lambda: np.ones(3),
        beta=lambda: np.ones(3),
        epsilon=constant(1e-5),
    ),
    call(
        lambda dy, **parts: ops.layer_norm_backward(dy, ops.NormContext(**parts, per_row=True)),
        dy=two_by_three,
        x=two_by_three,
        gamma=lambda: np.ones(3),
        mean=lambda: np.ones(2),
        inverse_deviation=lambda: np.ones(2),
    ),
    call(
        ops.loss,
        name=constant("softmax_cross_entropy"),
        predictions=two_by_three,
        targets=lambda: np.array([0, 2]),
        reduction=constant("mean"),
        sample_weight=lambda: np.ones(2),
        class_weight=lambda: np.ones(3),
        ignore_index=constant(2),
        gradient=constant(True),
        out=two_by_three,
        label_smoothing=constant(0.1),
    ),
    call(
        ops.loss,
        name=constant("huber"),
        predictions=two_by_three,
        targets=two_by_three,
        reduction=constant("none"),
        sample_weight=lambda: np.ones(2),
        out=two_by_three,
        delta=constant(1.0),
    ),
    (ops.optimizer_step, lambda: with_state("adam")),
    (ops.optimizer_step, lambda: with_state("nadam")),
    call(
        ops.init_optimizer_state,
        name=constant("adagrad"),
        parameters=lambda: [two_by_three()],
        convention=constant("keras"),
        ema=constant(0.5),
        initial_accumulator_value=constant(0.1),
    ),
    call(
        node,
        type=constant("dense"),
        name=constant("d"),
        inputs=lambda: [0],
        config=lambda: {"units": 3},
        shape=lambda: [3],
        dtype=constant("float64"),
        device=constant("cpu"),
        seed=constant(0),
    ),
    call(
        criterion,
        rule=constant("huber"),
        node=constant("d"),
        parameters=lambda: {"delta": 1.0},
        target=constant(0),
        labels=constant(False),
        weight=constant(1.0),
        threshold=constant(0.5),
        optimizer=lambda: {"rule": "lamb", "hyper": {"lr": 0.1}},
    ),
    call(OfNetwork("train"), self_=network, **EPOCH),
    call(OfNetwork("evaluate"), self_=network, **EPOCH),
    call(OfNetwork("compute_gradients"), self_=network, **TRAIN, training=constant(True)),
    call(
        OfNetwork("predict"),
        self_=network,
        inputs=lambda: [two_by_three()],
        nodes=lambda: [1],
        batch_size=constant(2),
        max_threads=constant(1),
    ),
    call(OfNetwork("set_hyper"), self_=network, name=constant("lr"), value=constant(0.1)),
    call(OfNetwork("set_frozen"), self_=network, node=constant("d"), frozen=constant(True)),
]


def memory_of(value):
    """The bytes that a call could change."""
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.dtype != object and value.flags.writeable else b""
    if isinstance(value, (bytearray, array.array)):
        return bytes(value)
    if isinstance(value, dict):
        return [memory_of(v) for v in value.values()]
    if isinstance(value, (list, tuple)):
        return [memory_of(v) for v in value]
    return b""


@pytest.mark.parametrize("place", range(len(RIGHT)))
def test_the_calls_are_right_before_they_are_spoilt(place):
    function, arguments = RIGHT[place]
    function(**arguments())


changes = st.lists(
    st.tuples(st.integers(0, 15), st.integers(0, len(STRANGE) - 1)), min_size=1, max_size=3
)
calls = st.lists(
    st.tuples(st.integers(0, len(RIGHT) - 1), changes),
    min_size=CALLS_PER_EXAMPLE,
    max_size=CALLS_PER_EXAMPLE,
)


def spoilt_call(place, spoiling):
    function, make = RIGHT[place]
    arguments = make()
    names = list(arguments)
    for argument, strange in spoiling:
        arguments[names[argument % len(names)]] = STRANGE[strange]()
    before = memory_of(arguments)
    try:
        with np.errstate(all="ignore"):
            function(**arguments)
    except (ValueError, TypeError, MemoryError):
        # MemoryError: 2**45 units or 2**40 rows are no nonsense, only too large.
        assert memory_of(arguments) == before
        return False
    return True


@hypothesis.given(calls)
@hypothesis.settings(max_examples=EXAMPLES, suppress_health_check=list(hypothesis.HealthCheck))
def test_malformed_calls(batch):
    for place, spoiling in batch:
        spoilt_call(place, spoiling)


def test_every_argument_with_every_strange_thing():
    refused = 0
    for place, (_, make) in enumerate(RIGHT):
        for argument in range(len(make())):
            for strange in range(len(STRANGE)):
                refused += not spoilt_call(place, [(argument, strange)])
    assert refused > 5000
