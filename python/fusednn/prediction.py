# SPDX-License-Identifier: Apache-2.0
"""predict."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fusednn import streaming
from fusednn.arrays import Data, prepare_inputs
from fusednn.callbacks import Callback, CallbackList
from fusednn.errors import check_integer, helpful_keywords
from fusednn.network import Network
from fusednn.progress import check_verbose
from fusednn.streaming import Batches, InputBatches, Rows

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
        steps: int | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Return the outputs for data, with dropout off and the running batch statistics.

        Parameters
        ----------
        x : array, or a list or dict of arrays
            As in `fit`, but NaN and infinities are allowed, and no samples as well. Or an iterable
            of batches: of x, or of (x, y) or (x, y, sample_weight), of which x counts.
        batch_size : int, optional
            Has no influence on the result.
        verbose : ignored
            There for Keras' sake.
        callbacks : list of fusednn.callbacks.Callback, optional
            Their ``on_predict_*`` hooks are called; batches are then of `batch_size`, default 32.
        steps : int, optional
            Batches to look at, where those are not all.

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
        if batch_size is not None:
            check_integer("batch_size", batch_size, 1)
        if steps is not None:
            check_integer("steps", steps, 1)
        check_verbose(verbose)
        self._require_graph()
        hooks = CallbackList(callbacks)
        stepwise = bool(hooks.steppers("predict"))
        stream: Batches | Rows
        if streaming.is_stream(x):
            if batch_size is not None:
                raise ValueError("batch_size must not be given where x gives batches")
            stream = InputBatches("x", x, self._prepare_inputs, steps)
        elif not streaming.is_empty(x) and (
            steps is not None or stepwise or streaming.is_too_large(x, self.dtype)
        ):
            size = batch_size or (FORWARD_BATCH if steps is None and not stepwise else 32)
            stream = Rows((x, None, None), self._prepare_inputs, size)
            stream.steps = min(stream.steps, steps or stream.steps)
        else:
            data = self._prepare_inputs(x)
            hooks.introduce(self, {"epochs": 1, "steps": 1, "verbose": verbose})  # type: ignore[arg-type]
            hooks.call("on_predict_begin")
            outputs = self._outputs(data, batch_size or FORWARD_BATCH)
            hooks.call("on_predict_end")
            return _only(outputs)
        hooks.introduce(self, {"epochs": 1, "steps": stream.steps, "verbose": verbose})  # type: ignore[arg-type]
        return _only(self._predict_on(stream, hooks))

    def _prepare_inputs(self, x: object, *_: object) -> Data:
        inputs = prepare_inputs(self._require_graph(), x, self.dtype, finite=False, empty=True)
        return Data(inputs, [], None, len(inputs[0]))

    def _outputs(self, data: Data, batch_size: int) -> list[np.ndarray]:
        size = max(min(batch_size, data.rows), 1)
        return self._use_engine().predict(data.inputs, self._require_graph().output_places, size)

    def _predict_on(self, stream: Batches | Rows, hooks: CallbackList) -> list[np.ndarray]:
        """Predict piece by piece, or batch by batch if a callback asks for it."""
        steppers = CallbackList(hooks.steppers("predict"))
        pieces = []
        hooks.call("on_predict_begin")
        for step, (data, _) in enumerate(stream.epoch(bool(steppers.callbacks))):
            steppers.call("on_predict_batch_begin", step)
            pieces.append(self._outputs(data, FORWARD_BATCH))
            steppers.call("on_predict_batch_end", step, logs={"outputs": _only(pieces[-1])})
        hooks.call("on_predict_end")
        if not pieces:
            raise ValueError("x gives no batches")
        return [np.concatenate(column) for column in zip(*pieces, strict=True)]

    @helpful_keywords
    def predict_on_batch(self, x: object) -> np.ndarray | list[np.ndarray]:
        """Return the outputs for one batch; `predict` in one piece."""
        return self.predict(x)


def _only(outputs: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    return outputs[0] if len(outputs) == 1 else outputs
