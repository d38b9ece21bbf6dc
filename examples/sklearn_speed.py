# SPDX-License-Identifier: Apache-2.0
"""fusednn.sklearn beside scikit-learn on this machine: same data, same batches, same results.

Each pair is timed in turns, and the ratio is the median over the rounds.

    python examples/sklearn_speed.py [--quick]
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
from sklearn import neural_network
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

import fusednn.sklearn

ROUNDS = 3 if "--quick" in sys.argv else 7


def seconds(function):
    """Return the time of a call, in a turn of at least a tenth of a second."""
    # Threads of the other library wait for more work by spinning; let them fall asleep.
    time.sleep(0.1)
    warm = time.perf_counter() + 0.05
    function()
    while time.perf_counter() < warm:
        function()
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < 0.05:
        function()
        calls += 1
    return elapsed / calls


def compare(name, theirs, ours):
    """Print the median times of two functions, called in turns, and of their ratio."""
    theirs(), ours()
    times = np.array([(seconds(theirs), seconds(ours)) for _ in range(ROUNDS)])
    a, b = np.median(times, axis=0) * 1e3
    ratio = np.median(times[:, 0] / times[:, 1])
    print(f"{name:44s} {a:9.2f} ms {b:9.2f} ms {ratio:6.1f}x", flush=True)


def main():
    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y = load_digits(return_X_y=True)
    print(f"{'':44s} {'scikit-learn':>12s} {'fusednn':>12s}  ratio")
    for dtype in ("float32", "float64"):
        data = (X / 16).astype(dtype)
        for hidden, epochs in (((64,), 40), ((128, 128), 20), ((512, 512), 5)):
            options = {"hidden_layer_sizes": hidden, "max_iter": epochs, "random_state": 0}
            theirs = neural_network.MLPClassifier(**options)
            ours = fusednn.sklearn.MLPClassifier(**options)
            name = f"digits {dtype} {hidden}"
            compare(
                f"fit {name}, {epochs} epochs",
                lambda m=theirs, d=data: m.fit(d, y),
                lambda m=ours, d=data: m.fit(d, y),
            )
            gap = max(abs(a - b).max() for a, b in zip(theirs.coefs_, ours.coefs_, strict=True))
            assert gap < (1e-2 if dtype == "float32" else 1e-6), gap
            for rows in (1, 100, len(data)):
                compare(
                    f"predict {name}, {rows} rows",
                    lambda m=theirs, d=data[:rows]: m.predict(d),
                    lambda m=ours, d=data[:rows]: m.predict(d),
                )


if __name__ == "__main__":
    main()
