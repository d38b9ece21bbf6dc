# SPDX-License-Identifier: Apache-2.0
"""Other libraries in double precision, for the tests that compare with them."""

import importlib.util
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


def import_keras():
    """Keras on JAX, or on PyTorch where that is missing; skips without Keras or without both.

    Keras reads its backend once, when it is imported: whoever imports it first decides for all.
    """
    found = [name for name in ("jax", "torch") if importlib.util.find_spec(name) is not None]
    if not found:
        pytest.skip("Keras needs JAX or PyTorch", allow_module_level=True)
    os.environ.setdefault("KERAS_BACKEND", found[0])
    return pytest.importorskip("keras", exc_type=ImportError)


@contextmanager
def keras_in_double():
    """Keras on JAX with float64 as its default; skips where either is missing."""
    jax = pytest.importorskip("jax")
    keras = import_keras()
    wide, floatx = jax.config.jax_enable_x64, keras.config.floatx()
    policy = keras.config.dtype_policy()
    jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield keras
    finally:
        keras.config.set_dtype_policy(policy)
        keras.config.set_floatx(floatx)
        jax.config.update("jax_enable_x64", wide)
