# SPDX-License-Identifier: Apache-2.0
"""Augmentation: pixels against NumPy and SciPy, layers against Keras, and the way into fit."""

import warnings

import numpy as np
import pytest
from tests import oracle
from tests.rivals import import_keras

import fusednn
from fusednn import _core, layers

SEED, STREAM, STEP = 2**40 + 7, 3, 5
SCIPY_MODES = {
    "reflect": "reflect", "wrap": "grid-wrap", "constant": "grid-constant", "nearest": "nearest",
}  # fmt: skip


def words(samples, seed=SEED, step=STEP, stream=STREAM):
    """Return the eight random words of each sample."""
    counter = np.zeros((2 * samples, 4), np.uint64)
    counter[:, 0], counter[:, 2], counter[:, 3] = np.arange(2 * samples), step, stream
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint64)
    return oracle.philox4x32_10(counter, key).reshape(samples, 8).astype(np.float64)


def between(config, name, word, otherwise=0.0):
    low, high = config.get(f"{name}_low", otherwise), config.get(f"{name}_high", otherwise)
    return low + (high - low) * (word + 0.5) / 2**32


def resampled(images, config):
    """Return what `_core.resample` should: a matrix for each image, and SciPy to look there."""
    ndimage = pytest.importorskip("scipy.ndimage")
    rows, height, width = images.shape[:3]
    result = []
    for image, word in zip(images, words(rows), strict=True):
        if "height" in config:
            top = int(word[2] * (height - config["height"] + 1) / 2**32)
            left = int(word[3] * (width - config["width"] + 1) / 2**32)
            result.append(image[top : top + config["height"], left : left + config["width"]])
            continue
        angle = 2 * np.pi * between(config, "turns", word[1])
        tall = between(config, "tall", word[4], 1.0)
        wide = tall if config.get("same_zoom") else between(config, "wide", word[5], 1.0)
        down = -1 if config.get("flip_down") and int(word[0]) & 1 else 1
        right = -1 if config.get("flip_right") and int(word[0]) & 2 else 1
        matrix = np.diag([tall, wide]) @ np.array(
            [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        ) @ np.diag([down, right])  # fmt: skip
        middle = np.array([height - 1, width - 1]) / 2
        shift = np.array(
            [height * between(config, "down", word[2]), width * between(config, "right", word[3])]
        )
        places = np.stack(np.indices((height, width)), axis=-1) - middle - shift
        places = places @ matrix.T + middle
        order = 0 if config.get("interpolation") == "nearest" else 1
        if order == 0:
            places = np.floor(places + 0.5)
        channels = [
            ndimage.map_coordinates(
                image[..., c].astype(np.float64),
                np.moveaxis(places, -1, 0),
                order=order,
                mode=SCIPY_MODES[config.get("fill_mode", "reflect")],
                cval=config.get("fill_value", 0.0),
            )
            for c in range(image.shape[-1])
        ]
        result.append(np.stack(channels, axis=-1))
    return np.array(result)


CONFIGS = [
    {"flip_right": True, "interpolation": "nearest"},
    {"flip_right": True, "flip_down": True},
    {"turns_low": -0.3, "turns_high": 0.4},
    {"turns_low": 0.1, "turns_high": 0.1, "fill_mode": "constant", "fill_value": 2.5},
    {"down_low": -0.7, "down_high": 0.7, "right_low": 0.1, "right_high": 1.9, "fill_mode": "wrap"},
    {"down_low": -3.0, "down_high": 3.0, "fill_mode": "reflect", "interpolation": "nearest"},
    {"tall_low": 0.5, "tall_high": 2.5, "same_zoom": True, "fill_mode": "nearest"},
    {"tall_low": 0.5, "tall_high": 1.0, "wide_low": 1.0, "wide_high": 4.0},
    {"turns_low": -1, "turns_high": 1, "down_low": -0.2, "down_high": 0.2, "wide_low": 0.7,
     "wide_high": 1.3, "flip_down": True, "fill_mode": "wrap"},
    {"height": 4, "width": 9},
    {"height": 7, "width": 1},
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels(rng, config, dtype, channels):
    images = rng.standard_normal((13, 7, 9, channels)).astype(dtype)
    found = _core.resample(images, config, SEED, STEP, STREAM)
    assert found.dtype == dtype
    # A place is in double precision; what a value between two pixels weighs is not.
    np.testing.assert_allclose(
        found, resampled(images, config), rtol=0, atol=2e-6 if dtype == np.float32 else 1e-11
    )


def test_one_pixel_and_one_row(rng):
    for shape in ((3, 1, 1, 1), (3, 1, 5, 2), (1, 4, 1, 1)):
        images = rng.standard_normal(shape)
        for mode in SCIPY_MODES:
            config = {"turns_low": -0.5, "turns_high": 0.5, "fill_mode": mode}
            found = _core.resample(images, config, SEED, STEP, STREAM)
            np.testing.assert_allclose(found, resampled(images, config), rtol=0, atol=1e-11)


def test_same_bits_for_any_number_of_threads(rng):
    x, y = rng.integers(0, 256, (64, 12, 12), np.uint8), rng.integers(0, 3, 64).astype(np.int32)
    results = []
    for threads in (1, 2, 5):
        twin = image_model(layers.RandomRotation(0.2), layers.RandomCrop(10, 9))
        twin._use_engine().train([x], [y], None, 16, max_threads=threads)
        results.append(twin.get_weights())
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_steps_and_places_draw_differently():
    image = np.arange(64.0).reshape(1, 8, 8)
    config = {"turns_low": -0.5, "turns_high": 0.5}
    images = np.repeat(image, 5, axis=0)
    drawn = [_core.resample(images, config, SEED, step, 0) for step in (1, 2)]
    drawn.append(_core.resample(images, config, SEED, 1, 1))
    flat = np.concatenate(drawn).reshape(15, -1)
    assert len({row.tobytes() for row in flat}) == 15


def test_flips_are_fair():
    images = np.repeat(np.array([[[0.0, 1.0], [2.0, 3.0]]]), 4000, axis=0)
    found = _core.resample(images, {"flip_right": True, "flip_down": True}, SEED, 1, 0)
    counts = np.bincount(found[:, 0, 0].astype(int), minlength=4)
    assert (abs(counts - 1000) < 5 * (4000 * 0.25 * 0.75) ** 0.5).all()


# ---- Keras ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reflect", "wrap", "constant", "nearest"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("RandomRotation", {"factor": (0.1, 0.1)}),
        ("RandomRotation", {"factor": (-0.27, -0.27)}),
        ("RandomTranslation", {"height_factor": (0.21, 0.21), "width_factor": (-0.13, -0.13)}),
        ("RandomZoom", {"height_factor": (0.35, 0.35)}),
        ("RandomZoom", {"height_factor": (-0.3, -0.3), "width_factor": (0.2, 0.2)}),
    ],
)
def test_keras_with_nothing_to_draw(rng, kind, arguments, mode, interpolation):
    keras = import_keras()
    images = rng.standard_normal((2, 11, 14, 2)).astype(np.float32)
    options = {"fill_mode": mode, "interpolation": interpolation, "fill_value": 0.3}
    theirs = getattr(keras.layers, kind)(**arguments, **options)
    expected = keras.ops.convert_to_numpy(theirs(images, training=True))
    layer = getattr(layers, kind)(**arguments, **options)
    ((_, _, config),) = layer.nodes()
    found = _core.resample(images, config, SEED, STEP, STREAM)
    # Places in float32 there: nearest pixels may differ where two are as near.
    close = np.isclose(found, expected, rtol=0, atol=2e-4)
    assert close.mean() > (0.999 if interpolation == "bilinear" else 0.97)


# ---- in a model -------------------------------------------------------------------------------


def image_model(*chain, shape=(12, 12), classes=3, precision="float32"):
    model = fusednn.Sequential(
        [layers.Rescaling(1 / 255), *chain, layers.Flatten(), layers.Dense(classes)],
        input_shape=shape,
        seed=1,
    )
    model.compile(
        fusednn.optimizers.SGD(0.1), "sparse_categorical_crossentropy",
        metrics=["accuracy"], precision=precision, seed=9,
    )  # fmt: skip
    return model


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (40, 12, 12), np.uint8), rng.integers(0, 3, 40)


def numpy_step(weights, x, y, rate=0.1):
    """One step of softmax regression in double precision."""
    kernel, bias = (w.astype(np.float64) for w in weights)
    z = x @ kernel + bias
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    dz = (p - np.eye(p.shape[1])[y]) / len(x)
    return kernel - rate * x.T @ dz, bias - rate * dz.sum(axis=0)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_step_sees_the_transformed_images(images, precision):
    x, y = images
    model = image_model(layers.RandomRotation(0.2, "constant"), precision=precision)
    start = model.get_weights()
    model.fit(x, y, batch_size=40, epochs=1, shuffle=False, verbose=0)
    config = model.layers[1].nodes()[0][2]
    place = [node["type"] for node in model._use_engine().nodes()].index("resample")
    seen = _core.resample(x / 255.0, config, 9, 1, place).reshape(40, -1)
    for found, wanted in zip(model.get_weights(), numpy_step(start, seen, y), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)


def test_bytes_are_floats(images):
    x, y = images
    a, b = image_model(layers.RandomZoom(0.2)), image_model(layers.RandomZoom(0.2))
    a.fit(x, y, batch_size=16, epochs=3, verbose=0)
    b.fit(x.astype(np.float32), y, batch_size=16, epochs=3, verbose=0)
    for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(v, w)
    np.testing.assert_array_equal(a.predict(x), a.predict(x.astype(np.float64)))
    assert a.evaluate(x, y) == b.evaluate(x.astype(np.float32), y)


def test_bytes_stay_where_they_are(images, tmp_path):
    x, y = images
    path = tmp_path / "x.npy"
    np.save(path, x)
    mapped = np.load(path, mmap_mode="r")
    model = image_model()
    data = model._prepare(mapped, y, None)
    assert np.shares_memory(data.inputs[0], mapped)
    a, b = image_model(), image_model()
    a.fit(mapped, y, batch_size=16, epochs=2, verbose=0)
    b.fit(x, y, batch_size=16, epochs=2, verbose=0)
    for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(v, w)


def test_nothing_happens_in_prediction(images):
    x, _ = images
    model = image_model(layers.RandomFlip(), layers.RandomRotation(0.3), layers.RandomZoom(0.2))
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(
        model.predict(x), x.reshape(40, -1) / 255 @ kernel + bias, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(("height", "width"), [(5, 8), (12, 12), (11, 1)])
def test_prediction_shows_the_window_in_the_middle(images, height, width):
    x, _ = images
    model = image_model(layers.RandomCrop(height, width))
    kernel, bias = model.get_weights()
    top, left = (12 - height) // 2, (12 - width) // 2
    window = x[:, top : top + height, left : left + width].reshape(40, -1) / 255
    np.testing.assert_allclose(model.predict(x), window @ kernel + bias, rtol=0, atol=1e-5)


def test_layers_written_in_python_see_the_same(images):
    class Same(layers.CustomLayer):
        def forward(self, x, training):
            return x

        def backward(self, gradient):
            return gradient

    x, y = images
    chain = [layers.RandomTranslation(0.2, 0.1), layers.RandomCrop(9, 9)]
    fast = image_model(*chain)
    slow = image_model(*[type(c).from_config(c.get_config()) for c in chain])
    slow.add(Same())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it is slow
        slow.compile(fusednn.optimizers.SGD(0.1), "sparse_categorical_crossentropy", seed=9)
        slow.set_weights(fast.get_weights())
        for model in (fast, slow):
            model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    for v, w in zip(fast.get_weights(), slow.get_weights(), strict=True):
        np.testing.assert_allclose(v, w, rtol=0, atol=1e-5)


def test_rescaling_has_a_gradient(rng):
    model = fusednn.Sequential(
        [layers.Dense(4, "tanh"), layers.Rescaling(-1.5, 0.25), layers.Dense(2)], input_shape=(3,)
    )
    model.compile("sgd", "mse", seed=0)
    errors = model.check_gradients(rng.standard_normal((6, 3)), rng.standard_normal((6, 2)))
    assert max(errors.values()) < 1e-6


def test_two_readers_of_a_rescaled_layer(rng):
    entry = layers.Input((3,))
    hidden = layers.Dense(4, "tanh")(entry)
    scaled = layers.Rescaling(2.0)(hidden)
    out = layers.Dense(2)(layers.Add()([hidden, scaled]))
    model = fusednn.Model(entry, out)
    model.compile("sgd", "mse", seed=0)
    errors = model.check_gradients(rng.standard_normal((6, 3)), rng.standard_normal((6, 2)))
    assert max(errors.values()) < 1e-6


def test_no_gradient_through_a_transform(images):
    x, y = images
    model = fusednn.Sequential(
        [layers.Dense(12), layers.RandomFlip(name="late"), layers.Flatten(), layers.Dense(3)],
        input_shape=(12, 12),
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    start = model.get_weights()
    with pytest.raises(ValueError, match=r"late.*gradient"):
        model.fit(x, y, verbose=0)
    for v, w in zip(start, model.get_weights(), strict=True):
        np.testing.assert_array_equal(v, w)
    model.layers[0].trainable = False  # nothing before it learns
    model.fit(x, y, verbose=0)


KINDS = [
    layers.RandomFlip("vertical"),
    layers.RandomRotation((-0.1, 0.3), "wrap", "nearest", 1.0),
    layers.RandomTranslation(0.2, (0.1, 0.2)),
    layers.RandomZoom(0.2, (-0.5, 0.0)),
    layers.RandomZoom(0.2),
    layers.RandomCrop(8, 7),
]


@pytest.mark.parametrize("layer", KINDS, ids=lambda layer: layer.name)
def test_config(layer, tmp_path):
    model = image_model(layer.from_config(layer.get_config()))
    model.save(tmp_path / "m.safetensors")
    again = fusednn.load(tmp_path / "m.safetensors")
    assert again.layers[1].get_config() == model.layers[1].get_config()
    assert again.layers[1].nodes() == layer.nodes()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.RandomFlip("sideways"), "mode"),
        (lambda: layers.RandomRotation((0.2, 0.1)), "factor"),
        (lambda: layers.RandomRotation((0.1, 0.2, 0.3)), "factor"),
        (lambda: layers.RandomRotation(-0.1), "factor"),
        (lambda: layers.RandomRotation(np.nan), "factor"),
        (lambda: layers.RandomRotation(0.1, "mirror"), "fill_mode"),
        (lambda: layers.RandomZoom(1.0), "height_factor"),
        (lambda: layers.RandomZoom(0.1, (-2, 0)), "width_factor"),
        (lambda: layers.RandomTranslation(0.1, 0.1, interpolation="cubic"), "interpolation"),
        (lambda: layers.RandomCrop(0, 3), "height"),
        (lambda: layers.RandomCrop(13, 3)(layers.Input((12, 12))), "does not fit"),
        (lambda: layers.RandomFlip()(layers.Input((144,))), "needs images"),
        (lambda: layers.RandomCrop(2, 2)(layers.Input((2, 3, 4, 5))), "needs images"),
        (lambda: layers.Rescaling(np.inf), "scale"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- mixup ------------------------------------------------------------------------------------


def shares_of(alpha, samples, step=STEP, seed=SEED, stream=STREAM):
    word = words(samples, seed, step, stream)
    u, v = (word[:, k] + 0.5 for k in (0, 1))
    t = np.sqrt(2 * alpha * ((u / 2**32) ** (-1 / alpha) - 1)) * np.cos(2 * np.pi * v / 2**32)
    return (1 + t / np.sqrt(2 * alpha + t**2)) / 2


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixtures(rng, alpha):
    x = rng.standard_normal((11, 4))
    found = _core.mix_rows(x, alpha, SEED, STEP, STREAM)
    shift = 1 + int(words(12)[11, 0] * 10 / 2**32)
    share = shares_of(alpha, 11)[:, None]
    np.testing.assert_allclose(
        found, share * x + (1 - share) * np.roll(x, -shift, axis=0), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 3.0])
def test_shares_have_the_beta_distribution(alpha):
    stats = pytest.importorskip("scipy.stats")
    x = np.zeros((20000, 1))
    x[::2] = 1.0  # with an odd shift the partner is the other value
    seed = next(
        s for s in range(50) if int(words(20001, s, 1, 0)[20000, 0] * 19999 / 2**32) % 2 == 0
    )
    share = _core.mix_rows(x, alpha, seed, 1, 0)[::2, 0]
    assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > 1e-4


def test_a_step_on_mixtures(images):
    x, y = images
    one_hot = np.eye(3)[y]
    model = image_model(precision="float64")
    model.compile(fusednn.optimizers.SGD(0.1), "mse", precision="float64", seed=9)
    kernel, bias = model.get_weights()
    history = model.fit(x, one_hot, batch_size=40, shuffle=False, verbose=0, mixup=0.4)
    mixed = [_core.mix_rows(a, 0.4, 9, 1, 2**32 - 2) for a in (x.reshape(40, -1) / 255.0, one_hot)]
    error = mixed[0] @ kernel + bias - mixed[1]
    assert history.history["loss"][0] == pytest.approx((error**2).mean(), rel=1e-12)
    slope = 2 * error / error.size
    np.testing.assert_allclose(
        model.get_weights()[0], kernel - 0.1 * mixed[0].T @ slope, rtol=0, atol=1e-12
    )


def test_mixup_leaves_evaluation_alone(images):
    x, y = images
    one_hot = np.eye(3)[y]
    model = image_model()
    model.compile(fusednn.optimizers.SGD(0.0), "categorical_crossentropy", seed=9)
    before = model.evaluate(x, one_hot)
    history = model.fit(
        x, one_hot, batch_size=16, verbose=0, mixup=0.3, validation_data=(x, one_hot)
    )
    assert history.history["val_loss"][0] == before
    assert history.history["loss"][0] != before


def test_a_batch_of_one_is_not_mixed(images):
    x, y = images
    one_hot = np.eye(3)[y]
    weights = []
    for mixup in (0.0, 0.5):
        model = image_model()
        model.compile("sgd", "categorical_crossentropy", seed=9)
        model.fit(x, one_hot, batch_size=1, verbose=0, mixup=mixup)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_mixup_needs_values(images):
    x, y = images
    model = image_model()
    with pytest.raises(ValueError, match="one-hot"):
        model.fit(x, y, verbose=0, mixup=0.2)
    with pytest.raises(ValueError, match="mixup"):
        model.fit(x, y, verbose=0, mixup=-1)
    with pytest.raises(ValueError, match="mixup"):
        model._use_engine().train([x], [y.astype(np.int32)], mixup=0.2)
