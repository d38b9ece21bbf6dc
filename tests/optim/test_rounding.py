# SPDX-License-Identifier: Apache-2.0
"""Stochastic rounding to bfloat16: which noise, what it makes of a number, and that it trains."""

import copy

import numpy as np
import pytest

from fusednn import _core, optim
from oracle.layers import philox4x32_10

ml_dtypes = pytest.importorskip("ml_dtypes")

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SIZES = (5, 0, 1, 513, 9000)


# ---- by another hand -----------------------------------------------------------------------------


def noise(seed, step, tensor, which, n):
    """Half-word e % 8 of block e // 8, as rules/rounding.h defines it."""
    blocks = np.arange(-(-n // 8))
    counter = np.zeros((blocks.size, 4), np.uint64)
    counter[:, 0] = blocks
    counter[:, 1] = which << 28
    counter[:, 2] = step
    counter[:, 3] = (1 << 31) + tensor
    words = philox4x32_10(counter, [seed & 0xFFFFFFFF, seed >> 32])
    halves = np.stack([words & 0xFFFF, words >> 16], axis=-1)
    return halves.reshape(-1)[:n].astype(np.float64)


def neighbours(values):
    """The bfloat16 towards zero and the one beyond, of float32 that are finite."""
    low = (values.view(np.uint32) & 0xFFFF0000).view(np.float32)
    high = (low.view(np.uint32) + np.uint32(0x10000)).view(np.float32)
    return low.astype(np.float64), high.astype(np.float64)


def rounded(values, noise):
    """Away from zero as often as the number is near to that side."""
    low, high = neighbours(values)
    share = (values.astype(np.float64) - low) / (high - low)
    return np.where(noise / 65536 >= 1 - share, high, low)


def with_all_bits(rng, n):
    """Finite float32 of every size, of which bfloat16 keeps less than half."""
    exponents = rng.uniform(-120, 120, n)
    return (rng.choice([-1, 1], n) * np.exp2(exponents)).astype(np.float32)


# ---- the compiled step ---------------------------------------------------------------------------


class Halves:
    """bfloat16 tensors by address."""

    def __init__(self, rule, parameters, numbers=None, seed=0, **made):
        self.updater = _core.Updater(rule, dtype="bfloat16", stochastic=True, **made)
        self.parameters = parameters
        self.states = [[np.zeros_like(p) for p in parameters] for _ in self.updater.states]
        starts = self.updater.initial_scalars
        self.scalars = [[np.array(start, np.float32) for _ in parameters] for start in starts]
        self.updater.set_tensors(
            _at(parameters),
            [p.size for p in parameters],
            [_at(state) for state in self.states],
            [_at(scalar) for scalar in self.scalars],
            [0] * len(parameters),
            numbers=numbers,
        )
        self.updater.set_groups([{"seed": seed}])

    def step(self, gradients, lr=1.0, **options):
        self.updater.step(_at(gradients), lr=[lr], **options)

    def bytes(self):
        return b"".join(a.tobytes() for each in (self.parameters, *self.states) for a in each)


def _at(arrays):
    return [0 if a is None else a.__array_interface__["data"][0] for a in arrays]


def halves(rng, n):
    return rng.standard_normal(n).astype(BFLOAT16)


def test_noise_and_rounding_are_what_the_definition_says(isa, rng):
    """p - lr g of p = 0, where the float32 that is rounded is known exactly."""
    seed, numbers = 0x123456789ABCDEF, [3, 0, 9, 70000, 1]
    parameters = [np.zeros(n, BFLOAT16) for n in SIZES]
    ours = Halves("sgd", parameters, numbers, seed)
    for step in (1, 2, 3):
        gradients = [with_all_bits(rng, n).astype(BFLOAT16) for n in SIZES]
        for p in parameters:
            p[...] = 0
        ours.step(gradients, lr=0.3)
        for p, g, number in zip(parameters, gradients, numbers, strict=True):
            exact = -np.float32(0.3) * g.astype(np.float32)
            want = rounded(exact, noise(seed, step, number, 0, p.size))
            np.testing.assert_array_equal(p.astype(np.float64), want)


def test_states_have_noise_of_their_own(rng):
    p, g = np.zeros(999, BFLOAT16), halves(rng, 999)
    ours = Halves("adam", [p], [7], seed=5)
    ours.updater.set_groups([{"seed": 5, "hyper": {"beta1": 0.9, "beta2": 0.999}}])
    ours.step([g])
    wide = g.astype(np.float32)
    first = wide * np.float32(0.1)
    second = np.float32(1 - 0.999) * wide * wide
    for which, (state, exact) in enumerate(zip(ours.states, (first, second), strict=True), 1):
        low, high = neighbours(exact)
        spread = np.abs(high - low)
        want = rounded(exact, noise(5, 1, 7, which, 999))
        off = np.abs(state[0].astype(np.float64) - want)
        assert (off <= spread).all()
        assert np.mean(off > 0) < 0.001  # where the float32 that is rounded is another one


@pytest.mark.parametrize("rule", sorted(_core.optimizers()))
def test_only_neighbours_of_the_wide_step(rule, isa, rng):
    narrow = [halves(rng, n) for n in SIZES]
    wide = [p.astype(np.float32) for p in narrow]
    gradients = [halves(rng, n) for n in SIZES]
    ours = Halves(rule, narrow)
    ours.step(gradients, lr=0.01)
    exact = _core.Updater(rule)
    states = [[np.zeros_like(p) for p in wide] for _ in exact.states]
    scalars = [[np.array(start, np.float32) for _ in wide] for start in exact.initial_scalars]
    exact.set_tensors(
        _at(wide), [p.size for p in wide], [_at(s) for s in states], [_at(s) for s in scalars],
        [0] * len(wide),
    )  # fmt: skip
    exact.set_groups([{}])
    wide_gradients = [g.astype(np.float32) for g in gradients]
    exact.step(_at(wide_gradients), lr=[0.01])
    if rule == "lamb":  # which goes on with the moments as they were stored
        for p, w in zip(narrow, wide, strict=True):
            np.testing.assert_allclose(p.astype(np.float32), w, rtol=0.02, atol=1e-3)
        return
    for got, want in zip([narrow, *ours.states], [wide, *states], strict=True):
        for a, b in zip(got, want, strict=True):
            low, high = neighbours(b)
            found = a.astype(np.float64)
            assert ((found == low) | (found == high)).all()


def test_the_mean_over_seeds_is_the_number(rng):
    seeds = 400
    g = with_all_bits(rng, 64).astype(BFLOAT16)
    exact = (-np.float32(0.3) * g.astype(np.float32)).astype(np.float64)
    found = np.empty((seeds, 64))
    for seed in range(seeds):
        p = np.zeros(64, BFLOAT16)
        Halves("sgd", [p], seed=seed).step([g], lr=0.3)
        found[seed] = p.astype(np.float64)
    low, high = neighbours(exact.astype(np.float32))
    spread = np.abs(high - low)
    off = (found.mean(axis=0) - exact) / spread  # standard deviation of at most 0.5 / sqrt(seeds)
    assert np.abs(off).max() < 5 * 0.5 / seeds**0.5
    assert np.abs(off.mean()) < 5 * 0.5 / (seeds * 64) ** 0.5
    # Nearest even misses it by up to half a spread, always to the same side.
    nearest = (exact.astype(np.float32).astype(BFLOAT16).astype(np.float64) - exact) / spread
    assert np.abs(nearest).max() > 10 * np.abs(off).max() / 3


def test_what_bfloat16_holds_stays_as_it_is(isa):
    """All numbers and infinities; a NaN stays one, also where only its low bits say so."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    p = bits.view(BFLOAT16).copy()
    Halves("sgd", [p], seed=3).step([np.zeros_like(p)], lr=0.0)
    with np.errstate(invalid="ignore"):
        number = ~np.isnan(bits.view(BFLOAT16).astype(np.float32))
    np.testing.assert_array_equal(p.view(np.uint16)[number], bits[number])
    assert np.isnan(p[~number].astype(np.float32)).all()
    lost = np.full(64, np.inf, np.float32).astype(BFLOAT16)
    Halves("sgd", [lost]).step([lost.copy()])
    assert np.isnan(lost.astype(np.float32)).all()  # inf - inf
    grown = np.full(64, 3e38, np.float32).astype(BFLOAT16)
    Halves("sgd", [grown]).step([-grown.copy()])
    assert np.isposinf(grown.astype(np.float32)).all()


def test_noise_follows_from_seed_step_and_place_alone(isa, threads, rng):
    """Not from the number of threads, from other tensors, or from missing gradients."""
    p, g = halves(rng, 70_000), halves(rng, 70_000)
    other = halves(rng, 300)
    together = Halves("momentum", [other.copy(), p.copy()], [4, 9], seed=1)
    alone = Halves("momentum", [p.copy()], [9], seed=1)
    for missing in (True, False, True):
        with threads(3):
            together.step([None if missing else other, g], lr=0.01)
        with threads(1):
            alone.step([g], lr=0.01)
    assert together.parameters[1].tobytes() == alone.parameters[0].tobytes()
    assert together.states[0][1].tobytes() == alone.states[0][0].tobytes()
    again = Halves("momentum", [p.copy()], [9], seed=1)
    another = Halves("momentum", [p.copy()], [9], seed=2)
    elsewhere = Halves("momentum", [p.copy()], [8], seed=1)
    for one in (again, another, elsewhere):
        for _ in range(3):
            one.step([g], lr=0.01)
    assert again.bytes() == alone.bytes()
    assert another.bytes() != alone.bytes() != elsewhere.bytes()


def test_the_updater_refuses():
    for made in (
        {"dtype": "float32"},
        {"dtype": "float16"},
        {"dtype": "bfloat16", "masters": True},
    ):
        with pytest.raises(ValueError, match="stochastic: rounding at random is for bfloat16"):
            _core.Updater("sgd", stochastic=True, **made)


# ---- fusednn.optim -------------------------------------------------------------------------------

NAMES = [name for name in optim.__all__ if name != "Optimizer"]


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_state_goes_on_with_the_same_bits(name, rng):
    parameters = [halves(rng, n) for n in SIZES]
    gradients = [[halves(rng, n) for n in SIZES] for _ in range(4)]
    options = {"stochastic_rounding": True, "seed": 11}
    opt = getattr(optim, name)(parameters, lr=0.01, **options)
    for each in gradients[:2]:
        opt.step(each)
    saved, kept = copy.deepcopy(opt.state_dict()), [p.copy() for p in parameters]
    assert saved["param_groups"][0]["stochastic_rounding"] is True
    assert saved["param_groups"][0]["seed"] == 11
    for each in gradients[2:]:
        opt.step(each)
    resumed = getattr(optim, name)(kept, lr=0.5)
    resumed.load_state_dict(saved)
    for each in gradients[2:]:
        resumed.step(each)
    for one, other in zip(parameters, kept, strict=True):
        assert one.tobytes() == other.tobytes()
    for one, other in zip(opt.state, resumed.state, strict=True):
        for key in one:
            assert one[key].tobytes() == other[key].tobytes()


def test_an_option_of_a_group(rng):
    """Beside float32 in a group without; and it may be switched off between steps."""
    p, wide = halves(rng, 1000), rng.standard_normal(1000).astype(np.float32)
    opt = optim.SGD(
        [{"params": [p]}, {"params": [wide], "stochastic_rounding": False}],
        lr=1e-3,
        stochastic_rounding=True,
    )
    before, right = p.copy(), wide - np.float32(1e-3) * np.ones(1000, np.float32)
    opt.step([np.ones(1000, BFLOAT16), np.ones(1000, np.float32)])
    np.testing.assert_allclose(wide, right, rtol=1e-6)
    moved = np.mean(p != before)
    assert 0.1 < moved < 0.9  # to nearest nearly none of them moves
    opt.param_groups[0]["stochastic_rounding"] = False
    before = p.copy()
    opt.step([np.ones(1000, BFLOAT16), None])
    large = np.abs(before.astype(np.float32)) > 0.5  # where half a unit is more than the step
    np.testing.assert_array_equal(p[large], before[large])


def test_what_makes_no_sense_is_refused(rng):
    wide, narrow = np.zeros(3, np.float32), np.zeros(3, BFLOAT16)
    with pytest.raises(ValueError, match=r"for bfloat16 parameters, parameters\[1\] is float32"):
        optim.Adam([narrow, wide], stochastic_rounding=True)
    with pytest.raises(ValueError, match=r"parameters\[0\] is float16"):
        optim.Adam([np.zeros(3, np.float16)], stochastic_rounding=True)
    with pytest.raises(ValueError, match="master_weights=True: a float32 copy loses nothing"):
        optim.Adam([narrow], stochastic_rounding=True, master_weights=True)
    with pytest.raises(TypeError, match="stochastic_rounding must be True or False"):
        optim.Adam([narrow], stochastic_rounding="yes")
    with pytest.raises(TypeError, match="seed must be an integer"):
        optim.Adam([narrow], stochastic_rounding=True, seed=0.5)
    with pytest.raises(ValueError, match="seed must be at least 0"):
        optim.Adam([narrow], stochastic_rounding=True, seed=-1)
    opt = optim.Adam([narrow])
    opt.param_groups[0]["seed"] = None
    with pytest.raises(TypeError, match="seed must be an integer"):
        opt.step([narrow.copy()])


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_it_learns_where_rounding_to_nearest_stalls(name, rng):
    """A linear regression with steps of less than half a unit in the last place."""
    x = rng.standard_normal((256, 32)).astype(np.float32)
    truth = rng.uniform(1, 2, 32).astype(np.float32)
    target = x @ truth
    losses = {}
    for way in ("nearest", "stochastic"):
        w = np.full(32, 1.0, np.float32).astype(BFLOAT16)
        decay = {} if name == "SGD" else {"weight_decay": 0.0}
        opt = getattr(optim, name)(
            [w], lr=1e-3, stochastic_rounding=way == "stochastic", seed=1, **decay
        )
        for _ in range(3000):
            error = x @ w.astype(np.float32) - target
            opt.step([(x.T @ error / len(x)).astype(BFLOAT16)])
        losses[way] = float(np.mean((x @ w.astype(np.float32) - target) ** 2))
    assert losses["nearest"] > 1.0
    assert losses["stochastic"] < 0.02 * losses["nearest"]


def test_second_moments_follow_gradients_that_fall():
    """0.999 v is nearer to v than to any other bfloat16: to nearest, v never falls."""
    n = 4000
    found = {}
    for way in (False, True):
        p = np.zeros(n, BFLOAT16)
        opt = optim.Adam([p], lr=1e-3, stochastic_rounding=way)
        opt.step([np.full(n, 30.0, BFLOAT16)])
        quiet = np.zeros(n, BFLOAT16)
        for _ in range(1000):
            opt.step([quiet])
        found[way] = float(opt.state[0]["exp_avg_sq"].astype(np.float64).mean())
    start = 0.001 * 30**2
    np.testing.assert_allclose(found[False], start, rtol=0.01)
    np.testing.assert_allclose(found[True], start * 0.999**1000, rtol=0.02)


# ---- gradients cleared in the same pass ----------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"max_norm": 1.0}, {"ema": 0.9}])
def test_gradients_are_cleared_by_the_step(options, dtype, rng):
    shapes = [(3, 4), (5000,), ()]
    start = [np.asarray(rng.standard_normal(s)).astype(dtype) for s in shapes]
    gradients = [np.asarray(rng.standard_normal(s)).astype(dtype) for s in shapes]
    kept = [g.copy() for g in gradients]
    ours, right = ([p.copy() for p in start] for _ in "or")
    optim.Adam(ours, **options).step(gradients, clear_gradients=True)
    optim.Adam(right, **options).step(kept)
    for p, q, g in zip(ours, right, gradients, strict=True):
        np.testing.assert_array_equal(p, q)
        assert not g.any()


def test_what_cannot_be_cleared_is_refused(rng):
    p = [np.zeros((4, 6), np.float32), np.zeros((4, 6), np.float32)]
    opt = optim.SGD(p, lr=1.0)
    frozen = np.ones((4, 6), np.float32)
    frozen.flags.writeable = False
    shared = np.ones(30, np.float32)
    for gradients, message in [
        ([frozen, None], r"gradients\[0\]: is read-only and cannot be cleared"),
        ([None, np.ones((6, 4), np.float32).T], r"gradients\[1\].*a copy would be cleared"),
        ([shared[:24].reshape(4, 6), shared[6:].reshape(4, 6)], "two of them share memory"),
    ]:
        with pytest.raises(ValueError, match=message):
            opt.step(gradients, clear_gradients=True)
        assert not p[0].any()
        assert not p[1].any()
    opt.step([shared[:24].reshape(4, 6), shared[6:].reshape(4, 6)])  # reading them is no problem
