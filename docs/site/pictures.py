# SPDX-License-Identifier: Apache-2.0
"""Draws the pictures of the guide: python docs/site/pictures.py

They are committed, so that pages can be read in the repository. Same build, same files.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import fusednn
from fusednn import activations, callbacks, layers, ops, optim, optimizers, schedules
from fusednn.plotting import plot_confusion_matrix, plot_history, plot_statistics
from fusednn.plotting.canvas import tidy

FOLDER = Path(__file__).parents[1] / "guide" / "images"
COLOURS = ("#3f51b5", "#e8710a", "#188038", "#a142f4", "#d93025", "#5f6368")


def _axes(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        tidy(ax)
    return figure, axes


def layered_network() -> Figure:
    """A network of four layers, and what one neuron does."""
    figure, axes = _axes(1, 2, 9, 3.2)
    for ax in axes.flat:
        ax.axis("off")
        ax.set_aspect("equal")
    left, right = axes[0]
    for i, (name, y) in enumerate(zip(("x₁", "x₂", "x₃"), (2, 1, 0), strict=True)):
        left.annotate("", (2.62, 1), (0.2, y), arrowprops={"arrowstyle": "->", "color": "#5f6368"})
        left.text(0, y, name, ha="center", va="center", fontsize=13)
        left.text(1.35, y + (1 - y) * 0.45 + 0.14, f"w{'₁₂₃'[i]}", ha="center", fontsize=11)
    left.add_patch(mpl.patches.Circle((3.2, 1), 0.58, fc="#e8eaf6", ec=COLOURS[0]))
    left.text(3.2, 1, "Σ + b", ha="center", va="center", fontsize=12)
    left.annotate("", (4.5, 1), (3.8, 1), arrowprops={"arrowstyle": "->", "color": "#5f6368"})
    left.text(4.15, 1.15, "z", ha="center", fontsize=11)
    left.add_patch(mpl.patches.FancyBboxPatch((4.6, 0.6), 0.9, 0.8, boxstyle="round,pad=0.05",
                                              fc="#fef0e3", ec=COLOURS[1]))  # fmt: skip
    left.text(5.05, 1, "f", ha="center", va="center", fontsize=14, style="italic")
    left.annotate("", (6.3, 1), (5.6, 1), arrowprops={"arrowstyle": "->", "color": "#5f6368"})
    left.text(6.5, 1, "y", ha="center", va="center", fontsize=13)
    left.set(xlim=(-0.4, 6.9), ylim=(-0.6, 2.6), title="A neuron")
    sizes = {"input": 3, "hidden": 5, "hidden ": 5, "output": 2}
    places = [[(1.7 * i, (n - 1) / 2 - k) for k in range(n)] for i, n in enumerate(sizes.values())]
    for before, after in itertools.pairwise(places):
        for a in before:
            for b in after:
                right.plot(*zip(a, b, strict=True), color="#c5cae9", linewidth=0.8, zorder=0)
    for name, column in zip(sizes, places, strict=True):
        for place in column:
            right.add_patch(mpl.patches.Circle(place, 0.26, fc="#e8eaf6", ec=COLOURS[0]))
        right.text(column[0][0], -2.9, name.strip(), ha="center", fontsize=10)
    right.set(xlim=(-0.5, 5.6), ylim=(-3.1, 2.5), title="A multi-layer perceptron")
    return figure


def universal_approximation() -> Figure:
    """The same function by networks of growing width."""
    x = np.linspace(-3, 3, 256, dtype=np.float32)[:, None]
    y = np.sin(2 * x) + 0.3 * x**2
    figure, axes = _axes(1, 3, 9, 2.6)
    for ax, units in zip(axes[0], (2, 8, 64), strict=True):
        model = fusednn.Sequential([layers.Dense(units, activation="tanh"), layers.Dense(1)])
        model.compile(optimizers.Adam(0.01), "mse", seed=1)
        model.fit(x, y, batch_size=64, epochs=600, verbose=0)
        ax.plot(x, y, color="#bdc1c6", linewidth=5, label="function")
        ax.plot(x, model.predict(x), color=COLOURS[0], label="network")
        ax.set_title(f"{units} hidden units, MSE {model.evaluate(x, y):.4f}", fontsize=10)
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


def activation_curves() -> Figure:
    """Every elementwise activation, and its derivative."""
    names = [name for name in activations.names() if not activations.get(name).rowwise]
    columns = 6
    figure, axes = _axes(-(-len(names) // columns), columns, 10, 1.55 * -(-len(names) // columns))
    x = np.linspace(-4, 4, 401)
    for ax in axes.flat[len(names) :]:
        ax.axis("off")
    for ax, name in zip(axes.flat, names, strict=False):
        y = ops.activation_forward(x, name)
        slope = ops.activation_backward(np.ones_like(x), x, name)
        ax.axhline(0, color="#dadce0", linewidth=0.8)
        ax.axvline(0, color="#dadce0", linewidth=0.8)
        ax.plot(x, slope, color=COLOURS[1], linewidth=1)
        ax.plot(x, y, color=COLOURS[0], linewidth=1.8)
        ax.set_ylim(-2, 4)
        ax.set_title(name, fontsize=9, family="monospace")
        ax.tick_params(labelsize=6)
        ax.grid(visible=False)
    return figure


def loss_curves() -> Figure:
    """Losses of one value over the error, and over the margin."""
    figure, axes = _axes(1, 2, 9, 3)
    left, right = axes[0]
    error = np.linspace(-3, 3, 301)

    def each(rule: str, target: float, **parameters: float) -> np.ndarray:
        x = error[:, None]
        values, _ = ops.loss(rule, x, np.full_like(x, target), reduction="none", **parameters)
        return values

    regression = {"mse": {}, "mae": {}, "huber": {"delta": 1.0}, "log_cosh": {},
                  "quantile": {"quantile": 0.8}}  # fmt: skip
    for (rule, parameters), colour in zip(regression.items(), COLOURS, strict=False):
        label = f"{rule}, q = 0.8" if rule == "quantile" else rule
        left.plot(error, each(rule, 0.0, **parameters), label=label, color=colour)
    left.set(title="Regression", xlabel="output - target", ylim=(0, 4))
    for rule, colour in zip(
        ("binary_cross_entropy_logits", "hinge", "squared_hinge"), COLOURS, strict=False
    ):
        right.plot(error, each(rule, 1.0), label=rule, color=colour)
    right.set(title="Two classes, target 1", xlabel="output (logit)", ylim=(0, 4))
    for ax in (left, right):
        ax.legend(frameon=False, fontsize=8)
    return figure


def optimizer_paths() -> Figure:
    """Ways of optimizers down a narrow valley, all steps of the same start."""
    scale = np.array([1.0, 25.0])
    kinds: dict[str, Callable[[list[np.ndarray]], optim.Optimizer]] = {
        "SGD": lambda p: optim.SGD(p, lr=0.035),
        "momentum": lambda p: optim.SGD(p, lr=0.01, momentum=0.85),
        "Nesterov": lambda p: optim.SGD(p, lr=0.01, momentum=0.85, nesterov=True),
        "Adagrad": lambda p: optim.Adagrad(p, lr=0.7),
        "RMSprop": lambda p: optim.RMSprop(p, lr=0.1, alpha=0.9),
        "Adam": lambda p: optim.Adam(p, lr=0.15, betas=(0.8, 0.99)),
    }
    figure, axes = _axes(2, 3, 9, 4.6)
    u, v = np.meshgrid(np.linspace(-2.6, 1, 121), np.linspace(-1.1, 1.1, 121))
    for ax, (name, make) in zip(axes.flat, kinds.items(), strict=True):
        point = np.array([-2.2, 0.8])
        optimizer, path = make([point]), [point.copy()]
        for _ in range(60):
            optimizer.step([scale * point])
            path.append(point.copy())
        ax.contour(u, v, (u**2 + 25 * v**2) / 2, levels=14, colors="#dadce0", linewidths=0.8)
        ax.plot(*np.transpose(path), ".-", color=COLOURS[0], markersize=3, linewidth=1)
        ax.plot(0, 0, "*", color=COLOURS[1], markersize=9)
        value = float((scale * point**2).sum() / 2)
        ax.set_title(f"{name}: {value:.1e} after 60 steps", fontsize=9)
        ax.set(xlim=(-2.6, 1), ylim=(-1.1, 1.1))
        ax.grid(visible=False)
    return figure


def vanishing_gradients() -> Figure:
    """Norms of the gradients of ten layers, badly and well begun."""
    x, y = _moons(512, 0.1)
    figure, axes = _axes(1, 1, 6.4, 2.8)
    cases = {
        "sigmoid, small random values: vanishing": ("sigmoid", "random_normal"),
        "relu, far too large values: exploding": (
            "relu",
            fusednn.initializers.RandomNormal(stddev=0.7),
        ),
        "relu, he_normal: healthy": ("relu", "he_normal"),
    }
    for (label, (activation, values)), colour in zip(
        cases.items(), (COLOURS[4], COLOURS[1], COLOURS[2]), strict=True
    ):
        hidden = [layers.Dense(32, activation, kernel_initializer=values) for _ in range(10)]
        model = fusednn.Sequential([*hidden, layers.Dense(1)], input_shape=(2,))
        model.compile(optimizers.SGD(0.0), "binary_crossentropy", seed=0)
        look = callbacks.LayerStatistics(x, y)
        model.fit(x, y, epochs=1, verbose=0, callbacks=[look])
        norms = [layer["gradient"] for layer in look.records[0]["layers"].values()
                 if "gradient" in layer]  # fmt: skip
        axes[0, 0].semilogy(range(1, 12), norms, "o-", label=label, color=colour, markersize=4)
    axes[0, 0].set(xlabel="layer, from the input", ylabel="norm of the gradient")
    axes[0, 0].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def learning_rate_schedules() -> Figure:
    """Learning rates over a thousand steps."""
    kinds = {
        "ExponentialDecay": schedules.ExponentialDecay(0.1, 300, 0.5),
        "PiecewiseConstantDecay": schedules.PiecewiseConstantDecay([400, 800], [0.1, 0.03, 0.01]),
        "CosineDecay with warm-up": schedules.CosineDecay(
            0.0, 900, warmup_target=0.1, warmup_steps=100
        ),
        "CosineDecayRestarts": schedules.CosineDecayRestarts(0.1, 250),
        "OneCycle": schedules.OneCycle(0.1, 1000),
        "PolynomialDecay": schedules.PolynomialDecay(0.1, 1000, power=2.0),
    }
    figure, axes = _axes(2, 3, 9, 3.4)
    steps = np.arange(1000.0)
    for ax, (name, schedule) in zip(axes.flat, kinds.items(), strict=True):
        ax.plot(steps, schedule.values(steps), color=COLOURS[0])
        ax.set_title(name, fontsize=9)
        ax.set_ylim(0, 0.11)
    return figure


def _moons(
    count: int, noise: float, seed: int = 0, wrong: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return points of two half circles and which of them each belongs to, wrong for some."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, count)
    angle = rng.uniform(0, np.pi, count)
    x = np.where(label, 1 - np.cos(angle), np.cos(angle))
    y = np.where(label, 0.5 - np.sin(angle), np.sin(angle))
    points = np.stack([x, y], axis=1) + rng.normal(0, noise, (count, 2))
    label = np.where(rng.random(count) < wrong, 1 - label, label)
    return points.astype(np.float32), label[:, None].astype(np.float32)


def regularisation() -> Figure:
    """The same large network on 60 points with wrong labels among them, held back in four ways."""
    x, y = _moons(60, 0.2, wrong=0.1)
    held_out, test = _moons(200, 0.2, seed=2, wrong=0.1), _moons(2000, 0.2, seed=1)
    u, v = np.meshgrid(np.linspace(-1.8, 2.8, 121), np.linspace(-1.4, 1.9, 121))
    plane = np.stack([u.ravel(), v.ravel()], axis=1)

    def network(decay: float = 0.0, rate: float = 0.0) -> fusednn.Sequential:
        stack: list[Any] = []
        for _ in range(2):
            stack.append(layers.Dense(128, "relu", kernel_regularizer={
                "class_name": "L2", "config": {"l2": decay}} if decay else None))  # fmt: skip
            stack += [layers.Dropout(rate)] if rate else []
        return fusednn.Sequential([*stack, layers.Dense(1)])

    stop = callbacks.EarlyStopping(patience=50, restore_best_weights=True)
    cases: dict[str, tuple[fusednn.Sequential, list[Any]]] = {
        "nothing": (network(), []),
        "L2 0.01": (network(decay=1e-2), []),
        "dropout 0.5": (network(rate=0.5), []),
        "early stopping": (network(), [stop]),
    }
    figure, axes = _axes(1, 4, 10, 2.8)
    for ax, (name, (model, hooks)) in zip(axes.flat, cases.items(), strict=True):
        model.compile(optimizers.Adam(0.01), "binary_crossentropy", ["accuracy"], seed=0)
        model.fit(x, y, epochs=500, verbose=0, callbacks=hooks, validation_data=held_out)
        ax.contourf(u, v, model.predict(plane).reshape(u.shape), levels=[-1e9, 0, 1e9],
                    colors=["#e8eaf6", "#fef0e3"])  # fmt: skip
        for label, colour in enumerate(COLOURS[:2]):
            ax.plot(*x[y[:, 0] == label].T, "o", color=colour, markersize=2.5)
        train, unseen = model.evaluate(x, y)[1], model.evaluate(*test)[1]
        ax.set_title(f"{name}\ntrain {train:.0%}, unseen {unseen:.0%}", fontsize=9)
        ax.grid(visible=False)
        ax.set(xticks=[], yticks=[])
    return figure


def _digits() -> tuple[fusednn.Sequential, Any]:
    data = fusednn.datasets.load_digits()
    model = fusednn.Sequential([layers.Dense(32, "relu"), layers.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"], seed=0)
    return model, data


def confusion() -> Figure:
    """What a small network mistakes for what."""
    model, data = _digits()
    model.fit(data.x_train, data.y_train, epochs=5, verbose=0)
    return plot_confusion_matrix(data.y_test, model.predict(data.x_test))


def history() -> Figure:
    """Loss and accuracy over the epochs."""
    model, data = _digits()
    return plot_history(
        model.fit(data.x_train, data.y_train, epochs=30, validation_split=0.2, verbose=0)
    )


def layer_statistics() -> Figure:
    """What LayerStatistics draws."""
    model, data = _digits()
    look = callbacks.LayerStatistics(data.x_train[:256], data.y_train[:256])
    model.fit(data.x_train, data.y_train, epochs=30, verbose=0, callbacks=[look])
    return plot_statistics(look)


def rate_search() -> Figure:
    """Loss over the learning rate."""
    model, data = _digits()
    return model.find_learning_rate(data.x_train, data.y_train).plot()


def forecast() -> Figure:
    """A time series, and what a network foresees one step ahead."""
    series = _series(600)
    window = 24
    x = np.lib.stride_tricks.sliding_window_view(series, window)[:-1]
    y = series[window:, None]
    cut = 450
    model = fusednn.Sequential([layers.Dense(64, "relu"), layers.Dense(1)])
    model.compile("adam", "mse", seed=0)
    model.fit(x[:cut], y[:cut], epochs=60, verbose=0)
    figure, axes = _axes(1, 1, 9, 2.4)
    ax = axes[0, 0]
    time = np.arange(len(y)) + window
    ax.plot(time[cut - 50 :], y[cut - 50 :], color="#bdc1c6", linewidth=4, label="series")
    ax.plot(time[cut:], model.predict(x[cut:]), color=COLOURS[0], label="one step ahead")
    ax.axvline(time[cut], color=COLOURS[1], linestyle=":", label="training ends")
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="upper left")
    ax.set_ylim(-3, 4.2)
    return figure


def _series(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    t = np.arange(count)
    wave = np.sin(2 * np.pi * t / 24) + 0.5 * np.sin(2 * np.pi * t / 60)
    return (wave + rng.normal(0, 0.1, count)).astype(np.float32)


PICTURES: dict[str, Callable[[], Figure]] = {
    "network": layered_network,
    "universal-approximation": universal_approximation,
    "activations": activation_curves,
    "losses": loss_curves,
    "optimizers": optimizer_paths,
    "vanishing-gradients": vanishing_gradients,
    "schedules": learning_rate_schedules,
    "layer-statistics": layer_statistics,
    "regularisation": regularisation,
    "confusion": confusion,
    "history": history,
    "rate-search": rate_search,
    "forecast": forecast,
}


def draw(folder: Path) -> list[Path]:
    """Write all pictures into a folder; return their paths."""
    style = {"svg.hashsalt": "fusednn", "font.family": "DejaVu Sans", "font.size": 9}
    paths = []
    with mpl.rc_context(style):
        for name, picture in PICTURES.items():
            path = folder / f"{name}.svg"
            picture().savefig(path, metadata={"Date": None})
            paths.append(path)
    return paths


if __name__ == "__main__":
    for path in draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(path)
