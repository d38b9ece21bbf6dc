# SPDX-License-Identifier: Apache-2.0
"""Keras' files: ``.weights.h5`` and ``.keras``. Reading them needs h5py, but not Keras.

In both, the arrays of the n-th layer of a class lie under ``layers/<class>_<n>/vars/0, 1, ...``, in
the order in which the layer made them, which is also ours; the attribute `name` is the layer's.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fusednn import layers as layer_module
from fusednn.layers.base import Layer, SymbolicTensor

if TYPE_CHECKING:
    from fusednn.models import Model

Path = str | os.PathLike[str]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
# What the arguments of a layer may be called in a configuration; others describe Keras' inside.
_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "Activation": ("activation",),
    "Add": (),
    "BatchNormalization": ("momentum", "epsilon", "center", "scale"),
    "Concatenate": (),
    "Dense": ("units", "activation", "use_bias"),
    "Dropout": ("rate",),
    "ELU": ("alpha",),
    "Flatten": (),
    "LayerNormalization": ("epsilon", "center", "scale"),
    "LeakyReLU": ("negative_slope",),
    "Softmax": (),
}
# Not built into the layers here, and without influence on what a trained model computes.
_TRAINING_ONLY = (
    "kernel_regularizer",
    "bias_regularizer",
    "activity_regularizer",
    "kernel_constraint",
    "bias_constraint",
)


class _Group(NamedTuple):
    kind: str  # class of the layer, in snake case
    place: int  # among the layers of this class
    name: str
    arrays: list[np.ndarray]


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def is_keras(path: Path) -> bool:
    """Return whether a file looks like one of Keras'."""
    with open(os.fspath(path), "rb") as file:
        return file.read(8).startswith((_HDF5, _ZIP))


def _open_weights(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise ImportError(
            f"{os.fspath(path)} is a file of Keras; reading it needs h5py: pip install h5py"
        ) from None
    with open(os.fspath(path), "rb") as file:
        zipped = file.read(4) == _ZIP
    if not zipped:
        return h5py.File(os.fspath(path), "r")
    with zipfile.ZipFile(os.fspath(path)) as archive:
        return h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r")


def _groups(path: Path) -> list[_Group]:
    found = []
    with _open_weights(path) as file:
        if "layers" not in file:
            raise ValueError("it has no group 'layers'; older .h5 files of Keras 2 are not read")
        for key, group in file["layers"].items():
            variables = group.get("vars")
            if variables is None or not len(variables):
                if any(part not in ("vars",) for part in group):
                    raise ValueError(f"layer {key!r} is a model of its own; these are not read")
                continue
            stem, _, number = key.rpartition("_")
            kind, place = (stem, int(number)) if number.isdecimal() else (key, 0)
            arrays = [np.asarray(variables[str(i)]) for i in range(len(variables))]
            name = variables.attrs.get("name", key)
            found.append(_Group(kind, place, str(name), arrays))
    return found


def _layers_with_weights(model: Model) -> Iterator[tuple[str, int, str, list[str]]]:
    """Yield class, place among its class, name and parameters of every layer that has some."""
    graph = model._require_graph()
    counts: dict[str, int] = {}
    for layer in graph.layers:
        kind = _snake_case(type(layer).__name__)
        place = counts.get(kind, 0)
        counts[kind] = place + 1
        name = graph.name_of(layer)
        parameters = [p["name"] for p in model._parameters if p["node"] == name]
        if parameters:
            yield kind, place, name, parameters


def weights_for(model: Model, path: Path, by_name: bool) -> dict[str, np.ndarray]:
    """Return the arrays of a file by the names they have in a model."""
    groups = _groups(path)
    weights: dict[str, np.ndarray] = {}
    for kind, place, name, parameters in _layers_with_weights(model):
        if by_name:
            group = next((g for g in groups if g.name == name), None)
        else:
            group = next((g for g in groups if (g.kind, g.place) == (kind, place)), None)
        if group is None:
            continue
        groups.remove(group)
        if len(group.arrays) != len(parameters):
            raise ValueError(
                f"its layer {group.name!r} has {len(group.arrays)} arrays, {name!r} of the model "
                f"has {len(parameters)}"
            )
        weights |= {f"{name}/{p}": array for p, array in zip(parameters, group.arrays, strict=True)}
    if groups and not by_name:
        raise ValueError(f"it has a layer {groups[0].name!r} that the model has not")
    return weights


# ---- whole models --------------------------------------------------------------------------------


def _activation(value: Any) -> Any:
    if value == "leaky_relu":  # the name alone means another slope there
        return {"name": "leaky_relu", "negative_slope": 0.2}
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"its activation {value!r} is not known")


def _layer(entry: Mapping[str, Any]) -> Layer:
    kind, config = entry["class_name"], entry["config"]
    name = config["name"]
    if kind == "InputLayer":
        shape = config.get("batch_shape") or config.get("batch_input_shape")
        return layer_module.InputLayer(shape[1:], name=name)
    if kind == "ReLU":
        plain = not (
            config.get("max_value") or config.get("negative_slope") or config.get("threshold")
        )
        if not plain:
            raise ValueError(f"its layer {name!r} is a ReLU with a bend, which is not read")
        return layer_module.ReLU(name=name)
    if kind not in _ARGUMENTS:
        known = ", ".join(sorted({"InputLayer", "ReLU", *_ARGUMENTS}))
        raise ValueError(f"its layer {name!r} is a {kind}, which is not read; known: {known}")
    if config.get("axis", -1) not in (-1, [-1]) and kind not in ("BatchNormalization",):
        raise ValueError(f"its layer {name!r} works along axis {config['axis']}, not the last")
    arguments = {argument: config[argument] for argument in _ARGUMENTS[kind]}
    if "activation" in arguments:
        arguments["activation"] = _activation(arguments["activation"])
    trainable = config.get("trainable", True)
    return getattr(layer_module, kind)(**arguments, name=name, trainable=trainable)


def _inbound(entry: Mapping[str, Any]) -> list[str]:
    """Return the names of the layers that a layer of a functional model was called on."""
    nodes = entry["inbound_nodes"]
    if len(nodes) > 1:
        raise ValueError(f"its layer {entry['name']!r} is used at several places")
    names: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, Mapping):
            if value.get("class_name") == "__keras_tensor__":
                names.append(value["config"]["keras_history"][0])
        elif isinstance(value, (list, tuple)):
            for item in value:
                collect(item)

    for node in nodes:
        collect(node["args"])
    return names


def _ends(given: Any) -> list[str]:
    """Return layer names of `input_layers` or `output_layers`."""
    if given and isinstance(given[0], str):
        return [given[0]]
    return [entry[0] for entry in given]


def from_keras(filepath: Path, seed: int | None = None) -> Model:
    """Return the model of a ``.keras`` file, with its weights. Needs h5py, not Keras.

    Sequential and functional models of the layers that both libraries have. Regularisers and
    constraints are left out with a warning, and so is what ``compile`` was told. Nothing in the
    file is ever executed.

    Parameters
    ----------
    filepath : path
    seed : int, optional
        Of the new model, for training it further.

    Raises
    ------
    ValueError
        Layers that are not known here.

    Examples
    --------
    >>> import fusednn
    >>> model = fusednn.importing.from_keras("model.keras")  # doctest: +SKIP
    """
    import warnings

    from fusednn.models import Model, Sequential

    try:
        with zipfile.ZipFile(os.fspath(filepath)) as archive:
            described = json.loads(archive.read("config.json"))
        config = described["config"]
        kind = described["class_name"]
        dropped = sorted(
            {key for x in config["layers"] for key in _TRAINING_ONLY if x["config"].get(key)}
        )
        model: Model
        if kind == "Sequential":
            chain = [_layer(entry) for entry in config["layers"]]
            model = Sequential(chain, name=config["name"], seed=seed)
        elif kind in ("Functional", "Model"):
            tensors: dict[str, SymbolicTensor] = {}
            for entry in config["layers"]:
                before = [tensors[name] for name in _inbound(entry)]
                tensors[entry["name"]] = _layer(entry)(before)
            inputs, outputs = _ends(config["input_layers"]), _ends(config["output_layers"])
            model = Model(
                [tensors[name] for name in inputs],
                [tensors[name] for name in outputs],
                name=config["name"],
                seed=seed,
            )
        else:
            raise ValueError(f"it holds a {kind}, not a Sequential or functional model")
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{os.fspath(filepath)}: {error}") from None
    if dropped:
        warnings.warn(f"{os.fspath(filepath)}: left out {', '.join(dropped)}", stacklevel=2)
    model.load_weights(
        filepath, by_name=True
    )  # the order of a functional model's layers may differ
    return model
