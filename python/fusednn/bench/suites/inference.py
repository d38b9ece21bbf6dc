# SPDX-License-Identifier: Apache-2.0
"""The outputs of a trained network for one sample and for many, call against call."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from fusednn.bench import goals, reference, rivals
from fusednn.bench.harness import Candidate, Case, Work, close_to
from fusednn.bench.networks import Network

WIDTHS = (784, 512, 512, 10)
# Rows -> what is asked for: the calls of a service beside torch's, and the floor of products.
BATCHES = {1: goals.ratio(3.0, "torch"), 1024: goals.floor(0.9)}
TOLERANCE = 1e-5


def _work(network: Network) -> Work:
    weights = reference.initial_weights(network.widths, seed=0)
    model = network.model(weights)
    x, _ = network.batches(1)

    def ours() -> np.ndarray:
        return np.asarray(model.predict(x, verbose=0))

    return Work(
        Candidate(ours, ours),
        {
            "torch": lambda: rivals.torch_inference(weights, x),
            "jax": lambda: rivals.jax_inference(weights, x),
        },
        close_to(lambda: reference.network_forward(weights, x)[-1], TOLERANCE),
    )


def cases() -> Iterator[Case]:
    """Return one network with each size of batch."""
    for batch, goal in BATCHES.items():
        network = Network(WIDTHS, batch)
        yield Case(
            "inference",
            network.name,
            network.inference_flops,
            4.0 * network.parameters,
            functools.partial(_work, network),
            {"widths": list(WIDTHS), "batch": batch},
            goals=(goal,),
        )
