# SPDX-License-Identifier: Apache-2.0
"""ONNX files: those that ``Model.export`` wrote, and others of the same operators."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from fusednn import layers
from fusednn.exporting.onnx_files import require_onnx
from fusednn.graph import numbered
from fusednn.importing.onnx_graphs import OnnxGraph, refuse_other_files
from fusednn.importing.onnx_layers import Found, layer_of

if TYPE_CHECKING:
    from fusednn.models import Model

Path = str | os.PathLike[str]

_PRECISIONS = {1: "float32", 11: "float64"}  # by ONNX' number of the type


def from_onnx(filepath: Path, seed: int | None = None) -> Model:
    """Return the model of an ONNX file, with its weights: `predict` gives the same. Needs onnx.

    Reads what ``Model.export`` wrote, and files of other programs that are made of dense layers,
    the activations of this package, batch and layer normalisation over the last axis, sums and
    concatenations (opset 13 and later). Dropout and noise are in no such file, and what is there of
    them is left out. Nothing in the file is ever executed.

    Parameters
    ----------
    filepath : path
    seed : int, optional
        Of the new model, for training it further.

    Returns
    -------
    Model
        Its layers have the names of the tensors they make, with "_" for "/".

    Raises
    ------
    ValueError
        A file that is corrupt, or of which no layers can be made; it names file and operator.
    ImportError
        Where onnx is not installed.

    Examples
    --------
    >>> import fusednn, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.onnx")
    >>> fusednn.Sequential([fusednn.layers.Dense(3)], input_shape=(2,)).export(path)
    >>> fusednn.importing.from_onnx(path).output_shape
    (None, 3)
    """
    onnx = require_onnx("reading an ONNX file")
    with open(os.fspath(filepath), "rb") as file:
        data = file.read()
    try:
        return _model(OnnxGraph(onnx, _decode(onnx, data)), seed)
    except ValueError as error:
        raise ValueError(f"{os.fspath(filepath)}: {error}") from None


def _decode(onnx: Any, data: bytes) -> Any:
    """Return the message in a file; ValueError where it is none or breaks the rules of ONNX."""
    from google.protobuf.message import DecodeError

    try:
        decoded = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ValueError(f"it is no ONNX file, or is truncated ({error})") from None
    for tensor in decoded.graph.initializer:
        refuse_other_files(tensor)
    try:
        onnx.checker.check_model(decoded, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"it is no valid ONNX file ({reason})") from None
    return decoded


def _model(graph: OnnxGraph, seed: int | None) -> Model:
    from fusednn.models import Model

    names = _names([*(x.name for x in graph.inputs), *graph.makers])
    kinds = {x.type.tensor_type.elem_type for x in (*graph.inputs, *graph.outputs)}
    if len(kinds) != 1 or not kinds <= set(_PRECISIONS):
        raise ValueError("its inputs and outputs are not all float32 or all float64")
    tensors = {
        x.name: layers.Input(graph.sample_shape(x.name), name=names[x.name]) for x in graph.inputs
    }
    found: dict[str, Found] = {}
    waiting = [x.name for x in graph.outputs]
    while waiting:
        tensor = waiting.pop()
        if tensor not in tensors and tensor not in found:
            found[tensor] = layer_of(graph, tensor, names[tensor])
            waiting += found[tensor].inputs
    for tensor in sorted(found, key=graph.order.__getitem__):
        layer, inputs, _ = found[tensor]
        tensors[tensor] = layer([tensors[name] for name in inputs])
    model = Model(
        [tensors[x.name] for x in graph.inputs],
        [tensors[x.name] for x in graph.outputs],
        name=graph.name,
        seed=seed,
    )
    precision = _PRECISIONS[kinds.pop()]
    model._take_engine(model._make_engine(precision, "cpu", model.seed), precision, "cpu", seed)
    own = model._named_parameters()
    for tensor, (_, _, weights) in found.items():
        for parameter, value in weights.items():
            _fill(own[f"{names[tensor]}/{parameter}"], f"{tensor}/{parameter}", value)
    model._seen = True
    return model


def _fill(view: np.ndarray, name: str, value: np.ndarray) -> None:
    if view.shape != value.shape:
        raise ValueError(f"array {name!r} has shape {value.shape}, the layer needs {view.shape}")
    view[...] = value


def _names(tensors: list[str]) -> dict[str, str]:
    """Return a name for the layer of every tensor: without slashes, and all different."""
    names: dict[str, str] = {}
    for tensor in sorted(tensors, key=lambda name: "/" in name):  # plain names stay as they are
        stem = tensor.strip("/").replace("/", "_") or "layer"
        names[tensor] = numbered(stem, set(names.values()))
    return names
