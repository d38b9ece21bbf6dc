# SPDX-License-Identifier: Apache-2.0
"""Training on all rows at once, by SciPy's L-BFGS over the engine's gradients."""

from __future__ import annotations

from typing import Any

from fusednn.sklearn.compat import iterations_of
from fusednn.sklearn.engine import Engine, Penalty, Samples


def fit(estimator: Any, engine: Engine, samples: Samples) -> None:
    """Minimise the loss and set the estimator's `loss_` and `n_iter_`."""
    import scipy.optimize

    penalty = Penalty(float(estimator.alpha), float(estimator.l1))
    engine.use(None, penalty)
    start = engine.pack()
    calls = 0

    def report(intermediate_result: Any) -> None:
        nonlocal calls
        calls += 1
        print(f"Iteration {calls}, loss = {intermediate_result.fun:.8f}")

    result = scipy.optimize.minimize(
        engine.value_and_gradient,
        start,
        args=(samples, penalty),
        method="L-BFGS-B",
        jac=True,
        callback=report if estimator.verbose else None,
        options={
            "maxfun": estimator.max_fun,
            "maxiter": estimator.max_iter,
            "gtol": estimator.tol,
        },
    )
    engine.unpack(result.x)
    mass = samples.rows if samples.weight is None else float(samples.weight.sum())
    estimator.loss_ = engine.loss(samples) + penalty.value(engine.kernels) / mass
    estimator.n_iter_ = iterations_of(result, estimator.max_iter)
