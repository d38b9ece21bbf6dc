# SPDX-License-Identifier: Apache-2.0
"""What all tests share: the device they run on, random numbers, threads, tolerances."""

from __future__ import annotations

import contextlib
import signal
import sys
import zlib

import numpy as np
import pytest

try:
    import hypothesis
except ImportError:  # only the tests that draw random calls need it, and they say so
    hypothesis = None

# Folders whose tests exercise compiled code. Those that need only NumPy run under the sanitizers.
KERNEL_FOLDERS = ("rules", "engine", "cpu", "bindings")
HEAVY_MODULES = (
    "jax", "keras", "matplotlib", "onnx", "onnxruntime", "scipy", "sklearn", "tensorflow", "torch",
)  # fmt: skip

# How far a result of a few rounded operations may lie from its float64 oracle. A test whose subject
# has a stated bound in ULP uses that instead.
TOLERANCES = {
    np.dtype(np.float32): {"rtol": 2e-6, "atol": 1e-6},
    np.dtype(np.float64): {"rtol": 1e-13, "atol": 1e-14},
}


def pytest_addoption(parser):
    parser.addoption(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="device that everything runs on which does not name another one",
    )
    parser.addoption(
        "--numpy-only",
        action="store_true",
        help="collect only kernel tests, and pretend that NumPy is the only library installed",
    )


def pytest_configure(config):
    # A shell lets what it starts in the background ignore Ctrl-C; tests that send it would wait
    # for ever.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--numpy-only"):
        # An import of these now fails, so pytest.importorskip skips what needs them.
        sys.modules.update(dict.fromkeys(HEAVY_MODULES))
    if hypothesis is not None:
        hypothesis.settings.register_profile(
            "fusednn", deadline=None, derandomize=True, database=None, print_blob=True
        )
        hypothesis.settings.load_profile("fusednn")


def is_kernel_test(path, config) -> bool:
    """Whether a test file lies in a folder of kernel tests, or marks itself as one."""
    folder = path.relative_to(config.rootpath / "tests").parts[0]
    return folder in KERNEL_FOLDERS or "pytest.mark.kernels" in path.read_text()


def pytest_ignore_collect(collection_path, config):
    skipped = (
        config.getoption("--numpy-only")
        and collection_path.is_file()
        and not is_kernel_test(collection_path, config)
    )
    return True if skipped else None


def pytest_collection_modifyitems(config, items):
    for item in items:
        if is_kernel_test(item.path, config):
            item.add_marker(pytest.mark.kernels)


@pytest.fixture(scope="session")
def device(pytestconfig):
    """The device to run on. "auto" and single operations on arrays mean it from then on."""
    import fusednn.device
    from fusednn import _core

    name = pytestconfig.getoption("--device")
    fusednn.device.check_device(name)  # or the reason why there is none
    _core.set_array_device(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fusednn.device, "automatic", lambda: name)
        yield name


@pytest.fixture(autouse=True)
def _everything_on_device(device):
    pass


def pytest_generate_tests(metafunc):
    """A test that asks for `isa` runs with each; once on a device, which has none of them."""
    if "isa" in metafunc.fixturenames:
        from fusednn import _core

        names = [entry["name"] for entry in _core.isas() if entry["supported"]]
        on_cpu = metafunc.config.getoption("--device") == "cpu"
        metafunc.parametrize("isa", names if on_cpu else names[-1:], indirect=True)


@pytest.fixture
def isa(request):
    """An instruction set that runs here, for one test."""
    from fusednn import _core

    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def rng(request):
    """A generator of random numbers: its own for every test, the same in every run."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def threads():
    """``with threads(4): ...`` runs its body on four threads and restores the number after it."""
    import fusednn

    @contextlib.contextmanager
    def run_on(count):
        before = fusednn.get_num_threads()
        fusednn.set_num_threads(count)
        try:
            yield
        finally:
            fusednn.set_num_threads(before)

    return run_on


@pytest.fixture
def tolerance():
    """``tolerance(dtype)``: keyword arguments for ``np.testing.assert_allclose``."""
    return lambda dtype: TOLERANCES[np.dtype(dtype)]
