# SPDX-License-Identifier: Apache-2.0
"""Whether the same work gives the same bits twice, and the same as when it was replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import fusednn
from on_device import operations
from on_device.place import Place


def _trained(place: Place, **options: Any) -> bytes:
    """Return the weights after two epochs with everything that draws or adds up."""
    rows = 1000 if place.real else 40
    generator = np.random.default_rng(0)
    x = generator.standard_normal((rows, 33), dtype=np.float32)
    y = generator.integers(0, 10, rows)
    layers = fusednn.layers
    model = fusednn.Sequential(
        [
            layers.Dense(64, activation="gelu"),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(10),
        ]
    )
    model.compile(
        fusednn.optimizers.AdamW(1e-3, global_clipnorm=1.0),
        "sparse_categorical_crossentropy",
        seed=3,
        **options,
    )
    model.fit(x, y, epochs=2, batch_size=32, verbose=0)
    return b"".join(w.tobytes() for w in model.get_weights())


def _stepped(place: Place) -> bytes:
    """Return bfloat16 parameters after steps with rounding at random."""
    import fusednn.torch.optim as ours

    generator = torch.Generator().manual_seed(0)
    held = [
        torch.nn.Parameter(torch.randn(n, generator=generator).to(place.name, torch.bfloat16))
        for n in (100_003, 17, 4096)
    ]
    optimizer = ours.AdamW(held, stochastic_rounding=True, seed=5)
    for _ in range(3):
        for p in held:
            p.grad = p.detach().clone()
        optimizer.step()
    return b"".join(p.detach().cpu().view(torch.int16).numpy().tobytes() for p in held)


def _of(name: str, place: Place) -> bytes:
    ours, _ = operations.JOBS[name](place, (1000, 333) if place.real else (64, 32))
    return place.back(ours()).tobytes()


def check(place: Place) -> dict[str, bool]:
    """Return for each job whether two runs agree to the last bit."""
    jobs: dict[str, Callable[[], bytes]] = {
        "training, float32": lambda: _trained(place),
        "training, bfloat16": lambda: _trained(place, precision="bfloat16"),
        "stochastic rounding": lambda: _stepped(place),
        **{name: (lambda name=name: _of(name, place)) for name in operations.JOBS},
    }
    return {name: job() == job() for name, job in jobs.items()}
