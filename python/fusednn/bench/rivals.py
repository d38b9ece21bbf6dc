# SPDX-License-Identifier: Apache-2.0
"""The other libraries: which are wanted and installed, what they run, and our networks in them.

A rival is named after its library, with a way of using it behind a hyphen: "torch-fused". Each is
imported only when it takes part.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusednn.bench.harness import Candidate
from fusednn.machine import versions

# Library -> (package that is imported, distribution whose version is shown).
LIBRARIES = {
    "numpy": ("numpy", "numpy"),
    "torch": ("torch", "torch"),
    "jax": ("jax", "jax"),
    "sklearn": ("sklearn", "scikit-learn"),
}
COMPILE_SECONDS = 120.0
LEARNING_RATE = 1e-3


def installed() -> list[str]:
    """Return the libraries that can be imported here."""
    return [name for name, (package, _) in LIBRARIES.items() if importlib.util.find_spec(package)]


def library_of(rival: str) -> str:
    """Return the library that a rival is named after."""
    return rival.split("-")[0]


def chooser(libraries: Sequence[str]) -> Callable[[str], bool]:
    """Return what says whether a rival belongs to one of these libraries."""
    return lambda rival: library_of(rival) in libraries


def describe(libraries: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """Return version and matrix kernels of each library; those that take part are imported."""
    found = versions(distribution for _, distribution in LIBRARIES.values())
    return {
        name: {"version": found[LIBRARIES[name][1]], "kernels": _KERNELS[name]()}
        for name in libraries
    }


# ---- which kernels they run --------------------------------------------------------------------


def _blas_of(package: str) -> str:
    """Return what threadpoolctl knows about the BLAS that a package brought along."""
    try:
        import threadpoolctl
    except ImportError:
        return "unknown; pip install threadpoolctl"
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    # A wheel brings its own; elsewhere all packages share one.
    own = [pool for pool in pools if f"{package}.libs" in pool["filepath"]]
    return "; ".join(
        f"{pool['internal_api']} {pool['version']}, kernels for {pool.get('architecture', '?')}, "
        f"{pool['num_threads']} threads"
        for pool in own or pools
    )


def _numpy_kernels() -> str:
    return _blas_of("numpy")


def _torch_kernels() -> str:
    import torch

    libraries = [
        line.strip(" -").removeprefix("Intel(R) ").split("-Product")[0].split(" (Git")[0]
        for line in torch.__config__.show().splitlines()
        if "Math Kernel Library" in line or "MKL-DNN" in line
    ]
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{', '.join(libraries)}; own loops {capability}; {torch.get_num_threads()} threads"


def _jax_kernels() -> str:
    import jax

    return f"XLA on {jax.devices()[0].platform}"


def _sklearn_kernels() -> str:
    import scipy.linalg  # noqa: F401  # scikit-learn multiplies with SciPy's BLAS

    return _blas_of("scipy")


_KERNELS = {
    "numpy": _numpy_kernels,
    "torch": _torch_kernels,
    "jax": _jax_kernels,
    "sklearn": _sklearn_kernels,
}


# ---- time limit --------------------------------------------------------------------------------


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what takes longer, where the platform can interrupt it."""
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def stop(*_: Any) -> None:
        raise TimeoutError(f"not ready after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- our networks in torch ---------------------------------------------------------------------

Arrays = Sequence[np.ndarray]


def torch_network(weights: Arrays) -> Any:
    """Return dense layers with these weights and relu between them."""
    import torch

    layers: list[Any] = []
    for w, b in zip(weights[::2], weights[1::2], strict=True):
        dense = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            dense.weight.copy_(torch.from_numpy(w.T.copy()))
            dense.bias.copy_(torch.from_numpy(b))
        layers += [dense, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def _torch_weights(network: Any) -> list[np.ndarray]:
    arrays = [parameter.detach().numpy() for parameter in network.parameters()]
    return [array.T.copy() if array.ndim == 2 else array.copy() for array in arrays]


def _torch_adam(parameters: Any) -> Any:
    import torch

    return torch.optim.Adam(parameters, lr=LEARNING_RATE)


def _fused_torch_adam(parameters: Any) -> Any:
    import torch

    return torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=True)


@dataclass(frozen=True)
class TorchProgram:
    """What a training loop is made of: a network of given weights, Adam of given parameters.

    `compiled` are forward pass, loss and backward pass.
    """

    network: Callable[[Arrays], Any] = torch_network
    adam: Callable[[Any], Any] = _torch_adam
    compiled: bool = False


# "eager" is the loop of every tutorial.
TORCH_PROGRAMS = {
    "eager": TorchProgram(),
    "fused": TorchProgram(adam=_fused_torch_adam),
    "compile": TorchProgram(adam=_fused_torch_adam, compiled=True),
}


def torch_steps(
    weights: Arrays, batches: Sequence[Arrays], checked: int, program: TorchProgram
) -> Candidate:
    """Return training steps with Adam; the answer is the weights after the first `checked` ones."""
    import torch

    network = program.network(weights)
    data = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches]
    functional = torch.nn.functional
    criterion = functional.cross_entropy if data[0][1].dtype == torch.int64 else functional.mse_loss
    optimizer = program.adam(network.parameters())

    def objective(x: Any, y: Any) -> Any:
        return criterion(network(x), y)

    if program.compiled:
        objective = torch.compile(objective)
    turn = itertools.cycle(data)

    def step(batch: Any = None) -> None:
        x, y = batch or next(turn)
        optimizer.zero_grad()
        objective(x, y).backward()
        optimizer.step()

    def answer() -> list[np.ndarray]:
        with limited(COMPILE_SECONDS) if program.compiled else contextlib.nullcontext():
            for _ in range(checked):
                step(data[0])
        return _torch_weights(network)

    return Candidate(step, answer)


def torch_inference(weights: Arrays, x: np.ndarray) -> Candidate:
    """Return the network's outputs under ``inference_mode``."""
    import torch

    network, batch = torch_network(weights).eval(), torch.from_numpy(x)

    def run() -> Any:
        with torch.inference_mode():
            return network(batch)

    return Candidate(run, lambda: run().numpy())


# ---- our networks in jax -----------------------------------------------------------------------


def _jax_forward(weights: Any, x: Any) -> Any:
    import jax

    layers = list(zip(weights[::2], weights[1::2], strict=True))
    for place, (w, b) in enumerate(layers):
        x = x @ w + b
        if place < len(layers) - 1:
            x = jax.nn.relu(x)
    return x


def jax_steps(weights: Arrays, batches: Sequence[Arrays], checked: int) -> Candidate:
    """Return training steps with Adam: one compiled function that reuses its state's memory."""
    import jax
    import jax.numpy as jnp

    labels = batches[0][1].dtype.kind == "i"

    def objective(weights: Any, x: Any, y: Any) -> Any:
        scores = _jax_forward(weights, x)
        if not labels:
            return ((scores - y) ** 2).mean()
        chosen = jnp.take_along_axis(scores, y[:, None], axis=1)[:, 0]
        return (jax.nn.logsumexp(scores, axis=1) - chosen).mean()

    def update(state: Any, x: Any, y: Any) -> Any:
        weights, ms, vs, t = state
        gradients = jax.grad(objective)(weights, x, y)
        ms = [0.9 * m + 0.1 * g for m, g in zip(ms, gradients, strict=True)]
        vs = [0.999 * v + 0.001 * g * g for v, g in zip(vs, gradients, strict=True)]
        t = t + 1
        rate, root = LEARNING_RATE / (1 - 0.9**t), 1 / jnp.sqrt(1 - 0.999**t)
        weights = [
            w - rate * m / (jnp.sqrt(v) * root + 1e-8)
            for w, m, v in zip(weights, ms, vs, strict=True)
        ]
        return weights, ms, vs, t

    compiled = jax.jit(update, donate_argnums=0)
    data = [(jnp.asarray(x), jnp.asarray(y)) for x, y in batches]
    turn = itertools.cycle(data)
    zeros = [np.zeros_like(w) for w in weights]
    state: list[Any] = [
        jax.tree_util.tree_map(jnp.array, (list(weights), zeros, zeros, np.float32(0)))
    ]

    def step(batch: Any = None) -> None:
        x, y = batch or next(turn)
        state[0] = compiled(state[0], x, y)

    def answer() -> list[np.ndarray]:
        with limited(COMPILE_SECONDS):
            for _ in range(checked):
                step(data[0])
        return [np.asarray(w) for w in state[0][0]]

    return Candidate(step, answer, finish=lambda: jax.block_until_ready(state[0]))


def jax_call(function: Callable[..., Any], *arrays: np.ndarray) -> Candidate:
    """Return a compiled function of these arrays, each call waited for."""
    import jax

    compiled = jax.jit(function)
    given = [jax.device_put(array) for array in arrays]

    def run() -> Any:
        return jax.block_until_ready(compiled(*given))

    def answer() -> Any:
        with limited(COMPILE_SECONDS):
            result = run()
        return jax.tree_util.tree_map(np.asarray, result)

    return Candidate(run, answer)


def jax_inference(weights: Arrays, x: np.ndarray) -> Candidate:
    """Return the network's outputs."""
    import jax

    held = [jax.device_put(w) for w in weights]
    return jax_call(lambda batch: _jax_forward(held, batch), x)
