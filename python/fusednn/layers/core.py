# SPDX-License-Identifier: Apache-2.0
"""Input, Dense, Activation, Softmax, Flatten, Dropout."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from fusednn import activations, constraints, initializers, regularizers
from fusednn.errors import check_flag, check_integer, check_number, helpful_keywords
from fusednn.initializers import Initializer
from fusednn.layers.base import Layer, Shape, SymbolicTensor


def check_shape(argument: str, shape: object) -> Shape:
    """Return the shape of one sample as a tuple of positive integers."""
    if isinstance(shape, int) and not isinstance(shape, bool):
        shape = (shape,)
    if not isinstance(shape, Iterable) or isinstance(shape, (str, bytes)):
        raise TypeError(f"{argument} must be a tuple of integers, got {shape!r}")
    sizes = tuple(shape)
    if not sizes or any(size is None for size in sizes):
        raise ValueError(
            f"{argument} must give every size of one sample, without the batch axis; got {sizes}"
        )
    return tuple(check_integer(f"{argument} {sizes}: each size", size, 1) for size in sizes)


def activation_node(activation: activations.Activation) -> tuple[str, dict[str, Any]]:
    """Return type and config of the engine node for an activation."""
    if activation.rowwise:
        return "softmax", {"log": activation.name == "log_softmax"}
    return "activation", {
        "activation": activation.name,
        "parameters": dict(activation.parameters),
    }


class InputLayer(Layer):
    """The place where data enters a model. `Input` makes one and returns its output."""

    @helpful_keywords
    def __init__(
        self, shape: int | Iterable[int], name: str | None = None, trainable: bool = True
    ) -> None:
        super().__init__(name, trainable)
        self.shape = check_shape("shape", shape)

    def get_config(self) -> dict[str, Any]:
        return {"shape": list(self.shape), **super().get_config()}

    def check_inputs(self, count: int) -> None:
        if count:
            raise ValueError(f"input {self.name!r} takes no inputs, got {count}")

    def output_shape(self, inputs: list[Shape]) -> Shape:
        return self.shape

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [("", "input", {"shape": list(self.shape)})]


@helpful_keywords
def Input(shape: int | Iterable[int], name: str | None = None) -> SymbolicTensor:
    """Return a symbolic tensor for data of the given shape.

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample, without the batch axis.
    name : str, optional
        By this name `fit` finds the array where the data are a dict.

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.Input((28, 28)).shape
    (None, 28, 28)
    """
    return InputLayer(shape, name)([])


class Dense(Layer):
    """Fully connected layer: ``activation(x @ kernel + bias)``.

    Parameters
    ----------
    units : int
        Size of the output.
    activation : str or fusednn.activations.Activation, optional
        Applied to the result. It is computed while the product is being stored.
    use_bias : bool
        Whether to add a bias.
    kernel_initializer, bias_initializer : str or Initializer
        Initial values.
    name : str, optional
    trainable : bool
    kernel_regularizer, bias_regularizer : str or fusednn.regularizers.L1L2, optional
        What of the weights joins the loss.
    kernel_constraint, bias_constraint : str or fusednn.constraints.Constraint, optional
        What the weights are held to after each update.
    activity_regularizer : str or fusednn.regularizers.L1L2, optional
        What of the outputs joins the loss, summed over a sample and as a mean over the batch; see
        `ActivityRegularization`.

    Notes
    -----
    Input (batch, ..., inputs), output (batch, ..., units); `kernel` has the shape
    (inputs, units), as in Keras (PyTorch stores the transpose), and `bias` the shape (units,).
    PyTorch's default initial values differ: uniform within 1 / sqrt(inputs) for both.

    Examples
    --------
    >>> import fusednn
    >>> model = fusednn.Sequential([fusednn.layers.Dense(4, activation="relu")], input_shape=(3,))
    >>> [w.shape for w in model.get_weights()]
    [(3, 4), (4,)]
    """

    @helpful_keywords
    def __init__(
        self,
        units: int,
        activation: str | Mapping | activations.Activation | None = None,
        use_bias: bool = True,
        kernel_initializer: str | Mapping | Initializer = "glorot_uniform",
        bias_initializer: str | Mapping | Initializer = "zeros",
        name: str | None = None,
        trainable: bool = True,
        kernel_regularizer: str | Mapping | regularizers.L1L2 | None = None,
        bias_regularizer: str | Mapping | regularizers.L1L2 | None = None,
        kernel_constraint: str | Mapping | constraints.Constraint | None = None,
        bias_constraint: str | Mapping | constraints.Constraint | None = None,
        activity_regularizer: str | Mapping | regularizers.L1L2 | None = None,
    ) -> None:
        super().__init__(name, trainable)
        self.units = check_integer("units", units, 1)
        self.activation = activations.get(activation)
        self.use_bias = check_flag("use_bias", use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.activity_regularizer = regularizers.get(activity_regularizer)

    def activity(self) -> regularizers.L1L2 | None:
        return self.activity_regularizer

    def penalties(self) -> dict[str, regularizers.L1L2 | None]:
        return {"kernel": self.kernel_regularizer, "bias": self.bias_regularizer}

    def bounds(self) -> dict[str, constraints.Constraint | None]:
        return {"kernel": self.kernel_constraint, "bias": self.bias_constraint}

    def get_config(self) -> dict[str, Any]:
        return {
            "units": self.units,
            "activation": self.activation.serialize(),
            "use_bias": self.use_bias,
            "kernel_initializer": self.kernel_initializer.serialize(),
            "bias_initializer": self.bias_initializer.serialize(),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            **super().get_config(),
        }

    def output_shape(self, inputs: list[Shape]) -> Shape:
        return (*inputs[0][:-1], self.units)

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        chain = [("", "dense", {"units": self.units, "use_bias": self.use_bias})]
        if self.activation.name != "linear":
            chain.append(("activation", *activation_node(self.activation)))
        return chain

    def initializers(self) -> dict[str, Initializer]:
        return {"kernel": self.kernel_initializer, "bias": self.bias_initializer}


class Activation(Layer):
    """An activation as a layer of its own.

    Parameters
    ----------
    activation : str or fusednn.activations.Activation

    Examples
    --------
    >>> from fusednn import activations, layers
    >>> layers.Activation("tanh").activation
    Activation('tanh')
    """

    @helpful_keywords
    def __init__(
        self,
        activation: str | Mapping | activations.Activation,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, trainable)
        self.activation = activations.get(activation)

    def get_config(self) -> dict[str, Any]:
        return {"activation": self.activation.serialize(), **super().get_config()}

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [("", *activation_node(self.activation))]


class ActivityRegularization(Layer):
    """Passes its input on, which joins the loss: ``l1 * sum(|x|) + l2 * sum(x²)``, divided by the
    batch size.

    Sample weights do not count. The sum is part of the reported loss, in evaluation as well.

    Parameters
    ----------
    l1, l2 : float
        At least 0.

    Examples
    --------
    >>> import numpy as np, fusednn
    >>> model = fusednn.Sequential(
    ...     [fusednn.layers.ActivityRegularization(l2=0.5)], input_shape=(2,)
    ... )
    >>> model.compile("sgd", "mse")
    >>> model.evaluate(np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[1.0, 2.0], [3.0, 0.0]]))
    3.5
    """

    @helpful_keywords
    def __init__(
        self, l1: float = 0.0, l2: float = 0.0, name: str | None = None, trainable: bool = True
    ) -> None:
        super().__init__(name, trainable)
        self.regularizer = regularizers.L1L2(l1, l2)

    @property
    def l1(self) -> float:
        return self.regularizer.l1

    @property
    def l2(self) -> float:
        return self.regularizer.l2

    def get_config(self) -> dict[str, Any]:
        return {**self.regularizer.get_config(), **super().get_config()}

    def activity(self) -> regularizers.L1L2 | None:
        return self.regularizer

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [("", "activation", {"activation": "linear", "parameters": {}})]


class Softmax(Layer):
    """``exp(x) / sum(exp(x))`` over the last axis.

    As the last layer under a cross-entropy loss it is not computed while training: the loss then
    works on what goes into the softmax, which is faster and more precise.

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.Softmax()(layers.Input((10,))).shape
    (None, 10)
    """

    @helpful_keywords
    def __init__(self, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(name, trainable)

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [("", "softmax", {"log": False})]


class Flatten(Layer):
    """All axes of a sample as one, in C order. Costs nothing: the memory stays as it is.

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.Flatten()(layers.Input((28, 28))).shape
    (None, 784)
    """

    @helpful_keywords
    def __init__(self, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(name, trainable)

    def output_shape(self, inputs: list[Shape]) -> Shape:
        return (math.prod(inputs[0]),)

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [("", "flatten", {})]


class Dropout(Layer):
    """While training, sets a share of the values to 0 and divides the others by ``1 - rate``.

    Does nothing in `predict` and `evaluate`. The mask is a function of the model's seed, the
    layer's place and the training step, the same on every device.

    Parameters
    ----------
    rate : float
        Probability that a value is dropped, in [0, 1).

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.Dropout(0.2).rate
    0.2
    """

    @helpful_keywords
    def __init__(self, rate: float, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(name, trainable)
        self.rate = check_number("rate", rate, 0, 1, open_high=True)

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, **super().get_config()}

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [("", "dropout", {"rate": self.rate})]
