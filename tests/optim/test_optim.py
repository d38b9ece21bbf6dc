# SPDX-License-Identifier: Apache-2.0
"""fusednn.optim: groups, what is taken and what is refused, saving, and nothing half-changed."""

import array
import copy
import doctest
import importlib
import inspect

import numpy as np
import pytest

import oracle
from fusednn import _core, optim

NAMES = [name for name in optim.__all__ if name != "Optimizer"]
SHAPES = [(17,), (), (3, 5), (0,), (1,), (4099,)]


def arrays(rng, dtype=np.float32, shapes=SHAPES):
    return [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in shapes]


def everything(opt, parameters):
    """All bytes that a step may change."""
    states = [v for entry in opt.state for _, v in sorted(entry.items())]
    return [a.tobytes() for a in (*parameters, *states)]


# ---- steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Lion", "LAMB"])
@pytest.mark.parametrize("decay", [0, 0.1])
def test_those_that_torch_lacks(name, decay, dtype, isa, rng):
    p = arrays(rng, dtype)
    opt = getattr(optim, name)(p, lr=0.01, weight_decay=decay)
    rivals = [
        oracle.OPTIMIZERS[name.lower()](
            lr=0.01, weight_decay=decay, decoupled_weight_decay=name == "Lion"
        )
        for _ in p
    ]
    wide = [a.astype(np.float64) for a in p]
    for _ in range(100):
        gradients = arrays(rng, dtype)
        opt.step(gradients)
        wide = [r.step(w, g.astype(np.float64)) for r, w, g in zip(rivals, wide, gradients,
                                                                   strict=True)]  # fmt: skip
    for ours, want in zip(p, wide, strict=True):
        close = 2e-6 if dtype == np.float32 else 1e-12
        np.testing.assert_allclose(ours, want, rtol=close, atol=close)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_that_are_missing(name, rng):
    p = arrays(rng)
    opt = getattr(optim, name)(p)
    before = [a.copy() for a in p]
    opt.step([None, *arrays(rng)[1:-1], None])
    assert (p[0] == before[0]).all()
    assert (p[5] == before[5]).all()
    assert (p[1] != before[1]).all()
    assert [int(entry["step"]) for entry in opt.state] == [0, 1, 1, 1, 1, 0]
    opt.step([None] * 6)
    assert [int(entry["step"]) for entry in opt.state] == [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_stays_where_it_is(name, bad, isa):
    p, g = np.ones(9, np.float32), np.full(9, 0.5, np.float32)
    g[3] = bad
    getattr(optim, name)([p]).step([g])
    others = np.delete(p, 3)
    if name != "LAMB":  # which looks at the norm of the whole array
        assert np.isfinite(others).all()
        assert (others < 1).all()
    if np.isnan(bad):
        assert np.isnan(p[3])


@pytest.mark.parametrize("name", NAMES)
def test_same_bits_for_any_number_of_threads(name, rng):
    before = _core.num_threads()
    start = arrays(rng, shapes=[(300_001,), (70_000,), (3,)])
    gradients = arrays(rng, shapes=[(300_001,), (70_000,), (3,)])
    results = []
    for n in (1, 2, 3, 4):
        _core.set_num_threads(n)
        try:
            p = [a.copy() for a in start]
            opt = getattr(optim, name)(p, max_norm=1.0, ema=0.9)
            for _ in range(3):
                opt.step(gradients)
        finally:
            _core.set_num_threads(before)
        results.append(everything(opt, p))
    assert all(each == results[0] for each in results)


def test_groups(rng):
    """Options of their own; a group that joins later begins at step 1."""
    shapes = [(7,), (2, 3), (5,)]
    p, alone = arrays(rng, shapes=shapes), None
    alone = [a.copy() for a in p]
    opt = optim.Adam([{"params": [p[0]], "lr": 0.1}, {"params": [p[1]], "amsgrad": True}])
    rivals = [optim.Adam([alone[0]], lr=0.1), optim.Adam([alone[1]], amsgrad=True),
              optim.Adam([alone[2]], betas=(0.5, 0.5))]  # fmt: skip
    for step in range(6):
        if step == 3:
            opt.add_param_group({"params": [p[2]], "betas": (0.5, 0.5)})
        if step == 4:
            opt.param_groups[0]["lr"] = rivals[0].param_groups[0]["lr"] = 0.01
            opt.param_groups[2]["weight_decay"] = rivals[2].param_groups[0]["weight_decay"] = 0.1
        gradients = arrays(rng, shapes=shapes)[: 2 + (step >= 3)]
        opt.step(gradients)
        for rival, g in zip(rivals, gradients, strict=False):
            rival.step([g])
    for ours, want in zip(p, alone, strict=True):
        np.testing.assert_array_equal(ours, want)


def test_momentum_that_is_switched_on(rng):
    p, g = np.ones(3), np.full(3, 0.5)
    opt = optim.SGD([p], lr=1.0, dampening=0.9)
    opt.step([g])
    opt.param_groups[0]["momentum"] = 0.5
    opt.step([g])  # the first in the buffer: not dampened
    np.testing.assert_array_equal(p, 0)
    opt.step([g])
    np.testing.assert_allclose(p, -(0.25 + 0.05))


def test_mixed_precision_is_one_norm(rng):
    p = [*arrays(rng, np.float32, [(50,)]), *arrays(rng, np.float64, [(60,)]),
         *arrays(rng, np.float16, [(70,)])]  # fmt: skip
    start = [a.astype(np.float64) for a in p]
    g = [rng.standard_normal(a.shape).astype(a.dtype) for a in p]
    norm = np.sqrt(sum(np.sum(each.astype(np.float64) ** 2) for each in g))
    opt = optim.SGD(p, lr=1.0, max_norm=2.0)
    np.testing.assert_allclose(opt.step(g), norm, rtol=1e-12)
    for after, before, each in zip(p, start, g, strict=True):
        want = before - each.astype(np.float64) * (2 / (norm + 1e-6))
        np.testing.assert_allclose(after, want, rtol=1e-3 if after.dtype == np.float16 else 1e-6)


def test_nothing_changes_when_a_later_bucket_is_refused():
    p = [np.ones(3, np.float32), np.ones(3)]
    opt = optim.SGD([{"params": [each]} for each in p])
    gradients = [np.ones_like(each) for each in p]
    opt.param_groups[1]["lr"] = "low"
    with pytest.raises(TypeError, match="lr must be a number"):
        opt.step(gradients)
    opt.param_groups[1]["lr"], opt.max_norm = 1.0, -1
    with pytest.raises(ValueError, match="max_norm must be"):
        opt.step(gradients)
    assert (p[0] == 1).all()
    assert (p[1] == 1).all()


def test_averages(dtype, rng):
    p = arrays(rng, dtype)
    opt = optim.Adam(p, lr=0.1, ema=0.9)
    want = [a.astype(np.float64) for a in p]
    for _ in range(20):
        opt.step(arrays(rng, dtype))
        want = [oracle.ema(w, a.astype(np.float64), 0.9) for w, a in zip(want, p, strict=True)]
    for ours, each in zip(opt.averages, want, strict=True):
        np.testing.assert_allclose(ours, each, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="no averages are kept"):
        optim.Adam(p).averages  # noqa: B018


def test_float16_with_and_without_master_weights():
    """Steps of a hundredth of what rounds to another number are lost, or add up."""
    tiny = 2.0**-17
    lost, kept = np.ones(40, np.float16), np.ones(40, np.float16)
    without = optim.SGD([lost], lr=tiny)
    with_master = optim.SGD([kept], lr=tiny, master_weights=True)
    gradient = np.full(40, -1, np.float16)
    for _ in range(200):
        without.step([gradient])
        with_master.step([gradient])
    assert (lost == 1).all()
    np.testing.assert_array_equal(with_master.state[0]["master"], np.float32(1 + 200 * tiny))
    np.testing.assert_array_equal(kept, with_master.state[0]["master"].astype(np.float16))


# ---- what is taken, what is refused --------------------------------------------------------------


def test_any_order_of_the_axes(rng):
    base = rng.standard_normal((4, 5, 6))
    for axes in [(0, 1, 2), (2, 0, 1), (1, 2, 0)]:
        p = base.copy().transpose(axes)
        g = rng.standard_normal(p.shape)
        want = p - 0.5 * g
        optim.SGD([p], lr=0.5).step([g])
        np.testing.assert_array_equal(p, want)
        optim.SGD([p], lr=0.5).step([np.repeat(g, 2, axis=1)[:, ::2]])
        np.testing.assert_allclose(p, want - 0.5 * g)


def test_buffer_protocol():
    p, g = array.array("d", [1, 2]), array.array("d", [2, 2])
    optim.SGD([p], lr=0.25).step([g])
    assert list(p) == [0.5, 1.5]


REFUSED = [
    (lambda: [np.ones(3, np.int64)], TypeError, r"parameters\[0\].*int64.*expected float32"),
    (lambda: [np.ones(3, complex)], TypeError, r"parameters\[0\]"),
    (lambda: [np.ones(3, ">f4")], TypeError, r"parameters\[0\]"),
    (lambda: [[1.0, 2.0]], TypeError, r"parameters\[0\].*in place"),
    (lambda: [1.0], TypeError, r"parameters\[0\].*in place"),
    (lambda: [np.float32(1)], ValueError, "read-only"),
    (lambda: [np.broadcast_to(1.0, 3)], ValueError, "read-only"),
    (lambda: [np.ones(6)[::2]], ValueError, "without gaps or repetition"),
    (lambda: [np.ones(6)[::-1]], ValueError, "without gaps or repetition"),
    (lambda: [np.lib.stride_tricks.as_strided(np.ones(1), (3,), (0,))], ValueError, "repetition"),
    (lambda: [np.ones(3)] * 2, ValueError, r"parameters\[0\] and parameters\[1\] share memory"),
    (lambda: np.ones(3), TypeError, "params must be a list of arrays, got ndarray"),
    (lambda: [], ValueError, "params is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("params", "error", "match"), REFUSED)
def test_refused_parameters(params, error, match):
    with pytest.raises(error, match=match):
        optim.Adam(params())


def test_refuses_jax():
    jax = pytest.importorskip("jax")
    with pytest.raises(ValueError, match=r"parameters\[0\]: is read-only"):
        optim.Adam([jax.numpy.ones(3, "float32")])
    p = np.ones(3, np.float32)
    optim.SGD([p], lr=0.5).step([jax.numpy.ones(3, "float32")])  # a gradient is only read
    assert p.tolist() == [0.5] * 3


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"learning_rate": 1}, TypeError, r"Adam\(\) has no argument 'learning_rate'; use lr"),
        ({"beta_1": 1}, TypeError, "use betas"),
        ({"clipnorm": 1}, TypeError, "no argument 'clipnorm'"),
        ({"lr": -1}, ValueError, "lr must be"),
        ({"lr": "fast"}, TypeError, "lr must be a number"),
        ({"betas": (0.9, 1.0)}, ValueError, r"betas\[1\]"),
        ({"betas": 0.9}, TypeError, "betas must be two numbers"),
        ({"amsgrad": "yes"}, TypeError, "amsgrad must be True or False"),
        ({"max_norm": -1}, ValueError, "max_norm must be"),
        ({"ema": 1.0}, ValueError, "ema must be"),
    ],
)
def test_refused_options(options, error, match):
    with pytest.raises(error, match=match):
        optim.Adam([np.ones(3)], **options)


def test_refused_nesterov():
    with pytest.raises(ValueError, match="nesterov=True needs a momentum"):
        optim.SGD([np.ones(3)], nesterov=True)


def test_nothing_changes_when_a_step_is_refused(rng):
    p = arrays(rng)
    opt = optim.Adam(p, max_norm=1.0)
    opt.step(arrays(rng))
    before, good = everything(opt, p), arrays(rng)
    bad = [
        (good[:5], ValueError, "gradients: got 5, expected 6"),
        ([*good[:5], good[5][:9]], ValueError, r"gradients\[5\]: has shape \(9,\)"),
        ([*good[:5], good[5].astype(float)], TypeError, r"gradients\[5\].*float64.*float32"),
        ([*good[:5], p[5]], ValueError, r"gradients\[5\] shares memory with parameters\[5\]"),
        (good[5], TypeError, "gradients must be a list of arrays"),
        ([*good[:5], "none"], TypeError, r"gradients\[5\]"),
    ]
    for gradients, error, match in bad:
        with pytest.raises(error, match=match):
            opt.step(gradients)
    for key, value in {"betas": (1.0, 1.0), "lr": "low", "eps": -1}.items():
        kept = opt.param_groups[0][key]
        opt.param_groups[0][key] = value
        with pytest.raises((ValueError, TypeError)):
            opt.step(good)
        opt.param_groups[0][key] = kept
    with pytest.raises(ValueError, match="share memory"):
        opt.add_param_group({"params": [p[5][:3]]})
    with pytest.raises(TypeError, match="no option 'momentun'"):
        opt.add_param_group({"params": [np.ones(3)], "momentun": 1})
    assert everything(opt, p) == before
    assert len(opt.param_groups) == 1
    opt.step(good)


# ---- saving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_goes_on_bit_for_bit(name, dtype, rng):
    p = arrays(rng, dtype)
    opt = getattr(optim, name)(p, ema=0.9)
    for _ in range(5):
        opt.step(arrays(rng, dtype))
    saved, q = copy.deepcopy(opt.state_dict()), [a.copy() for a in p]
    fresh = getattr(optim, name)(q, lr=77.0, ema=0.9)
    fresh.load_state_dict(saved)
    for _ in range(5):
        g = arrays(rng, dtype)
        opt.step(g)
        fresh.step(g)
    assert everything(opt, p) == everything(fresh, q)
    for i, entry in saved["state"].items():
        assert entry["step"] == 5, i


def test_load_refuses_and_changes_nothing(rng):
    p = arrays(rng)
    opt = optim.Adam(p)
    opt.step(arrays(rng))
    before = everything(opt, p)
    good = opt.state_dict()

    def broken(change):
        state = copy.deepcopy(good)
        change(state)
        return state

    cases = [
        (lambda s: s["param_groups"].append(s["param_groups"][0]), "2 groups"),
        (lambda s: s["param_groups"][0]["params"].pop(), "5 parameters"),
        (lambda s: s["state"][2].update(exp_avg=np.zeros(3)), "'exp_avg'.*shape"),
        (lambda s: s["param_groups"][0].update(lr=-1), "lr must be"),
    ]
    for change, match in cases:
        with pytest.raises(ValueError, match=match):
            opt.load_state_dict(broken(change))
    assert everything(opt, p) == before


# ---- documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fusednn.optim", "fusednn.optim.adam", "fusednn.optim.classic"])
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_name_every_argument(name):
    kind = getattr(optim, name)
    text = inspect.getdoc(kind)
    if name == "AdamW":
        text += inspect.getdoc(optim.Adam)
    for argument in inspect.signature(kind).parameters:
        assert argument in text, (name, argument)
    assert ">>>" in text
    assert repr(kind([np.ones(1)])).startswith(f"{name}(lr=")
