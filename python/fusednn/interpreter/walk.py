# SPDX-License-Identifier: Apache-2.0
"""One pass forward through a graph, and one back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusednn.interpreter.nodes import KINDS, Arrays, Node


@dataclass
class Tape:
    """What a pass forward has computed, and a pass back afterwards.

    Attributes
    ----------
    values : dict of int to array
        Outputs by the place of the node.
    gradients : dict of int to array
        Of the loss with respect to those.
    """

    values: dict[int, np.ndarray] = field(default_factory=dict)
    kept: dict[int, Any] = field(default_factory=dict)
    gradients: dict[int, np.ndarray] = field(default_factory=dict)


class Walker:
    """Evaluates the nodes of a graph.

    Parameters
    ----------
    nodes : list of dict
        As the engine takes them.
    parameters : dict
        By node the arrays of its parameters, by name. They are used where they lie.
    gradients : dict
        Likewise, the arrays that a pass back fills.
    precision : str
    seed : int
        Of the random masks.
    frozen : collection of str, optional
        Names of nodes that do not learn.
    """

    def __init__(
        self,
        nodes: Sequence[Mapping[str, Any]],
        parameters: Mapping[str, Arrays],
        gradients: Mapping[str, Arrays],
        precision: str,
        seed: int,
        frozen: Collection[str] = (),
    ) -> None:
        self.nodes = []
        for place, spec in enumerate(nodes):
            if spec["type"] != "input" and spec["type"] not in KINDS:
                raise ValueError(
                    f"layer {spec['name']!r} cannot be computed node by node: there is no "
                    f"{spec['type']!r} outside of the compiled engine"
                )
            self.nodes.append(
                Node(
                    place,
                    spec["name"],
                    spec["type"],
                    list(spec["inputs"]),
                    dict(spec["config"]),
                    parameters.get(spec["name"], {}),
                    gradients.get(spec["name"], {}),
                    precision,
                    seed,
                    frozen=spec["name"] in frozen,
                )
            )
        self._dtype = np.float64 if precision == "float64" else np.float32
        self.entries = [node.place for node in self.nodes if node.kind == "input"]

    def forward(self, inputs: Sequence[np.ndarray], training: bool = False, step: int = 0) -> Tape:
        """Evaluate all nodes.

        Parameters
        ----------
        inputs : list of arrays
            One per input of the graph.
        training : bool
            Whether dropout and batch normalisation are at work.
        step : int
            The training step, from 1, which decides the random masks.
        """
        tape = Tape()
        for place, array in zip(self.entries, inputs, strict=True):
            tape.values[place] = array if array.dtype.kind == "f" else array.astype(self._dtype)
        for node in self.nodes:
            if node.kind == "input":
                continue
            node.training, node.step = training, step
            given = [tape.values[place] for place in node.inputs]
            tape.values[node.place], tape.kept[node.place] = KINDS[node.kind].forward(node, given)
        return tape

    def _learns_before(self, node: Node) -> bool:
        before = [self.nodes[place] for place in node.inputs]
        return any(each.values or self._learns_before(each) for each in before)

    def backward(
        self, tape: Tape, gradients: Mapping[int, np.ndarray], to_inputs: bool = True
    ) -> list[np.ndarray]:
        """Send gradients of node outputs back to parameters and, where wanted, to inputs.

        Returns
        -------
        list of arrays
            The gradients of the inputs.
        """
        tape.gradients = {place: np.array(value) for place, value in gradients.items()}
        for node in reversed(self.nodes):
            gradient = tape.gradients.get(node.place)
            if node.kind == "input":
                continue
            if gradient is None:  # nothing below depends on it
                for value in node.gradients.values():
                    value[...] = 0
                continue
            if node.kind == "resample" and not to_inputs and not self._learns_before(node):
                continue
            gradient = np.ascontiguousarray(gradient)
            pieces = KINDS[node.kind].backward(node, gradient, tape.kept[node.place])
            for place, piece in zip(node.inputs, pieces, strict=True):
                before = tape.gradients.get(place)
                tape.gradients[place] = piece if before is None else before + piece
        return [
            tape.gradients.get(place, np.zeros_like(tape.values[place])) for place in self.entries
        ]
