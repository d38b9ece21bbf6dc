# SPDX-License-Identifier: Apache-2.0
"""predict."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from fusednn import arrays
from fusednn.callbacks import Callback, CallbackList
from fusednn.errors import check_integer, helpful_keywords
from fusednn.network import Network
from fusednn.progress import check_verbose

# Without gradients the result does not depend on the batch size; this one keeps caches busy.
FORWARD_BATCH = 1024


class Predictive(Network):
    """A network that can be asked for its outputs."""

    @helpful_keywords
    def predict(
        self,
        x: object,
        batch_size: int | None = None,
        verbose: int | str = 0,
        callbacks: Callback | Iterable[Callback] | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Return the outputs for data, with dropout off and the running batch statistics.

        Parameters
        ----------
        x : array, or a list or dict of arrays
            As in `fit`, but NaN and infinities are allowed, and no samples as well.
        batch_size : int, optional
            Has no influence on the result.
        verbose : ignored
            There for Keras' sake.
        callbacks : list of fusednn.callbacks.Callback, optional
            Their ``on_predict_*`` hooks are called; batches are then of `batch_size`, default 32.

        Returns
        -------
        ndarray of shape (samples, ...), or a list of them
            In the model's precision; one per output.

        Examples
        --------
        >>> import numpy as np, fusednn
        >>> model = fusednn.Sequential([fusednn.layers.Dense(3)], input_shape=(2,))
        >>> model.predict(np.zeros((5, 2))).shape
        (5, 3)
        """
        graph = self._require_graph()
        if batch_size is not None:
            check_integer("batch_size", batch_size, 1)
        check_verbose(verbose)
        inputs = arrays.prepare_inputs(graph, x, self.dtype, finite=False, empty=True)
        if callbacks is not None:
            outputs = self._predict_watched(inputs, batch_size, verbose, callbacks)
        else:
            size = min(batch_size or FORWARD_BATCH, max(len(inputs[0]), 1))
            outputs = self._use_engine().predict(inputs, graph.output_places, size)
        return outputs[0] if len(outputs) == 1 else outputs

    def _predict_watched(
        self,
        inputs: list[np.ndarray],
        batch_size: int | None,
        verbose: int | str,
        callbacks: Callback | Iterable[Callback],
    ) -> list[np.ndarray]:
        """Predict batch by batch if a callback asks for it, otherwise in one piece."""
        hooks = CallbackList(callbacks)
        engine, places = self._use_engine(), self._require_graph().output_places
        rows = len(inputs[0])
        steppers = CallbackList(hooks.steppers("predict"))
        size = max((batch_size or 32) if steppers.callbacks else rows, 1)
        pieces = []
        params = {"epochs": 1, "steps": math.ceil(rows / size), "verbose": verbose}
        hooks.introduce(self, params)  # type: ignore[arg-type]
        hooks.call("on_predict_begin")
        for step, first in enumerate(range(0, max(rows, 1), size)):
            steppers.call("on_predict_batch_begin", step)
            batch = [values[first : first + size] for values in inputs]
            outputs = engine.predict(batch, places, min(size, FORWARD_BATCH))
            shown = outputs[0] if len(outputs) == 1 else outputs
            steppers.call("on_predict_batch_end", step, logs={"outputs": shown})
            pieces.append(outputs)
        hooks.call("on_predict_end")
        return [np.concatenate(column) for column in zip(*pieces, strict=True)]

    @helpful_keywords
    def predict_on_batch(self, x: object) -> np.ndarray | list[np.ndarray]:
        """Return the outputs for one batch; `predict` in one piece."""
        return self.predict(x)
