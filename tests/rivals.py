# SPDX-License-Identifier: Apache-2.0
"""Other libraries in double precision, for the tests that compare with them."""

import os
from contextlib import contextmanager

import pytest


@contextmanager
def torch_in_double():
    """torch with float64 as its default, which NAdam's own state follows; skips without torch."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield torch
    finally:
        torch.set_default_dtype(before)


@contextmanager
def keras_in_double():
    """Keras on JAX with float64 as its default; skips where either is missing."""
    jax = pytest.importorskip("jax")
    # Keras reads its backend once, when it is imported.
    os.environ.setdefault("KERAS_BACKEND", "jax")
    jax.config.update("jax_enable_x64", True)
    keras = pytest.importorskip("keras")
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        yield keras
    finally:
        keras.config.set_floatx(before)
