# SPDX-License-Identifier: Apache-2.0
"""Models as files.

One safetensors file holds everything. Arrays: "<layer>/<parameter>" for weights,
"optimizer/<state>/<layer>/<parameter>" for the optimizer's state. Metadata: `format` and
`format_version`, `model` (JSON: the architecture) and, for a compiled model, `training` (JSON:
what `compile` was told, steps, seed, epochs). Only the classes of this package are ever made from
a file, and only from plain values. docs/checkpoints.md describes the format and its versions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fusednn import safetensors
from fusednn.errors import check_flag, check_integer, helpful_keywords
from fusednn.random import check_seed
from fusednn.safetensors import Tensors

if TYPE_CHECKING:
    from fusednn.models import Model

Path = str | os.PathLike[str]

_FORMAT = "fusednn"
_VERSION = 2
_PREFIXES = ("optimizer/", "checkpoint/")  # of arrays that are not weights
# What plain values can raise that are not those of a model.
NONSENSE = (
    AttributeError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


# ---- writing -----------------------------------------------------------------------------------


def _states(model: Model) -> Tensors:
    """Return optimizer state and moving average (not copies) by their names in a file."""
    engine = model._engine
    slots = {slot["name"]: slot["values"] for slot in engine.optimizer_states()}
    averages = engine.ema()
    if averages is not None:
        slots["ema"] = averages
    collected = engine.collected_gradients()
    if collected is not None:
        slots["collected"] = collected
    return {
        f"optimizer/{slot}/{p['node']}/{p['name']}": value
        for slot, values in slots.items()
        for p, value in zip(model._parameters, values, strict=True)
        if p["trainable"]
    }


def describe(model: Model, include_optimizer: bool = True) -> tuple[Tensors, dict[str, str]]:
    """Return arrays (not copies) and metadata of a model's file."""
    model._require_graph()
    engine = model._use_engine()
    tensors = model._named_parameters()
    about = {
        "class_name": "Sequential" if hasattr(model, "_stack") else "Model",
        "config": model.get_config(),
        "precision": model.precision,
        "seed": model.seed,
    }
    metadata = {
        "format": _FORMAT,
        "format_version": str(_VERSION),
        "model": json.dumps(about),
    }
    if include_optimizer and model._objective is not None:
        tensors = {**tensors, **_states(model)}
        training = {
            **model._objective.serialize(),
            "epochs": model._epochs,
            "training_steps": engine.training_steps,
            "optimizer_steps": engine.optimizer_steps,
            "optimizer_memory": list(engine.optimizer_memory),
            "collected": engine.collected,
        }
        metadata["training"] = json.dumps(training)
    return tensors, metadata


def save(model: Model, path: Path, include_optimizer: bool = True) -> None:
    """Write a model; see ``Model.save``."""
    include_optimizer = check_flag("include_optimizer", include_optimizer)
    safetensors.write(path, *describe(model, include_optimizer))


def save_weights(model: Model, path: Path) -> None:
    """Write the weights alone; see ``Model.save_weights``."""
    model._use_engine()
    metadata = {"format": _FORMAT, "format_version": str(_VERSION)}
    safetensors.write(path, model._named_parameters(), metadata)


def to_bytes(model: Model) -> bytes:
    """Return what `save` would write."""
    if not model.built:
        # Nothing but the configuration exists.
        about = {"class_name": "Sequential", "config": model.get_config(), "seed": model._seed}
        metadata = {
            "format": _FORMAT,
            "format_version": str(_VERSION),
            "model": json.dumps({**about, "precision": model.precision}),
        }
        if model._objective is not None:
            metadata["training"] = json.dumps(model._objective.serialize())
        return b"".join(safetensors.encode({}, metadata))
    return b"".join(safetensors.encode(*describe(model)))


# ---- reading -----------------------------------------------------------------------------------


def check_format(metadata: Mapping[str, str]) -> None:
    """Raise ValueError unless a file is of a model, and of a version that can be read."""
    if metadata.get("format") != _FORMAT:
        raise ValueError("it is a safetensors file, but not of a fusednn model")
    version = metadata.get("format_version", "")
    if not version.isdecimal() or int(version) > _VERSION:
        raise ValueError(
            f"its format_version is {version!r}, this release of fusednn reads up to {_VERSION}"
        )
    if int(version) > 1 and "checksum" not in metadata:
        raise ValueError("it has no checksum: it is damaged, or another program changed it")


def _check_tensors(wanted: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError unless the file has exactly the arrays that the model has."""
    for name, value in wanted.items():
        if name not in found:
            raise ValueError(f"it has no array {name!r} of shape {value.shape}")
        if found[name].shape != value.shape:
            raise ValueError(
                f"array {name!r} has shape {found[name].shape}, the model needs {value.shape}"
            )
        if found[name].dtype.kind != "f":
            raise ValueError(f"array {name!r} has dtype {found[name].dtype}, not a float")
    for name in found:
        if name not in wanted:
            raise ValueError(f"it has an array {name!r} that the model has not")


def weights_of(own: Mapping[str, np.ndarray], tensors: Tensors) -> Tensors:
    """Return those arrays of a file that are weights, or have the name of one of the model's."""
    return {n: t for n, t in tensors.items() if n in own or not n.startswith(_PREFIXES)}


def json_of(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        value = json.loads(metadata[key])
    except (KeyError, json.JSONDecodeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"its metadata has no valid {key!r}")
    return value


def _rebuild(tensors: Tensors, metadata: Mapping[str, str], compile: bool, device: str) -> Model:
    from fusednn.device import check_device
    from fusednn.models import Model, Sequential
    from fusednn.network import check_precision

    check_format(metadata)
    if "model" not in metadata:
        raise ValueError("it holds weights alone; make the model and use load_weights()")
    about = json_of(metadata, "model")
    kinds: dict[str, type[Model]] = {"Sequential": Sequential, "Model": Model}
    kind = about.get("class_name")
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"its class_name is {kind!r}, not Sequential or Model")
    device = check_device(device)
    try:
        model = kinds[kind].from_config(about["config"])
        precision = check_precision(about["precision"], device)
        seed = about["seed"]
        model._seed = None if seed is None else check_seed(seed)
        engine = model._make_engine(precision, device, model.seed) if model.built else None
    except NONSENSE as error:
        raise ValueError(f"its architecture cannot be built: {error}") from None
    model._take_engine(engine, precision, device, model._seed)
    if model.built:
        model._seen = True
        put_weights(model, tensors)
    if compile and "training" in metadata:
        try:
            _recompile(model, tensors, json_of(metadata, "training"), precision, device)
        except NONSENSE as error:
            raise ValueError(f"its state of training cannot be restored: {error}") from None
    return model


def put_weights(model: Model, tensors: Tensors) -> None:
    """Take the weights of a file; ValueError, with nothing changed, where they do not fit."""
    own = model._named_parameters()
    weights = weights_of(own, tensors)
    _check_tensors(own, weights)
    for name, value in weights.items():
        own[name][...] = value


def _recompile(
    model: Model,
    tensors: Tensors,
    training: Mapping[str, Any],
    precision: str,
    device: str,
) -> None:
    """Compile as before and put optimizer, counters and averages where they were."""
    model.compile(
        training["optimizer"],
        training["loss"],
        training["metrics"],
        training["loss_weights"],
        device=device,
        precision=precision,
        convention=training["convention"],
    )
    if model.built:
        restore(model, tensors, training)


def restore(model: Model, tensors: Tensors, training: Mapping[str, Any]) -> None:
    """Put optimizer, counters and averages of a compiled model where they were."""
    own = _states(model)
    weights = model._named_parameters()
    states = {n: t for n, t in tensors.items() if n.startswith("optimizer/") and n not in weights}
    if "collected" not in training:  # as in files of version 1, which begin a new collection
        own = {n: t for n, t in own.items() if not n.startswith("optimizer/collected/")}
    _check_tensors(own, states)
    epochs = check_integer("epochs", training["epochs"], 0)
    for name, value in states.items():
        own[name][...] = value
    engine = model._engine
    engine.optimizer_steps = training["optimizer_steps"]
    engine.optimizer_memory = training["optimizer_memory"]
    engine.training_steps = training["training_steps"]
    if training.get("collected"):
        engine.collected = training["collected"]
    model._epochs = epochs


@helpful_keywords
def load(filepath: Path, compile: bool = True, device: str = "auto") -> Model:
    """Read a model that `Model.save` wrote. Nothing in the file is ever executed.

    Parameters
    ----------
    filepath : path
    compile : bool
        Whether to restore what `compile` was told and the optimizer's state, where the file has
        them.
    device : {"auto", "cpu", "cuda"}

    Returns
    -------
    Model or Sequential

    Raises
    ------
    ValueError
        A file that is truncated, corrupt, or not of a model; the message names it.
    OSError
        A file that cannot be read.

    Examples
    --------
    >>> import fusednn, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> fusednn.Sequential([fusednn.layers.Dense(3)], input_shape=(2,)).save(path)
    >>> fusednn.load(path).output_shape
    (None, 3)
    """
    tensors, metadata = safetensors.read(filepath)
    try:
        return _rebuild(tensors, metadata, check_flag("compile", compile), device)
    except ValueError as error:
        raise ValueError(f"{os.fspath(filepath)}: {error}") from None


def from_bytes(data: bytes) -> Model:
    """Return the model that `to_bytes` described."""
    return _rebuild(*safetensors.decode(data), compile=True, device="auto")


def load_weights(
    model: Model, path: Path, by_name: bool = False, skip_mismatch: bool = False
) -> None:
    """Read weights into a model; see ``Model.load_weights``."""
    by_name = check_flag("by_name", by_name)
    skip_mismatch = check_flag("skip_mismatch", skip_mismatch)
    if skip_mismatch and not by_name:
        raise ValueError("skip_mismatch=True needs by_name=True")
    model._use_engine()
    own = model._named_parameters()
    try:
        weights = _read_weights(model, path, by_name)
        if by_name:
            weights = _common_layers(own, weights, skip_mismatch)
            own = {name: own[name] for name in weights}
        _check_tensors(own, weights)
    except ValueError as error:
        raise ValueError(
            f"{os.fspath(path)}: {error}; it is of another architecture, nothing was changed"
        ) from None
    for name, value in weights.items():
        own[name][...] = value
    model._restart_average()


def _read_weights(model: Model, path: Path, by_name: bool) -> dict[str, np.ndarray]:
    """Return arrays by "<layer>/<parameter>"; those of Keras by what they are in this model."""
    from fusednn.importing import keras_files

    if keras_files.is_keras(path):
        return keras_files.weights_for(model, path, by_name)
    tensors, metadata = safetensors.read(path)
    if metadata.get("format") == _FORMAT:  # others' files have their own
        check_format(metadata)
    return weights_of(model._named_parameters(), tensors)


def _common_layers(
    own: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], skip_mismatch: bool
) -> dict[str, np.ndarray]:
    """Return those arrays of a file whose layers the model has too."""

    def by_layer(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
        layers: dict[str, dict[str, np.ndarray]] = {}
        for name, value in arrays.items():
            layers.setdefault(name.partition("/")[0], {})[name] = value
        return layers

    ours, theirs = by_layer(own), by_layer(found)
    common: dict[str, np.ndarray] = {}
    for layer in ours.keys() & theirs.keys():
        fits = {n: v.shape for n, v in ours[layer].items()} == {
            n: v.shape for n, v in theirs[layer].items()
        }
        if fits:
            common |= theirs[layer]
        elif not skip_mismatch:
            _check_tensors(ours[layer], theirs[layer])
    if not common:
        raise ValueError(
            f"none of its layers ({', '.join(sorted(theirs))}) is one of the model's "
            f"({', '.join(sorted(ours))})"
        )
    return common
