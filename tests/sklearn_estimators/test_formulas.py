# SPDX-License-Identifier: Apache-2.0
"""What scikit-learn does not have, against its formula: losses, penalties, optimizers, layers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

import fusednn
from fusednn.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(3)
ROWS = 60
X = RNG.normal(size=(ROWS, 4))
VALUES = RNG.normal(size=(ROWS, 2))
CLASSES = RNG.integers(0, 3, ROWS)
RATE, HIDDEN = 0.01, 5


def first_weights(outputs, seed=0):
    """Return kernels and biases as scikit-learn draws them."""
    random = np.random.RandomState(seed)
    kernels, biases = [], []
    for fan_in, fan_out in ((X.shape[1], HIDDEN), (HIDDEN, outputs)):
        bound = np.sqrt(6 / (fan_in + fan_out))
        kernels.append(random.uniform(-bound, bound, (fan_in, fan_out)))
        biases.append(random.uniform(-bound, bound, fan_out))
    return kernels + biases


def outputs_of(weights, x=X):
    return np.tanh(x @ weights[0] + weights[2]) @ weights[1] + weights[3]


def differences(function, weights, step=1e-6):
    gradients = []
    for array in weights:
        gradient = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            before = array[place]
            array[place] = before + step
            ahead = function(weights)
            array[place] = before - step
            gradient[place] = (ahead - function(weights)) / (2 * step)
            array[place] = before
        gradients.append(gradient)
    return gradients


def trained(kind, y, epochs, **params):
    params = {"hidden_layer_sizes": (HIDDEN,), "activation": "tanh", "shuffle": False} | params
    model = kind(learning_rate_init=RATE, random_state=0, **params)
    more = {"classes": np.unique(y)} if kind is MLPClassifier else {}
    return model.partial_fit(X, y, epochs=epochs, **more)


def huber(error, delta=1.0):
    size = np.abs(error)
    return np.where(size <= delta, error**2 / 2, delta * (size - delta / 2))


def pinball(error, share):
    return np.where(error < 0, -share * error, (1 - share) * error)


REGRESSION = {
    "absolute_error": np.abs,
    "huber": huber,
    "log_cosh": lambda error: np.log(np.cosh(error)),
    "quantile": lambda error: pinball(error, 0.5),
    fusednn.losses.Quantile(0.9): lambda error: pinball(error, 0.9),
    fusednn.losses.Huber(0.3): lambda error: huber(error, 0.3),
}
MARGINS = {
    "hinge": lambda margin: np.maximum(0, 1 - margin),
    "squared_hinge": lambda margin: np.maximum(0, 1 - margin) ** 2,
}


def assert_one_step_descends(model, objective, weights):
    """The step of a model is RATE times the gradient of an objective, by differences."""
    found = [*model.coefs_, *model.intercepts_]
    gradients = differences(objective, weights)
    for after, before, gradient in zip(found, weights, gradients, strict=True):
        np.testing.assert_allclose((before - after) / RATE, gradient, rtol=1e-6, atol=1e-8)


PLAIN = {"solver": "sgd", "momentum": 0.0, "nesterovs_momentum": False, "batch_size": ROWS}


@pytest.mark.parametrize("loss", REGRESSION, ids=str)
@pytest.mark.parametrize("columns", [1, 2])
def test_losses_of_values_and_penalties(loss, columns):
    y = VALUES[:, :columns]
    alpha, l1 = 0.3, 0.2

    def penalty(weights):
        squares = sum((kernel**2).sum() for kernel in weights[:2])
        sizes = sum(np.abs(kernel).sum() for kernel in weights[:2])
        return (alpha / 2 * squares + l1 * sizes) / ROWS

    def objective(weights):
        return REGRESSION[loss](outputs_of(weights) - y).sum() / ROWS + penalty(weights)

    model = trained(MLPRegressor, y.squeeze(), 1, loss=loss, alpha=alpha, l1=l1, **PLAIN)
    weights = first_weights(columns)
    assert_one_step_descends(model, objective, weights)
    reported = REGRESSION[loss](outputs_of(weights) - y).mean() + penalty(weights)
    assert model.loss_ == pytest.approx(reported, rel=1e-12)


@pytest.mark.parametrize("loss", MARGINS)
@pytest.mark.parametrize("classes", [2, 3])
def test_losses_of_classes(loss, classes):
    y = np.minimum(CLASSES, classes - 1)
    signs = 2.0 * (y[:, None] == np.arange(3)) - 1 if classes == 3 else 2.0 * y[:, None] - 1

    def objective(weights):
        return MARGINS[loss](signs * outputs_of(weights)).sum() / ROWS

    model = trained(MLPClassifier, y, 1, loss=loss, alpha=0.0, **PLAIN)
    weights = first_weights(signs.shape[1])
    assert_one_step_descends(model, objective, weights)
    assert model.loss_ == pytest.approx(objective(weights), rel=1e-12)


OPTIMIZERS = [
    ("adamw", "AdamW", {}),
    ("adamw", "AdamW", {"weight_decay": 0.1}),
    ("rmsprop", "RMSprop", {}),
    ("rmsprop", "RMSprop", {"momentum": 0.5, "centered": True}),
    ("nadam", "NAdam", {}),
    ("radam", "RAdam", {}),
    ("adagrad", "Adagrad", {}),
    ("adadelta", "Adadelta", {}),
    ("adamax", "Adamax", {}),
    (fusednn.optimizers.Adam(RATE, amsgrad=True), "Adam", {"amsgrad": True}),
]


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(torch.float64)  # else NAdam has a factor in float32
    yield torch
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("solver", "theirs", "more"), OPTIMIZERS, ids=str)
@pytest.mark.parametrize("clipnorm", [None, 0.05])
def test_optimizers_are_those_of_torch(solver, theirs, more, clipnorm, torch):
    y, alpha, batch, epochs = VALUES[:, 0], 0.2, 25, 4
    options = {"batch_size": batch, "alpha": alpha, "clipnorm": clipnorm}
    given = more if isinstance(solver, str) else None
    model = trained(MLPRegressor, y, epochs, solver=solver, optimizer_params=given, **options)

    weights = [torch.tensor(array, requires_grad=True) for array in first_weights(1)]
    optimizer = getattr(torch.optim, theirs)(weights, lr=RATE, **more)
    for _ in range(epochs):
        for begin in range(0, ROWS, batch):
            x, target = (torch.tensor(array[begin : begin + batch]) for array in (X, y))
            found = torch.tanh(x @ weights[0] + weights[2]) @ weights[1] + weights[3]
            squares = sum((kernel**2).sum() for kernel in weights[:2])
            loss = ((found[:, 0] - target) ** 2).mean() / 2 + alpha / 2 / len(x) * squares
            optimizer.zero_grad()
            loss.backward()
            if clipnorm is not None:
                torch.nn.utils.clip_grad_norm_(weights, clipnorm)
            optimizer.step()
    for ours, tensor in zip([*model.coefs_, *model.intercepts_], weights, strict=True):
        np.testing.assert_allclose(ours, tensor.detach().numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_more_arguments_of_an_optimizer_leave_the_others(solver, momentum):
    """A decay of the weights comes before a step that is as it would be without."""
    decay = 0.5
    options = {"solver": solver, "momentum": momentum, "beta_1": 0.7, "epsilon": 0.1}
    first = first_weights(2)
    plain = trained(MLPRegressor, VALUES, 1, **options, batch_size=ROWS)
    given = {"weight_decay": decay}
    model = trained(MLPRegressor, VALUES, 1, **options, batch_size=ROWS, optimizer_params=given)
    for after, without, before in zip(model.coefs_, plain.coefs_, first, strict=False):
        np.testing.assert_allclose(after, without - RATE * decay * before, rtol=1e-12)
    given = {"weight_decay": 0.0}
    model = trained(MLPRegressor, VALUES, 3, **options, optimizer_params=given)
    plain = trained(MLPRegressor, VALUES, 3, **options)
    np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])


@pytest.mark.parametrize("replaced", [{"momentum": 0.5}, {"beta_2": 0.9}, {"nesterov": False}])
def test_arguments_of_an_optimizer_replace_parameters(replaced):
    (name, value), own = next(iter(replaced.items())), {"nesterov": "nesterovs_momentum"}
    solver = "adam" if name == "beta_2" else "sgd"
    model = trained(MLPRegressor, VALUES, 3, solver=solver, optimizer_params=replaced)
    plain = trained(MLPRegressor, VALUES, 3, solver=solver, **{own.get(name, name): value})
    np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])


def test_batch_norm_in_a_prediction():
    model = MLPRegressor(hidden_layer_sizes=(6, 5), batch_norm=True, max_iter=8, random_state=0)
    model.fit(X, VALUES)
    x = X
    for place, (gamma, beta, mean, variance) in enumerate(model.batch_norms_):
        x = x @ model.coefs_[place] + model.intercepts_[place]
        x = np.maximum(gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta, 0)
    right = x @ model.coefs_[2] + model.intercepts_[2]
    np.testing.assert_allclose(model.predict(X), right, rtol=1e-12, atol=1e-14)
