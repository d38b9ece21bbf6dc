# SPDX-License-Identifier: Apache-2.0
"""Images on their way into a network: random transforms while training, and other units.

The layers stand behind the input and take images of the shape (height, width) or (height, width,
channels), of bytes (uint8) as well: a data set stays bytes in memory, and what becomes of a batch
is computed inside of the compiled epoch. What is drawn for an image is a function of the model's
seed, the layer's place, the training step and the image's place in the batch, the same for every
number of threads. No gradient goes through the transforms, so no layer before them may learn.

>>> import fusednn
>>> from fusednn import layers
>>> model = fusednn.Sequential(
...     [
...         layers.Rescaling(1 / 255),
...         layers.RandomFlip("horizontal"),
...         layers.RandomRotation(0.05),
...         layers.Flatten(),
...         layers.Dense(10),
...     ],
...     input_shape=(28, 28),
... )
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusednn.errors import check_integer, check_number, helpful_keywords, unknown_choice
from fusednn.layers.base import Layer, Shape

Factor = float | Sequence[float]

_FILL_MODES = ("reflect", "wrap", "constant", "nearest")
_INTERPOLATIONS = ("bilinear", "nearest")
_FLIPS = ("horizontal", "vertical", "horizontal_and_vertical")


def _interval(argument: str, given: object) -> tuple[float, float]:
    """Return the bounds that a factor stands for, a number f for -f and f."""
    if isinstance(given, (tuple, list)):
        if len(given) != 2:
            raise ValueError(f"{argument} must be a number or a pair of them, got {given!r}")
        low, high = (check_number(argument, bound) for bound in given)
    else:
        high = check_number(argument, given, 0)
        low = -high
    if low > high:
        raise ValueError(f"{argument}: {low:g} is greater than {high:g}")
    return low, high


def _choice(argument: str, given: object, known: Sequence[str]) -> str:
    if given not in known:
        raise unknown_choice(argument, given, known)
    return str(given)


def _check_images(layer: Layer, shape: Shape) -> None:
    if len(shape) not in (2, 3):
        raise ValueError(
            f"layer {layer.name!r} needs images of shape (height, width) or (height, width, "
            f"channels), got {shape}; put it before Flatten()"
        )


class Rescaling(Layer):
    """``x * scale + offset``, in training and in prediction.

    Parameters
    ----------
    scale : float
        ``1 / 255`` brings bytes to [0, 1].
    offset : float

    Examples
    --------
    >>> import numpy as np, fusednn
    >>> model = fusednn.Sequential([fusednn.layers.Rescaling(1 / 255)], input_shape=(2,))
    >>> model.predict(np.array([[0, 255]], np.uint8))
    array([[0., 1.]], dtype=float32)
    """

    @helpful_keywords
    def __init__(
        self, scale: float, offset: float = 0.0, name: str | None = None, trainable: bool = True
    ) -> None:
        super().__init__(name, trainable)
        self.scale = check_number("scale", scale)
        self.offset = check_number("offset", offset)

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale, "offset": self.offset, **super().get_config()}

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [("", "rescaling", {"scale": self.scale, "offset": self.offset})]


class RandomFlip(Layer):
    """While training, turns images over: each direction with probability 1/2.

    Parameters
    ----------
    mode : {"horizontal", "vertical", "horizontal_and_vertical"}
        "horizontal" exchanges left and right.

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.RandomFlip("horizontal")(layers.Input((32, 32, 3))).shape
    (None, 32, 32, 3)
    """

    @helpful_keywords
    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name, trainable)
        self.mode = _choice("mode", mode, _FLIPS)

    def get_config(self) -> dict[str, Any]:
        return {"mode": self.mode, **super().get_config()}

    def output_shape(self, inputs: list[Shape]) -> Shape:
        _check_images(self, inputs[0])
        return inputs[0]

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        config = {
            "flip_right": "horizontal" in self.mode,
            "flip_down": "vertical" in self.mode,
            "interpolation": "nearest",
        }
        return [("", "resample", config)]


class _Transform(Layer):
    """What the layers have in common that look between pixels and outside of the image."""

    @helpful_keywords
    def __init__(
        self,
        fill_mode: str,
        interpolation: str,
        fill_value: float,
        name: str | None,
        trainable: bool,
    ) -> None:
        super().__init__(name, trainable)
        self.fill_mode = _choice("fill_mode", fill_mode, _FILL_MODES)
        self.interpolation = _choice("interpolation", interpolation, _INTERPOLATIONS)
        self.fill_value = check_number("fill_value", fill_value)

    def get_config(self) -> dict[str, Any]:
        return {
            "fill_mode": self.fill_mode,
            "interpolation": self.interpolation,
            "fill_value": self.fill_value,
            **super().get_config(),
        }

    def output_shape(self, inputs: list[Shape]) -> Shape:
        _check_images(self, inputs[0])
        return inputs[0]

    def _ranges(self) -> dict[str, Any]:
        """Return what is drawn, as the engine takes it."""
        raise NotImplementedError("each transform must define _ranges()")

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        config = {
            "fill_mode": self.fill_mode,
            "interpolation": self.interpolation,
            "fill_value": self.fill_value,
        }
        return [("", "resample", {**config, **self._ranges()})]


def _range(name: str, bounds: tuple[float, float], start: float = 0.0) -> dict[str, float]:
    return {f"{name}_low": start + bounds[0], f"{name}_high": start + bounds[1]}


class RandomRotation(_Transform):
    """While training, turns images about their centre by angles drawn anew for each.

    A pixel of the output at (x, y) from the centre, y down, shows what is at
    ``(x cos a - y sin a, x sin a + y cos a)``, for an angle ``a = 2 pi u`` counter-clockwise, u
    uniform within `factor`.

    Parameters
    ----------
    factor : float or pair of float
        In full turns; f stands for (-f, f).
    fill_mode : {"reflect", "wrap", "constant", "nearest"}
        What stands for pixels outside of an image ``abcd``: ``dcba|abcd|dcba``,
        ``abcd|abcd|abcd``, `fill_value`, or ``aaaa|abcd|dddd``.
    interpolation : {"bilinear", "nearest"}
        How a value between pixels is made.
    fill_value : float

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.RandomRotation(0.1).factor
    (-0.1, 0.1)
    """

    @helpful_keywords
    def __init__(
        self,
        factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        fill_value: float = 0.0,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(fill_mode, interpolation, fill_value, name, trainable)
        self.factor = _interval("factor", factor)

    def get_config(self) -> dict[str, Any]:
        return {"factor": list(self.factor), **super().get_config()}

    def _ranges(self) -> dict[str, Any]:
        return _range("turns", self.factor)


class RandomTranslation(_Transform):
    """While training, shifts images by distances drawn anew for each.

    Parameters
    ----------
    height_factor, width_factor : float or pair of float
        Distance down and to the right, in shares of the height and the width; f stands for
        (-f, f).
    fill_mode : {"reflect", "wrap", "constant", "nearest"}
        What stands for pixels outside of an image ``abcd``: ``dcba|abcd|dcba``,
        ``abcd|abcd|abcd``, `fill_value`, or ``aaaa|abcd|dddd``.
    interpolation : {"bilinear", "nearest"}
        How a value between pixels is made.
    fill_value : float

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.RandomTranslation(0.1, (0.0, 0.2)).width_factor
    (0.0, 0.2)
    """

    @helpful_keywords
    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        fill_value: float = 0.0,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(fill_mode, interpolation, fill_value, name, trainable)
        self.height_factor = _interval("height_factor", height_factor)
        self.width_factor = _interval("width_factor", width_factor)

    def get_config(self) -> dict[str, Any]:
        return {
            "height_factor": list(self.height_factor),
            "width_factor": list(self.width_factor),
            **super().get_config(),
        }

    def _ranges(self) -> dict[str, Any]:
        return {**_range("down", self.height_factor), **_range("right", self.width_factor)}


class RandomZoom(_Transform):
    """While training, makes images smaller or larger, by factors drawn anew for each.

    A pixel at (x, y) from the centre shows what is at ``((1 + w) x, (1 + h) y)``: positive factors
    show more than the image, negative ones a part of it.

    Parameters
    ----------
    height_factor : float or pair of float
        Of h, greater than -1; f stands for (-f, f).
    width_factor : float or pair of float, optional
        Of w; the same number as h without it.
    fill_mode : {"reflect", "wrap", "constant", "nearest"}
        What stands for pixels outside of an image ``abcd``: ``dcba|abcd|dcba``,
        ``abcd|abcd|abcd``, `fill_value`, or ``aaaa|abcd|dddd``.
    interpolation : {"bilinear", "nearest"}
        How a value between pixels is made.
    fill_value : float

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.RandomZoom((-0.2, 0.0)).height_factor
    (-0.2, 0.0)
    """

    @helpful_keywords
    def __init__(
        self,
        height_factor: Factor,
        width_factor: Factor | None = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        fill_value: float = 0.0,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(fill_mode, interpolation, fill_value, name, trainable)
        self.height_factor = _interval("height_factor", height_factor)
        self.width_factor = (
            None if width_factor is None else _interval("width_factor", width_factor)
        )
        for argument in ("height_factor", "width_factor"):
            bounds = getattr(self, argument)
            if bounds is not None and bounds[0] <= -1:
                raise ValueError(f"{argument} must be greater than -1, got {bounds[0]:g}")

    def get_config(self) -> dict[str, Any]:
        width = self.width_factor
        return {
            "height_factor": list(self.height_factor),
            "width_factor": None if width is None else list(width),
            **super().get_config(),
        }

    def _ranges(self) -> dict[str, Any]:
        tall = _range("tall", self.height_factor, 1.0)
        if self.width_factor is None:
            return {**tall, "same_zoom": True}
        return {**tall, **_range("wide", self.width_factor, 1.0)}


class RandomCrop(Layer):
    """Shows a window of each image: anywhere in it while training, otherwise in the middle.

    Parameters
    ----------
    height, width : int
        Of the window; at most those of the image. (Keras enlarges smaller images, and outside of
        training it resizes the greatest window of these proportions.)

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.RandomCrop(24, 24)(layers.Input((28, 28))).shape
    (None, 24, 24)
    """

    @helpful_keywords
    def __init__(
        self, height: int, width: int, name: str | None = None, trainable: bool = True
    ) -> None:
        super().__init__(name, trainable)
        self.height = check_integer("height", height, 1)
        self.width = check_integer("width", width, 1)

    def get_config(self) -> dict[str, Any]:
        return {"height": self.height, "width": self.width, **super().get_config()}

    def output_shape(self, inputs: list[Shape]) -> Shape:
        _check_images(self, inputs[0])
        height, width, *channels = inputs[0]
        if self.height > height or self.width > width:
            raise ValueError(
                f"layer {self.name!r}: a window of {self.height} x {self.width} does not fit into "
                f"images of {height} x {width}"
            )
        return (self.height, self.width, *channels)

    def nodes(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [("", "resample", {"height": self.height, "width": self.width})]
