# SPDX-License-Identifier: Apache-2.0
"""What a model computes in `predict`, as a list of steps for files of other programs."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fusednn.graph import NOISE
from fusednn.layers.base import Shape

if TYPE_CHECKING:
    from fusednn.models import Model


@dataclass(frozen=True)
class Step:
    """A node of the engine that computes something outside of training.

    Attributes
    ----------
    name : str
        "<layer>", or "<layer>/activation" for what follows in the same layer.
    layer : str
    kind : str
        As the engine calls it: "input", "dense", "activation" ...
    inputs : tuple of int
        Places of earlier steps.
    config : dict
    weights : dict of str to array
    shape : tuple of int
        Of one sample of the output.
    """

    name: str
    layer: str
    kind: str
    inputs: tuple[int, ...]
    config: dict[str, Any]
    weights: dict[str, np.ndarray]
    shape: Shape

    @property
    def size(self) -> int:
        """Number of values in one sample of the output."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Program:
    """Steps in an order in which they can be computed.

    Attributes
    ----------
    name : str
        Of the model.
    dtype : dtype
        float32 or float64.
    steps : list of Step
    outputs : list of (str, int)
        Name of the output layer, and the place of the step that holds its values. Several may be
        the same step, and it may be an input.
    """

    name: str
    dtype: np.dtype
    steps: list[Step]
    outputs: list[tuple[str, int]]

    @property
    def inputs(self) -> list[int]:
        """Places of the inputs, in the order of the model's."""
        return [place for place, step in enumerate(self.steps) if step.kind == "input"]


def _passes_on(kind: str, config: dict[str, Any]) -> bool:
    """Whether a node hands its input on as it is, outside of training."""
    if kind == "resample":  # a transform of images; one that crops shows the middle of them
        return "height" not in config
    return kind in NOISE or (kind == "activation" and config["activation"] == "linear")


def middle(step: Step, before: Shape) -> list[tuple[int, int]]:
    """Return for each axis that is cropped where the part in the middle begins and ends."""
    begins = [(a - b) // 2 for a, b in zip(before[:2], step.shape[:2], strict=True)]
    return [(begin, begin + size) for begin, size in zip(begins, step.shape[:2], strict=True)]


def make_program(model: Model, kinds: Collection[str], target: str) -> Program:
    """Return the steps of a model, without those that only training knows.

    Parameters
    ----------
    model : Model
    kinds : collection of str
        The nodes that the target can say.
    target : str
        What it is called in errors.

    Raises
    ------
    ValueError
        Naming the layer that the target has no words for, or whose weights are not finite.
    """
    graph = model._require_graph()
    if layer := graph.written_in_python():
        raise ValueError(
            f"{layer} is written in Python, which {target} cannot hold; export a model without it"
        )
    model._use_engine()
    weights: dict[str, dict[str, np.ndarray]] = {}
    for key, value in model._named_parameters().items():
        layer, _, parameter = key.partition("/")
        if not np.isfinite(value).all():
            raise ValueError(f"{parameter} of layer {layer!r} is not finite; nothing was exported")
        weights.setdefault(layer, {})[parameter] = value
    steps: list[Step] = []
    moved: dict[int, int] = {}  # place in the graph -> place among the steps
    for place, (node, shape) in enumerate(zip(graph.nodes, graph.node_shapes, strict=True)):
        name, kind, config = node["name"], node["type"], node["config"]
        inputs = tuple(moved[i] for i in node["inputs"])
        if _passes_on(kind, config):
            (moved[place],) = inputs
            continue
        layer = name.partition("/")[0]
        if kind not in kinds:
            raise ValueError(f"layer {layer!r} is a {kind} node, which {target} cannot hold")
        own = weights.get(name, {})
        moved[place] = len(steps)
        steps.append(Step(name, layer, kind, inputs, config, own, shape))
    # The engine takes inputs in the order of their nodes, which is that of the model.
    outputs = [moved[place] for place in graph.output_places]
    named = list(zip(graph.output_names, outputs, strict=True))
    return Program(model.name, model.dtype, steps, named)
