# SPDX-License-Identifier: Apache-2.0
"""Which devices there are. The CUDA backend is imported here, when somebody first asks for it."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fusednn import _core
from fusednn.errors import check_flag, unknown_choice

_COMMON_STREAM = 1  # what libraries call the stream that is always there

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


def allow_tf32(allowed: bool) -> None:
    """Let float32 products on a CUDA device round their operands to TF32, or not.

    TF32 keeps 10 of 23 bits of mantissa and sums in float32: relative errors come to about 3e-4
    instead of 1e-6, and tensor cores multiply several times faster. It is off unless it is allowed,
    holds for large products alone, which go to cuBLASLt, and counts from the next model that is
    compiled and the next single operation.

    Parameters
    ----------
    allowed : bool

    Raises
    ------
    ValueError
        Where there is no CUDA device, or no cuBLASLt, without which nothing is multiplied so.

    Examples
    --------
    >>> import fusednn.device
    >>> if not fusednn.device.cuda_problem():
    ...     fusednn.device.allow_tf32(False)
    """
    if problem := cuda_problem():
        raise ValueError(f"TF32 is of a CUDA device, which cannot be used: {problem}")
    library, without = cublaslt()
    if allowed and not library:
        raise ValueError(f"TF32 products are those of cuBLASLt: {without}")
    backend, _ = _load()
    assert backend is not None
    backend.allow_tf32(check_flag("allowed", allowed))


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


def _need_cuda() -> None:
    """Raise ValueError with the exact reason where arrays on a device cannot be used."""
    if problem := _unusable():
        raise ValueError(f"arrays on a CUDA device cannot be used: {problem}")


@functools.lru_cache(maxsize=1)
def _unusable() -> str:
    return cuda_problem()


@functools.lru_cache(maxsize=32)
def is_ours(kind: str, ordinal: int | None) -> bool:
    """Return whether arrays on another library's device are on the one that our kernels use."""
    if kind != "cuda" or _unusable():
        return False
    device = cuda_device()
    return device is not None and device["ordinal"] == ordinal


def queue_of(array: Any) -> int:
    """Return the stream on which the library of an array on a device works at present.

    That of PyTorch or CuPy, or the one that an array names; for all others the default stream, with
    which their work is in order.
    """
    _need_cuda()
    library = type(array).__module__.partition(".")[0]
    if library == "torch":
        import torch

        return torch.cuda.current_stream(array.device).cuda_stream or _COMMON_STREAM
    stream = getattr(array, "__cuda_array_interface__", {}).get("stream")
    return _COMMON_STREAM if stream is None else int(stream)


def empty_like(array: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """Return a new array where another one is, of its library if that can make one."""
    if type(array).__module__.partition(".")[0] == "torch":
        import torch

        return torch.empty(shape, dtype=getattr(torch, dtype), device=array.device)
    namespace = getattr(array, "__array_namespace__", None)
    if namespace is None:
        return _core.DeviceArray.empty(list(shape), np.dtype(dtype))
    library = namespace()
    made = library.empty(shape, dtype=getattr(library, dtype))
    if not hasattr(made, "__setitem__"):
        raise TypeError(f"arrays of {library.__name__} cannot be written to; give out=")
    return made


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
