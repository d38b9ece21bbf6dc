# SPDX-License-Identifier: Apache-2.0
"""A network together with the preparation of its inputs, in one file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fusednn import safetensors, saving
from fusednn.data.preprocessor import Preprocessor
from fusednn.data.targets import Classes, Target

if TYPE_CHECKING:
    from fusednn.models import Model

_KEY, _ABOUT = "preprocessor", "about"


class TableModel:
    """Predicts from tables as they come: the same columns, prepared as they were in training.

    Parameters
    ----------
    model : fusednn.Model
        With one input of as many numbers as the preprocessor gives, and one output.
    preprocessor : Preprocessor
        That has learned, with a target.
    about : dict, optional
        Anything JSON can hold; kept with the model.

    Raises
    ------
    ValueError
        A model whose input or output does not fit.

    Examples
    --------
    >>> import os, tempfile, fusednn
    >>> from fusednn.data import Preprocessor, Table, TableModel
    >>> table = Table({"size": [1, 2, 3, 4], "kind": ["a", "b", "a", "b"]})
    >>> preprocessor = Preprocessor("kind").fit(table)
    >>> model = fusednn.Sequential(
    ...     [fusednn.layers.Dense(1, activation="sigmoid")], input_shape=(1,))
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> TableModel(model, preprocessor).save(path)
    >>> TableModel.load(path).predict_proba(table).shape
    (4, 2)
    """

    def __init__(
        self, model: Model, preprocessor: Preprocessor, about: Mapping[str, Any] | None = None
    ) -> None:
        if preprocessor.target is None:
            raise ValueError("the preprocessor has no target")
        inputs, outputs = len(preprocessor.feature_names), preprocessor.target.outputs
        if model.input_shape != (None, inputs) or model.output_shape != (None, outputs):
            raise ValueError(
                f"the preprocessor needs a model from {inputs} inputs to {outputs} outputs, got "
                f"{model.input_shape} to {model.output_shape}"
            )
        self.model = model
        self.preprocessor = preprocessor
        self.about = dict(about or {})

    @property
    def target(self) -> Target:
        """What is predicted."""
        target = self.preprocessor.target
        assert target is not None  # the constructor saw to it
        return target

    def outputs(self, table: Any) -> np.ndarray:
        """Return what the network gives for rows of a table, shape (rows, outputs)."""
        return np.asarray(self.model.predict(self.preprocessor.transform(table), verbose=0))

    def predict(self, table: Any) -> np.ndarray:
        """Return a label or a number for each row of a table."""
        return self.target.predictions(self.outputs(table))

    def predict_proba(self, table: Any) -> np.ndarray:
        """Return the probability of each class, in the order of ``target.labels``."""
        if not isinstance(self.target, Classes):
            raise ValueError(f"target {self.target.name!r} is a number: it has no classes")
        return self.target.probabilities(self.outputs(table))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, which `fusednn.load` reads as well, without the tables."""
        tensors, metadata = saving.describe(self.model)
        more = {_KEY: self.preprocessor.to_json(), _ABOUT: json.dumps(self.about)}
        safetensors.write(path, tensors, {**metadata, **more})

    @staticmethod
    def is_in(path: str | os.PathLike[str]) -> bool:
        """Return whether a model file holds the preparation of tables as well."""
        return _KEY in safetensors.read(path)[1]

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str = "auto") -> TableModel:
        """Read what `save` wrote. Nothing in the file is ever executed.

        Raises
        ------
        ValueError
            A file that is damaged, or of a model that was not trained on a table.
        OSError
            A file that cannot be read.
        """
        model = saving.load(path, device=device)
        _, metadata = safetensors.read(path)
        try:
            if _KEY not in metadata:
                raise ValueError("it is a model, but not of a table: it has no preprocessor")
            preprocessor = Preprocessor.from_json(metadata[_KEY])
            about = json.loads(metadata.get(_ABOUT, "{}"))
            if not isinstance(about, dict):
                raise ValueError("what it says about itself is not a JSON object")
            return cls(model, preprocessor, about)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None
