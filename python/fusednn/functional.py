# SPDX-License-Identifier: Apache-2.0
"""Model: any graph of layers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fusednn import arrays, gradients, saving
from fusednn import layers as layer_module
from fusednn.errors import check_flag, check_integer, helpful_keywords, unknown_choice
from fusednn.layers.base import Layer, SymbolicTensor
from fusednn.summary import render
from fusednn.training import Trainable

Path = str | os.PathLike[str]


class Model(Trainable):
    """A network given by its inputs and outputs: any graph without cycles.

    Layers may belong to another model already; this one then borrows them: both have the same
    weights, and training either changes them. Whether a borrowed layer learns is decided by its
    `trainable` in the moment of ``compile``, so that it can be frozen here and learn there; each
    model has an optimizer state of its own.

    A model can be called like a layer, on outputs of other layers; it lends all its layers then.

    Parameters
    ----------
    inputs, outputs : SymbolicTensor or list of them
        What `Input` and layers return, or ``layer.output`` of a model that is there.
    name : str, optional
    seed : int, optional
        Decides initial values, shuffles and dropout masks. ``compile(seed=...)`` and
        ``fusednn.set_seed`` are other ways to say it.

    Examples
    --------
    >>> import fusednn
    >>> from fusednn import layers
    >>> image, text = layers.Input((64,), name="image"), layers.Input((16,), name="text")
    >>> joined = layers.Concatenate()([layers.Dense(8, activation="relu")(image), text])
    >>> model = fusednn.Model([image, text], layers.Dense(2, name="choice")(joined))
    >>> model.output_shape
    (None, 2)

    What a trained model has learned, under a new head:

    >>> base = fusednn.Sequential([layers.Dense(8, activation="relu"), layers.Dense(5)], (4,))
    >>> base.trainable = False
    >>> tuned = fusednn.Model(base.inputs, layers.Dense(2)(base.layers[0].output))
    >>> tuned.compile("adam", "mse")
    >>> _ = tuned.fit([[1.0, 2, 3, 4]], [[0.0, 1]], verbose=0)
    """

    @helpful_keywords
    def __init__(
        self,
        inputs: SymbolicTensor | Sequence[SymbolicTensor],
        outputs: SymbolicTensor | Sequence[SymbolicTensor],
        name: str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(name, seed)
        self._set_graph(_tensors("inputs", inputs), _tensors("outputs", outputs))

    def __call__(
        self, inputs: SymbolicTensor | Sequence[SymbolicTensor]
    ) -> SymbolicTensor | list[SymbolicTensor]:
        """Connect the model to outputs of other layers, as if it were a layer.

        Parameters
        ----------
        inputs : SymbolicTensor or list of them
            One per input, of the same shapes.

        Returns
        -------
        SymbolicTensor, or a list of them
            One per output.

        Examples
        --------
        >>> import fusednn
        >>> from fusednn import layers
        >>> encoder = fusednn.Sequential([layers.Dense(2)], input_shape=(8,))
        >>> decoder = fusednn.Sequential([layers.Dense(8)], input_shape=(2,))
        >>> x = layers.Input((8,))
        >>> fusednn.Model(x, decoder(encoder(x))).output_shape
        (None, 8)
        """
        graph = self._require_graph()
        given = _tensors("inputs", inputs)
        wanted = [tensor.sample_shape for tensor in graph.inputs]
        if [tensor.sample_shape for tensor in given] != wanted:
            shapes = ", ".join(str(tensor.sample_shape) for tensor in given)
            raise ValueError(
                f"model {self.name!r} takes inputs of shapes {', '.join(map(str, wanted))}, "
                f"got {shapes}"
            )
        made = {id(old): new for old, new in zip(graph.inputs, given, strict=True)}
        for tensor in graph.tensors:
            if id(tensor) not in made:
                made[id(tensor)] = tensor.layer.connect([made[id(t)] for t in tensor.inputs])
        outputs = [made[id(tensor)] for tensor in graph.outputs]
        return outputs[0] if len(outputs) == 1 else outputs

    # ---- looking at it -------------------------------------------------------------------------

    @property
    def inputs(self) -> list[SymbolicTensor]:
        """What the model was made of."""
        return list(self._require_graph().inputs)

    @property
    def outputs(self) -> list[SymbolicTensor]:
        """What the model was made of."""
        return list(self._require_graph().outputs)

    @property
    def input(self) -> SymbolicTensor | list[SymbolicTensor]:
        """The input, or a list of them."""
        return self.inputs[0] if len(self.inputs) == 1 else self.inputs

    @property
    def output(self) -> SymbolicTensor | list[SymbolicTensor]:
        """The output, or a list of them."""
        return self.outputs[0] if len(self.outputs) == 1 else self.outputs

    @property
    def input_shape(self) -> tuple | list[tuple]:
        """Shape of the input, or of each, with None for the batch axis."""
        shapes = [tensor.shape for tensor in self.inputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> tuple | list[tuple]:
        """Shape of the output, or of each, with None for the batch axis."""
        shapes = [tensor.shape for tensor in self.outputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @helpful_keywords
    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return a layer by its name or by its place in `layers`.

        Examples
        --------
        >>> import fusednn
        >>> model = fusednn.Sequential([fusednn.layers.Dense(3)], input_shape=(2,))
        >>> model.get_layer("dense").units
        3
        """
        if (name is None) == (index is None):
            raise ValueError("get_layer() needs either name or index")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ValueError(
                    f"index={index} is out of range: there are {len(self.layers)} layers"
                )
            return self.layers[index]
        for layer in self.layers:  # of a Sequential there may be models among them
            if layer.name == name:
                return layer
        if self._graph is None:
            raise unknown_choice("layer name", name, [layer.name for layer in self.layers])
        return self._graph.named(name)  # type: ignore[arg-type]

    @helpful_keywords
    def summary(self, print_fn: Callable[[str], object] | None = None) -> None:
        """Print layers, output shapes, numbers of parameters, and what a step costs.

        Parameters
        ----------
        print_fn : callable, optional
            Called once with the whole text; default `print`.

        Examples
        --------
        >>> import fusednn
        >>> fusednn.Sequential([fusednn.layers.Dense(3)], input_shape=(2,), name="tiny").summary()
        Model: tiny
        ────────────────────────────────────
        Layer (type)   Output shape  Param #
        ────────────────────────────────────
        dense (Dense)  (None, 3)           9
        ────────────────────────────────────
        Total params: 9 (36 B)
        Trainable params: 9 (36 B)
        Non-trainable params: 0 (0 B)
        FLOPs per sample: 12 forward, 36 in training
        Memory: 36 B weights, at most 20 B of outputs per sample
        """
        (print_fn or print)(render(self))

    # ---- gradients -----------------------------------------------------------------------------

    @helpful_keywords
    def backward(
        self, dy: Any, x: Any = None, training: bool = False
    ) -> np.ndarray | list[np.ndarray]:
        """Return the gradient of the input, given that of the output.

        Parameters
        ----------
        dy : array, or a list of them
            Gradient of each output, of its shape.
        x : array, or a list or dict of them
            Where. Default: the input of the last call with one.
        training : bool
            Whether dropout and batch normalisation are at work.

        Returns
        -------
        ndarray, or a list of them
            One per input. Computed node by node, not by the fused plan.

        Examples
        --------
        >>> import fusednn
        >>> model = fusednn.Sequential([fusednn.layers.Dense(1)], input_shape=(2,))
        >>> model.set_weights([[[3.0], [4.0]], [0.0]])
        >>> model.backward([[1.0]], x=[[5.0, 5.0]]).tolist()
        [[3.0, 4.0]]
        """
        graph = self._require_graph()
        if x is not None:
            inputs = arrays.prepare_inputs(graph, x, self.dtype)
            self._tape = gradients.run_forward(self, inputs, check_flag("training", training))
        if self._tape is None:
            raise ValueError("backward() needs x, or a call with it before")
        walker, tape = self._tape
        given = dy if isinstance(dy, (list, tuple)) and len(graph.outputs) > 1 else [dy]
        starts: dict[int, np.ndarray] = {}
        for place, value in zip(graph.output_places, given, strict=True):
            slope = arrays.to_precision("dy", value, self.dtype, finite=False)
            if slope.shape != tape.values[place].shape:
                raise ValueError(
                    f"dy has shape {slope.shape}, but the output has {tape.values[place].shape}"
                )
            starts[place] = slope
        found = walker.backward(tape, starts)
        return found[0] if len(found) == 1 else found

    @helpful_keywords
    def check_gradients(
        self, x: Any, y: Any, sample_weight: Any = None, samples: int = 20, tolerance: float = 1e-4
    ) -> dict[str, float]:
        """Compare the gradients of the loss with differences, in float64 and training mode.

        Parameters
        ----------
        x, y, sample_weight
            A few samples, as for `fit`.
        samples : int
            Elements looked at per array, drawn at random.
        tolerance : float
            The largest difference, relative to the largest gradient of the array.

        Returns
        -------
        dict of str to float
            The largest relative difference found, by "<layer>/<parameter>".

        Raises
        ------
        ValueError
            Where a difference is larger than `tolerance`.

        Examples
        --------
        >>> import numpy as np, fusednn
        >>> model = fusednn.Sequential([fusednn.layers.Dense(2, activation="tanh")], seed=0)
        >>> model.compile("adam", "mse")
        >>> errors = model.check_gradients(np.ones((3, 4)), np.ones((3, 2)))
        >>> max(errors.values()) < 1e-6
        True
        """
        self._require_objective("check_gradients")
        forget = self._build_for(x)
        try:
            data = self._prepare(x, y, sample_weight)
        except BaseException:
            forget()
            raise
        wide = np.dtype(np.float64)
        targets = [t.astype(wide) if t.dtype.kind == "f" else t for t in data.targets]
        weight = None if data.weight is None else data.weight.astype(wide)
        data = arrays.Data([a.astype(wide) for a in data.inputs], targets, weight, data.rows)
        return gradients.check(self, data, check_integer("samples", samples, 1), tolerance)

    # ---- as plain values -----------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the architecture as plain values, without weights."""
        graph = self._require_graph()
        described = []
        for layer in graph.layers:
            entry = layer_module.serialize(layer)
            entry["config"]["name"] = graph.name_of(layer)
            before = [graph.name_of(other) for other in graph.input_layers_of(layer)]
            described.append({**entry, "inputs": before})
        return {
            "name": self.name,
            "layers": described,
            "inputs": graph.input_names,
            "outputs": graph.output_names,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Model:
        """Make a model of what ``get_config`` returned, with weights of its own.

        Examples
        --------
        >>> import fusednn
        >>> model = fusednn.Sequential([fusednn.layers.Dense(3)], input_shape=(2,))
        >>> fusednn.Sequential.from_config(model.get_config()).output_shape
        (None, 3)
        """
        tensors: dict[str, SymbolicTensor] = {}
        for entry in config["layers"]:
            layer = layer_module.deserialize(entry)
            tensors[layer.name] = layer([tensors[name] for name in entry["inputs"]])
        return cls(
            [tensors[name] for name in config["inputs"]],
            [tensors[name] for name in config["outputs"]],
            name=config.get("name"),
        )

    # ---- files ---------------------------------------------------------------------------------

    @helpful_keywords
    def save(self, filepath: Path, include_optimizer: bool = True) -> None:
        """Write architecture, weights and the state of training to one safetensors file.

        The file is written beside its final place and renamed: it is there whole or not at all.
        ``fusednn.load`` reads it; training goes on from there with the same bits.

        Parameters
        ----------
        filepath : path
            An existing file is replaced.
        include_optimizer : bool
            Whether to write what `compile` was told and the optimizer's state.

        Examples
        --------
        >>> import fusednn, os, tempfile
        >>> model = fusednn.Sequential([fusednn.layers.Dense(3)], input_shape=(2,))
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> model.save(path)
        >>> fusednn.load(path).count_params()
        9
        """
        saving.save(self, filepath, include_optimizer)

    @helpful_keywords
    def save_weights(self, filepath: Path) -> None:
        """Write the weights alone, named "<layer>/<parameter>", to a safetensors file."""
        saving.save_weights(self, filepath)

    @helpful_keywords
    def load_weights(
        self, filepath: Path, by_name: bool = False, skip_mismatch: bool = False
    ) -> None:
        """Read the weights from a file of `save` or `save_weights`, or from one of Keras.

        Parameters
        ----------
        filepath : path
            Also ``.weights.h5`` and ``.keras``, which need h5py; layers are then matched by class
            and order, or by name with `by_name`.
        by_name : bool
            Whether to read only layers whose names are in the file as well, and leave the others as
            they are.
        skip_mismatch : bool
            Whether to leave out layers whose shapes differ, with `by_name`.

        Raises
        ------
        ValueError
            With nothing changed, where names or shapes are not the model's.

        Examples
        --------
        >>> import fusednn, os, tempfile
        >>> from fusednn import layers
        >>> path = os.path.join(tempfile.mkdtemp(), "old")
        >>> old = [layers.Dense(4, name="body"), layers.Dense(3, name="head")]
        >>> fusednn.Sequential(old, input_shape=(2,)).save_weights(path)
        >>> new = [layers.Dense(4, name="body"), layers.Dense(9, name="other")]
        >>> fusednn.Sequential(new, input_shape=(2,)).load_weights(path, by_name=True)
        """
        saving.load_weights(self, filepath, by_name, skip_mismatch)

    @helpful_keywords
    def export(
        self,
        filepath: Path,
        format: str | None = None,
        name: str | None = None,
        layout: str | None = None,
    ) -> None:
        """Write what `predict` computes to a file for other programs.

        An existing file is replaced; where something goes wrong it is left as it was.

        Parameters
        ----------
        filepath : path
            Its ending says the format: ``.onnx``, ``.c`` or ``.safetensors``.
        format : {"onnx", "c", "safetensors"}, optional
            Where the ending does not say it. "onnx": opset 17 with IR version 8, needs the package
            onnx. "c": one C99 file without dependencies, with a self-test. "safetensors": the
            weights alone.
        name : str, optional
            In C the function is ``<name>_predict``; default: after the file.
        layout : {"keras", "torch"}, optional
            Of safetensors: "<layer>/kernel" of shape (in, out), the default, or "<layer>.weight" of
            shape (out, in), as ``load_state_dict`` of a PyTorch module takes it.

        Raises
        ------
        ValueError
            Naming a layer that the format has no words for: one written in Python.
        ImportError
            Where ONNX is asked for and onnx is not installed.

        Examples
        --------
        >>> import fusednn, os, tempfile
        >>> model = fusednn.Sequential([fusednn.layers.Dense(3)], input_shape=(2,))
        >>> path = os.path.join(tempfile.mkdtemp(), "small.c")
        >>> model.export(path)
        >>> "void small_predict(const float *x, float *y)" in open(path).read()
        True
        """
        from fusednn import exporting

        exporting.export(self, filepath, format, name, layout)

    def __reduce__(self) -> tuple:
        return saving.from_bytes, (saving.to_bytes(self),)

    def __deepcopy__(self, memo: dict) -> Model:
        return saving.from_bytes(saving.to_bytes(self))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def _tensors(argument: str, given: object) -> list[SymbolicTensor]:
    tensors = list(given) if isinstance(given, (list, tuple)) else [given]
    for tensor in tensors:
        if not isinstance(tensor, SymbolicTensor):
            raise TypeError(
                f"{argument} must be what Input() and layers return, got {type(tensor).__name__}"
            )
    if not tensors:
        raise ValueError(f"{argument} is empty")
    return tensors  # type: ignore[return-value]
