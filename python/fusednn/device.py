# SPDX-License-Identifier: Apache-2.0
"""Which devices there are. The CUDA backend is imported here, when somebody first asks for it."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from fusednn import _core
from fusednn.errors import unknown_choice

_NAMES = ("auto", "cpu", "cuda")


@functools.lru_cache(maxsize=1)
def _load() -> tuple[ModuleType | None, str]:
    """Return the compiled CUDA backend, or the reason why there is none."""
    try:
        backend = importlib.import_module("fusednn._cuda")
    except ModuleNotFoundError:
        return None, "this installation of fusednn was built without CUDA"
    except ImportError as error:
        return None, f"the CUDA backend cannot be loaded: {error}"
    try:
        _core.register_backend(backend.backend())
    except RuntimeError as error:
        return None, str(error)
    return backend, ""


def _cublaslt_paths() -> list[str]:
    """Return where cuBLASLt may be: loaded already, in its own wheel or torch's, the system's."""
    names = ("libcublasLt.so.13", "libcublasLt.so.12")
    folders: list[Path] = []
    for package, inner in (("nvidia", ("cu13/lib", "cublas/lib")), ("torch", ("lib",))):
        spec = importlib.util.find_spec(package)
        roots = [] if spec is None else list(spec.submodule_search_locations or ())
        folders += [Path(root) / each for root in roots for each in inner]
    files = [folder / name for folder in folders for name in names]
    return [names[0], *(str(file) for file in files if file.is_file()), names[1]]


@functools.lru_cache(maxsize=1)
def cublaslt() -> tuple[str, str]:
    """Return the cuBLASLt in use and, where there is none, why our own kernels do without it."""
    backend, reason = _load()
    if backend is None:
        return "", reason
    try:
        return str(backend.load_cublaslt(_cublaslt_paths())), ""
    except RuntimeError as error:
        return "", str(error)


def cuda_problem() -> str:
    """Return why ``device="cuda"`` cannot be had, or an empty string where it can.

    Examples
    --------
    >>> import fusednn.device
    >>> isinstance(fusednn.device.cuda_problem(), str)
    True
    """
    backend, reason = _load()
    return reason if backend is None else str(backend.problem())


def cuda_device() -> dict[str, Any] | None:
    """Return what there is to know about the CUDA device in use, or None where there is none.

    Examples
    --------
    >>> import fusednn.device
    >>> device = fusednn.device.cuda_device()
    >>> device is None or device["capability"] >= (8, 0)
    True
    """
    backend, _ = _load()
    return None if backend is None or cuda_problem() else dict(backend.device())


def automatic() -> str:
    """Return what "auto" stands for: "cpu", as long as the CUDA backend has not run on a device."""
    return "cpu"


def check_device(device: object) -> str:
    """Return the name of the device that "auto" or a name stands for.

    Raises ValueError with the exact reason where "cuda" is asked for and cannot be had.
    """
    if not isinstance(device, str):
        raise TypeError(f"device must be a string, got {device!r}")
    if device not in _NAMES:
        raise unknown_choice("device", device, _NAMES)
    name = automatic() if device == "auto" else device
    if name == "cuda":
        if problem := cuda_problem():
            raise ValueError(f"device='cuda' cannot be used: {problem}; use device='cpu' or 'auto'")
        cublaslt()  # before anything is prepared
    return name
