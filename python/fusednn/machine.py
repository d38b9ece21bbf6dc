# SPDX-License-Identifier: Apache-2.0
"""The machine a measurement is made on, and an environment that holds no library back."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

# Read once, when a library is loaded; set, they tie it to other kernels than its own choice. Some
# are preset in shells and containers, where nobody remembers them.
KERNEL_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "NVPL_BLAS_DEBUG_CPU_TYPE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
)
# Read likewise: how many threads a library may use. NPROC is XLA's.
THREAD_VARIABLES = (
    "FUSEDNN_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NPROC",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)


def without_kernel_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what ties a library to kernels that it would not choose."""
    return {name: value for name, value in environment.items() if name not in KERNEL_VARIABLES}


def processor_name() -> str:
    """Return what the processor calls itself, or else its architecture."""
    if platform.system() == "Linux":
        try:
            lines = Path("/proc/cpuinfo").read_text().splitlines()
        except OSError:
            lines = []
        named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        return next(named, platform.machine())
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or platform.machine()
    return platform.processor() or platform.machine()


def last_level_cache() -> int | None:
    """Return the bytes of the first processor's largest cache; None where Linux does not say."""
    largest = 0
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
        largest = max(largest, int(text.rstrip("KMG")) * unit)
    return largest or None


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Return the installed version of each package, None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
