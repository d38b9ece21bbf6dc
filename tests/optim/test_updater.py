# SPDX-License-Identifier: Apache-2.0
"""The native updater: tensors by address, groups, narrow storage, and what it refuses."""

import numpy as np
import pytest

from fusednn import _core, ops


class Tensors:
    """Parameters with all that an updater keeps of them."""

    def __init__(self, rule, parameters, groups=None, **options):
        self.updater = _core.Updater(rule, dtype=str(parameters[0].dtype), **options)
        self.parameters = parameters
        self.states = [[np.zeros_like(p) for p in parameters] for _ in self.updater.states]
        self.scalars = [
            [np.full((), name == "mu_product", np.float32) for _ in parameters]
            for name in self.updater.scalars
        ]
        self.updater.set_tensors(
            addresses(parameters),
            [p.size for p in parameters],
            [addresses(state) for state in self.states],
            [addresses(scalar) for scalar in self.scalars],
            groups or [0] * len(parameters),
        )

    def step(self, gradients, lr=(1e-2,), **options):
        return self.updater.step(addresses(gradients), lr=list(lr), **options)

    def bytes(self):
        arrays = [self.parameters, *self.states, *self.scalars]
        return b"".join(a.tobytes() for each in arrays for a in each)


def addresses(arrays):
    return [0 if a is None else a.ctypes.data for a in arrays]


def arrays(rng, dtype, sizes=(5, 0, 1, 4100)):
    return [rng.standard_normal(n).astype(dtype) for n in sizes]


@pytest.mark.parametrize("rule", sorted(_core.optimizers()))
def test_is_optimizer_step(rule, dtype, rng):
    ours = Tensors(rule, arrays(rng, dtype))
    ours.updater.set_groups([{"weight_decay": 0.1, "maximize": True}])
    theirs = [p.copy() for p in ours.parameters]
    state = ops.init_optimizer_state(rule, theirs)
    for step in (1, 2, 3):
        gradients = arrays(rng, dtype)
        norm = ours.step(gradients, max_norm=1.0)
        want = np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in gradients))
        np.testing.assert_allclose(norm, want)
        ops.optimizer_step(
            rule,
            theirs,
            gradients,
            state,
            step=step,
            lr=1e-2,
            weight_decay=0.1,
            maximize=True,
            global_clip_norm=1.0,
        )
    for ours_p, p in zip(ours.parameters, theirs, strict=True):
        # mu_product is float32 here and float64 there
        np.testing.assert_allclose(ours_p, p, rtol=1e-6 if rule == "nadam" else 0)
    assert all(step == 3 for step in ours.scalars[0])


def test_groups_and_missing_gradients(dtype, rng):
    """Each tensor has its own group and its own count of steps."""
    ours = Tensors("adam", arrays(rng, dtype, (7, 8, 9)), [0, 1, 0])
    ours.updater.set_groups([{}, {"hyper": {"beta1": 0.5}, "weight_decay": 0.1}])
    alone = [Tensors("adam", [p.copy()]) for p in ours.parameters]
    for i, each in enumerate(alone):
        each.updater.set_groups([{"hyper": {"beta1": 0.5}, "weight_decay": 0.1} if i == 1 else {}])
    for missing in (None, 0, 2, 1, 0, None):
        gradients = arrays(rng, dtype, (7, 8, 9))
        if missing is not None:
            gradients[missing] = None
        ours.step(gradients, lr=(0.1, 0.2))
        for i, each in enumerate(alone):
            each.step([gradients[i]], lr=[(0.1, 0.2)[i % 2]])
    for i, each in enumerate(alone):
        np.testing.assert_array_equal(ours.parameters[i], each.parameters[0])
    assert [int(step) for step in ours.scalars[0]] == [4, 5, 5]


def test_square_norm(dtype, rng):
    ours = Tensors("sgd", arrays(rng, dtype))
    gradients = arrays(rng, dtype)
    want = 9 * sum(np.sum(np.float64(g) ** 2) for g in gradients)
    got = ours.updater.square_norm(addresses(gradients), gradient_scale=-3.0)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert ours.updater.square_norm([0] * 4) == 0


def test_refuses(rng):
    ours = Tensors("nadam", arrays(rng, np.float32))
    gradients = arrays(rng, np.float32)
    ours.updater.set_groups([{}])
    before = ours.bytes()
    with pytest.raises(ValueError, match="gradients: got 3, expected 4"):
        ours.step(gradients[:3])
    with pytest.raises(ValueError, match="lr: got 2, expected 1"):
        ours.step(gradients, lr=(1, 2))
    with pytest.raises(ValueError, match="max_norm=-1"):
        ours.step(gradients, max_norm=-1)
    with pytest.raises(TypeError):
        ours.updater.step([None] * 4, lr=[0.1])
    ours.scalars[0][3][...] = np.nan
    with pytest.raises(ValueError, match="step="):
        ours.step(gradients)
    ours.scalars[0][3][...] = 0
    with pytest.raises(ValueError, match="max_norm of step"):
        ours.updater.set_groups([{"clip_norm": 1.0}])
    with pytest.raises(ValueError, match="unknown"):
        ours.updater.set_groups([{"hyper": {"momentun": 1.0}}])
    ours.updater.set_groups([])
    with pytest.raises(ValueError, match="in group 0 of 0"):
        ours.step(gradients, lr=())
    assert ours.bytes() == before
    with pytest.raises(ValueError, match=r"parameters\[0\]: is null"):
        ours.updater.set_tensors([0], [1], [[1], [1]], [[1], [1]], [0])
    with pytest.raises(ValueError, match="ema: must be given if and only if"):
        ours.updater.set_tensors([], [], [[], []], [[], []], [], ema=[])


# ---- narrow storage -----------------------------------------------------------------------------


# bfloat16 is the upper half of a float32: by another hand, through integers.
def from_bfloat16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bfloat16(values):
    """To nearest, ties to even, exactly: among the two neighbours in float64."""
    below = (values.view(np.uint32) >> 16).astype(np.uint16)  # towards zero
    exact = values.astype(np.float64)
    low = from_bfloat16(below).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        high = from_bfloat16(below + np.uint16(1)).astype(np.float64)
        high = np.where(np.isinf(high), np.sign(exact) * 2.0**128, high)
        down, up = np.abs(exact - low), np.abs(high - exact)
        nearer = (up < down) | ((up == down) & (below % 2 == 1))
    result = np.where(nearer & np.isfinite(exact), below + np.uint16(1), below).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), result)


NARROW = {
    "bfloat16": (from_bfloat16, to_bfloat16),
    "float16": (
        lambda bits: bits.view(np.float16).astype(np.float32),
        lambda values: values.astype(np.float16).view(np.uint16),
    ),
}
EVERY_HALF = np.arange(1 << 16, dtype=np.uint16)


class NarrowTensors(Tensors):
    def __init__(self, rule, dtype, parameters, *, ema=None, masters=None):
        self.updater = _core.Updater(
            rule, dtype=dtype, ema=ema is not None, masters=masters is not None
        )
        self.parameters, self.masters = parameters, masters
        self.states = [[np.zeros_like(p) for p in parameters] for _ in self.updater.states]
        self.scalars = [
            [np.array(start, np.float32) for _ in parameters]
            for start in self.updater.initial_scalars
        ]
        self.updater.set_tensors(
            addresses(parameters),
            [p.size for p in parameters],
            [addresses(state) for state in self.states],
            [addresses(scalar) for scalar in self.scalars],
            [0] * len(parameters),
            ema=None if ema is None else addresses(ema),
            masters=None if masters is None else addresses(masters),
        )
        self.updater.set_groups([{"ema_decay": 0.5} if ema else {}])


@pytest.mark.parametrize("dtype", NARROW)
def test_every_narrow_number_survives(dtype, isa):
    """Widened and rounded back: p - 0 * g."""
    p = EVERY_HALF.copy()
    NarrowTensors("sgd", dtype, [p]).step([np.zeros_like(p)], lr=[0.0])
    widen, _ = NARROW[dtype]
    with np.errstate(invalid="ignore"):
        number = ~np.isnan(widen(EVERY_HALF))
    np.testing.assert_array_equal(p[number], EVERY_HALF[number])
    with np.errstate(invalid="ignore"):
        assert np.isnan(widen(p[~number])).all()


@pytest.mark.parametrize("dtype", NARROW)
def test_rounds_to_nearest_even(dtype, isa, rng):
    """Masters of every size, ties and overflows among them, as rounded copies."""
    widen, round_to = NARROW[dtype]
    with np.errstate(invalid="ignore", over="ignore"):
        exact = widen(EVERY_HALF)
        exact = exact[np.isfinite(exact)]
        ties = np.sort(exact).astype(np.float64)
        ties = ((ties[1:] + ties[:-1]) / 2).astype(np.float32)
        any_bits = rng.integers(0, 1 << 32, 200_001, dtype=np.uint32).view(np.float32)
        edges = [65504, 65519.996, 65520, 65536, 3.3895e38, 3.4e38, np.inf, np.nan, 2.0**-25,
                 2.0**-24, 1e-45, 0]  # fmt: skip
        masters = np.concatenate([ties, np.nextafter(ties, np.float32(np.inf)),
                                  np.nextafter(ties, np.float32(-np.inf)), any_bits,
                                  np.float32(edges), -np.float32(edges)])  # fmt: skip
        want = round_to(masters)
    p = np.zeros(masters.size, np.uint16)
    NarrowTensors("sgd", dtype, [p], masters=[masters]).step([np.zeros_like(p)], lr=[0.0])
    number = ~np.isnan(masters)
    np.testing.assert_array_equal(p[number], want[number])
    with np.errstate(invalid="ignore"):
        assert np.isnan(widen(p[~number])).all()


@pytest.mark.parametrize("rule", sorted(_core.optimizers()))
@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_is_the_wide_step_rounded(rule, dtype, isa, rng):
    widen, round_to = NARROW[dtype]
    sizes = (5, 0, 1, 513, 9000)
    narrow = [round_to(a) for a in arrays(rng, np.float32, sizes)]
    average = [widen(p) for p in narrow]
    ours = NarrowTensors(rule, dtype, narrow, ema=average)
    wide = Tensors(rule, [widen(p) for p in narrow])
    wide.updater.set_groups([{}])
    for _ in range(3):
        gradients = [round_to(a) for a in arrays(rng, np.float32, sizes)]
        cleared = [g.copy() for g in gradients]
        before = [a.copy() for a in average]
        norm = ours.step(cleared, max_norm=1.0, clear_gradient=True)
        want = wide.step([widen(g) for g in gradients], max_norm=1.0)
        np.testing.assert_allclose(norm, want, rtol=1e-12)
        assert not any(g.any() for g in cleared)
        every = [(ours.parameters, wide.parameters), *zip(ours.states, wide.states, strict=True)]
        if rule != "lamb":  # which goes on with the moments as they were stored
            for got, exact in every:
                for a, b in zip(got, exact, strict=True):
                    np.testing.assert_array_equal(a, round_to(b))
        for got, old, p in zip(average, before, wide.parameters, strict=True):
            if rule != "lamb":
                np.testing.assert_allclose(got, 0.5 * old + 0.5 * p, rtol=2e-6, atol=1e-6)
        # From here on the wide one knows no more than the narrow one.
        for got, exact in every:
            for a, b in zip(got, exact, strict=True):
                b[...] = widen(a)


@pytest.mark.parametrize("dtype", NARROW)
def test_masters_are_what_steps_add_up_in(dtype, rng):
    widen, round_to = NARROW[dtype]
    exact = Tensors("adam", arrays(rng, np.float32))
    masters = [p.copy() for p in exact.parameters]
    ours = NarrowTensors("adam", dtype, [round_to(p) for p in masters], masters=masters)
    exact.updater.set_groups([{}])
    gradients = [round_to(g) for g in arrays(rng, np.float32)]
    ours.step(gradients)
    exact.step([widen(g) for g in gradients])
    for p, master, want in zip(ours.parameters, masters, exact.parameters, strict=True):
        np.testing.assert_array_equal(master, want)
        np.testing.assert_array_equal(p, round_to(want))
    with pytest.raises(ValueError, match="masters: float32 copies"):
        _core.Updater("adam", dtype="float32", masters=True)


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_lamb_steps_as_far_as_its_norms_say(dtype, isa, rng):
    """Second moments that round to zero make a direction huge, but not the step."""
    widen, round_to = NARROW[dtype]
    p = round_to(rng.standard_normal(3000).astype(np.float32))
    ours = NarrowTensors("lamb", dtype, [p], masters=[widen(p)])
    before = ours.masters[0].copy()
    ours.step([round_to(np.full(3000, 1e-3, np.float32))], lr=[0.5])
    moved = np.linalg.norm(ours.masters[0].astype(np.float64) - before)
    np.testing.assert_allclose(moved, 0.5 * np.linalg.norm(before.astype(np.float64)), rtol=1e-5)
