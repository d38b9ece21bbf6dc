"""
The compiled part of fusednn. Its Python side checks nothing twice: arrays are checked here.
"""
from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing
import typing_extensions
__all__: list[str] = ['Chain', 'DeviceArray', 'Gradients', 'Network', 'Orders', 'Parameters', 'Plateau', 'TensorList', 'Updater', 'activation_backward', 'activation_forward', 'activations', 'allow_bf16', 'available_processors', 'batch_norm_backward', 'batch_norm_forward', 'borrow_threads', 'build_info', 'clip_coefficient', 'cross_entropy', 'dense_backward', 'dense_forward', 'dense_layers', 'dropout', 'elementary', 'elementary_functions', 'init_optimizer_state', 'isa', 'isas', 'layer_norm_backward', 'layer_norm_forward', 'loss', 'losses', 'measure_ceiling', 'measure_handover', 'mix_rows', 'num_threads', 'optimizer_step', 'optimizers', 'register_backend', 'resample', 'run_product', 'run_stream', 'same_objects', 'set_array_device', 'set_isa', 'set_num_threads', 'shuffled', 'softmax', 'softmax_backward', 'sum', 'uses_bf16']
class DeviceArray:
    """
    An array in the memory of the device "cuda".
    """
    @staticmethod
    def empty(shape: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], dtype: numpy.dtype[typing.Any]) -> DeviceArray:
        """
        Filled with zeros.
        """
    def __dlpack__(self, *, stream: typing.Any = None, max_version: typing.Any = None, dl_device: typing.Any = None, copy: typing.Any = None) -> typing.Any:
        ...
    def __dlpack_device__(self) -> tuple[int, int]:
        ...
    def __init__(self, array: typing.Any) -> None:
        """
        A copy of a NumPy array.
        """
    def __repr__(self) -> str:
        ...
    def to_numpy(self) -> numpy.ndarray:
        """
        A copy in the memory of the host, when all work on it is done.
        """
    @property
    def __cuda_array_interface__(self) -> dict:
        ...
    @property
    def dtype(self) -> numpy.dtype[typing.Any]:
        ...
    @property
    def shape(self) -> tuple:
        ...
    @property
    def size(self) -> int:
        ...
class Gradients:
    """
    The gradients of one step, by address.
    """
    def __init__(self, addresses: list) -> None:
        """
        0 where there is none.
        """
    def take(self, places: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]) -> Gradients:
        """
        Those of some of the tensors.
        """
    @property
    def complete(self) -> bool:
        """
        Whether every tensor has one.
        """
class Parameters:
    """
    Arrays that an optimizer changes where they lie.
    """
    def __init__(self, arrays: list) -> None:
        ...
    def gradients(self, arrays: list, *, writable: bool = False) -> Gradients:
        """
        Reads arrays of the same shapes and dtypes, or None.
        """
    @property
    def addresses(self) -> list[int]:
        ...
    @property
    def arrays(self) -> list:
        """
        The same memory, as NumPy or a DeviceArray sees it.
        """
    @property
    def on_device(self) -> bool:
        ...
class Updater:
    """
    Tensors that one optimizer steps over together, by their addresses, which the caller keeps alive.
    """
    def __init__(self, rule: str, *, convention: str = 'torch', dtype: str = 'float32', ema: bool = False, masters: bool = False, device: str = 'cpu', live: bool = False, stochastic: bool = False) -> None:
        """
        A live updater finds the scalars in the memory of its device, and waits for nothing. A stochastic one rounds bfloat16 at random, by the seeds of its groups.
        """
    def initial_states(self, options: dict) -> list[float]:
        """
        What fills each of the state tensors before step 1.
        """
    def set_groups(self, options: list) -> None:
        """
        Per group the options of optimizer_step, without lr, rule and convention.
        """
    def set_tensors(self, parameters: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], sizes: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], states: collections.abc.Sequence[collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]], scalars: collections.abc.Sequence[collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]], groups: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], *, ema: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex] | None = None, masters: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex] | None = None, numbers: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex] | None = None) -> None:
        """
        Addresses; states[k][i] and scalars[k][i] belong to parameter i, whose noise follows from numbers[i].
        """
    def square_norm(self, gradients: Gradients, *, gradient_scale: typing.SupportsFloat | typing.SupportsIndex = 1.0, queue: typing.SupportsInt | typing.SupportsIndex = 0) -> float:
        """
        The sum of the squares of all gradients.
        """
    def step(self, gradients: Gradients, *, lr: list, gradient_scale: typing.SupportsFloat | typing.SupportsIndex = 1.0, max_norm: typing.SupportsFloat | typing.SupportsIndex | None = None, clear_gradient: bool = False, queue: typing.SupportsInt | typing.SupportsIndex = 0, live: typing.Any = None) -> float | None:
        """
        Steps over the tensors whose gradient is not 0; returns their norm if max_norm limits it. `live` gives a live updater addresses in its device's memory: of "lr" per group, (address or 0, whether it is float64); of "found_inf", a float32 that is not 0 where the step is to be left out; of "loss_scale", a float32 that divides the gradients; of "norm", a float64 where their norm goes.
        """
    @property
    def initial_scalars(self) -> list[float]:
        """
        What the scalars are before step 1.
        """
    @property
    def scalars(self) -> list[str]:
        """
        Names of the float32 numbers kept per tensor, "step" first.
        """
    @property
    def states(self) -> list[str]:
        """
        Names of the state tensors, in order.
        """
class Orders:
    """
    Orders of rows, each the one before with its places shuffled as numpy.random.RandomState.shuffle does it with this bit generator. shared: others may draw from it meanwhile.
    """
    def __init__(self, rows: typing.SupportsInt | typing.SupportsIndex, generator: typing.Any, shared: bool = True) -> None:
        ...
    def draw(self) -> numpy.typing.NDArray[numpy.int64]:
        """
        The next one.
        """
class Plateau:
    """
    More epochs are of no use when the loss has not fallen by tol for more than `patience` in a row.
    """
    def __init__(self, tol: typing.SupportsFloat | typing.SupportsIndex, patience: typing.SupportsFloat | typing.SupportsIndex, best: typing.SupportsFloat | typing.SupportsIndex, stalls: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def note(self, loss: typing.SupportsFloat | typing.SupportsIndex) -> None:
        ...
    @property
    def best(self) -> float:
        """
        The lowest loss so far.
        """
    @property
    def reached(self) -> bool:
        ...
    @property
    def stalls(self) -> int:
        """
        Epochs of no use, in a row.
        """
    @stalls.setter
    def stalls(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
class Network:
    """
    A graph with its parameters, and all that runs on it.
    """
    def __init__(self, nodes: list, precision: str = 'float32', device: str = 'cpu', seed: typing.SupportsInt | typing.SupportsIndex = 0) -> None:
        ...
    def collected_gradients(self) -> list | None:
        """
        The sum of their gradients, one array per parameter; None where one step makes one.
        """
    def compute_gradients(self, inputs: list, targets: list, sample_weight: typing.Any = None, training: bool = True, max_threads: typing.SupportsInt | typing.SupportsIndex = 0) -> dict:
        """
        One batch forward and backward; gradients() shows the result.
        """
    def ema(self) -> list | None:
        """
        One array per parameter, or None where no average is kept.
        """
    def evaluate(self, inputs: list, targets: list, sample_weight: typing.Any = None, batch_size: typing.SupportsInt | typing.SupportsIndex = 32, order: typing.Any = None, watcher: typing.Any = None, interval: typing.SupportsFloat | typing.SupportsIndex = 0.05, max_threads: typing.SupportsInt | typing.SupportsIndex = 0, begun: typing.Any = None) -> dict:
        """
        Losses and metrics, nothing else.
        """
    def gradients(self) -> list:
        """
        One array over the network's memory per parameter.
        """
    def hold(self, arrays: list) -> None:
        """
        Arrays that stay as they are until the next call: a device copies them once.
        """
    def hyper(self, name: str) -> float:
        ...
    def nodes(self) -> list:
        ...
    def optimizer_states(self) -> list:
        """
        Per state tensor one array per parameter.
        """
    def parameters(self) -> list:
        """
        Each with a writable array over the network's memory.
        """
    def predict(self, inputs: list, nodes: typing.Any, batch_size: typing.SupportsInt | typing.SupportsIndex = 1024, max_threads: typing.SupportsInt | typing.SupportsIndex = 0) -> list:
        """
        The values of the nodes, one array each.
        """
    def running(self) -> list:
        """
        How each kind of step runs: as a team or alone, and what both took when last tried.
        """
    def set_frozen(self, node: str, frozen: bool) -> None:
        ...
    def set_hyper(self, name: str, value: typing.SupportsFloat | typing.SupportsIndex) -> None:
        ...
    def set_training(self, losses: list, metrics: list = [], optimizer: dict | None = None) -> None:
        """
        Replaces losses, metrics and optimizer.
        """
    def train(self, inputs: list, targets: list, sample_weight: typing.Any = None, batch_size: typing.SupportsInt | typing.SupportsIndex = 32, order: typing.Any = None, watcher: typing.Any = None, interval: typing.SupportsFloat | typing.SupportsIndex = 0.05, max_threads: typing.SupportsInt | typing.SupportsIndex = 0, schedules: dict = {}, begun: typing.Any = None, mixup: typing.SupportsFloat | typing.SupportsIndex = 0.0) -> dict:
        """
        One epoch of steps. Schedules give a hyper-parameter, by name, a value for each step; it keeps the last one. The report goes on from that of the part that was begun. With mixup, samples are mixed in shares of the symmetric beta distribution with this parameter.
        """
    def train_epochs(self, inputs: list, targets: list, batch_size: typing.SupportsInt | typing.SupportsIndex, epochs: typing.SupportsInt | typing.SupportsIndex, plateau: Plateau, losses: list, orders: Orders | None = None, factor: typing.SupportsFloat | typing.SupportsIndex = 1.0, offset: typing.SupportsFloat | typing.SupportsIndex = 0.0, max_threads: typing.SupportsInt | typing.SupportsIndex = 0, schedules: dict = {}, watcher: typing.Any = None, interval: typing.SupportsFloat | typing.SupportsIndex = 0.05) -> None:
        """
        Epochs one after another until the plateau is reached. The loss of each, (factor x losses + penalty + offset) / rows, is appended to a list. The schedules are those of every epoch.
        """
    @property
    def collected(self) -> int:
        """
        Steps since the last update, where several make one.
        """
    @collected.setter
    def collected(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    @property
    def last_norm(self) -> float:
        ...
    @property
    def optimizer_memory(self) -> list[float]:
        ...
    @optimizer_memory.setter
    def optimizer_memory(self, arg1: typing.Any) -> None:
        ...
    @property
    def optimizer_steps(self) -> int:
        ...
    @optimizer_steps.setter
    def optimizer_steps(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    @property
    def training_steps(self) -> int:
        ...
    @training_steps.setter
    def training_steps(self, arg1: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
class Chain:
    """
    Dense layers over tensors known by their addresses, weights as (out, in).
    """
    def __init__(self, dtype: str, rows: typing.SupportsInt | typing.SupportsIndex, x_stride: typing.SupportsInt | typing.SupportsIndex, layers: collections.abc.Sequence[tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, str, dict]], device: str = 'cpu', precision: str = '') -> None:
        """
        layers: (in, out, stride of the weight's rows, activation, its parameters). precision: 'bfloat16', or empty for that of the dtype.
        """
    def backward(self, addresses: list, gradients: list, queue: typing.SupportsInt | typing.SupportsIndex = 0) -> None:
        """
        addresses: x, kept, y, dy, then weight and bias of each layer. gradients: of x, then of weight and bias of each layer; 0: not wanted.
        """
    def forward(self, addresses: list, queue: typing.SupportsInt | typing.SupportsIndex = 0, keeps: bool = True) -> None:
        """
        addresses: x, kept, y, then weight and bias of each layer. Without `keeps`, kept is only room.
        """
    @property
    def kept(self) -> int:
        """
        How many elements forward keeps for backward, beside y.
        """
    @property
    def reads_y(self) -> bool:
        """
        Whether backward reads y.
        """
    @property
    def remakes(self) -> bool:
        """
        Whether kept is only room for a call, forward and backward.
        """
class TensorList:
    """
    What a list of tensors looked like when it was read, through the DLPack exchange of `type`. It keeps no reference to them.
    """
    def __init__(self, type: type, tensors: list) -> None:
        ...
    def gradients_like(self, others: list) -> Gradients | None:
        """
        Other tensors with the same layouts, or None, as the gradients of a step; None if one has another layout. Keep them until then.
        """
    def unchanged(self, tensors: list) -> bool:
        """
        Whether these lie at the same addresses with the same layouts.
        """
    @property
    def addresses(self) -> list[int]:
        ...
def activation_backward(name: str, hyper: dict, dy: typing.Any, x: typing.Any, out: typing.Any = None, y: typing.Any = None) -> typing.Any:
    ...
def activation_forward(name: str, hyper: dict, x: typing.Any, out: typing.Any = None) -> typing.Any:
    ...
def activations() -> dict:
    """
    Name -> parameters as {name: (default, low, high)}, and whether the rule saves its input.
    """
def allow_bf16(allowed: bool) -> None:
    """
    Without it, emulated everywhere; for tests.
    """
def available_processors() -> int:
    """
    Processors that the affinity mask and the cgroup leave to this process.
    """
def batch_norm_backward(dy: typing.Any, x: typing.Any, gamma: typing.Any, mean: typing.Any, inverse_deviation: typing.Any, out: typing.Any = None) -> tuple:
    """
    (dx, dgamma, dbeta).
    """
def batch_norm_forward(x: typing.Any, gamma: typing.Any, beta: typing.Any, running_mean: typing.Any, running_variance: typing.Any, training: bool = True, momentum: typing.SupportsFloat | typing.SupportsIndex = 0.1, epsilon: typing.SupportsFloat | typing.SupportsIndex = 1e-05, out: typing.Any = None, unbiased: bool = True) -> tuple:
    """
    (y, mean, inverse deviation), the last two None in inference; running statistics change in place.
    """
def borrow_threads(functions: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]) -> None:
    """
    Runs teams on the threads of an OpenMP runtime in this process, given by the addresses of GOMP_parallel, omp_get_max_threads, omp_get_num_threads, omp_get_thread_num and omp_in_parallel.
    """
def build_info() -> dict:
    """
    Compiler, instruction sets, and the devices known so far.
    """
def clip_coefficient(norm: typing.SupportsFloat | typing.SupportsIndex, max_norm: typing.SupportsFloat | typing.SupportsIndex) -> float:
    """
    What scales gradients of this norm down to max_norm; not finite if the norm is not.
    """
def cross_entropy(dtype: str, shape: typing.Annotated[collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], "FixedSize(4)"], addresses: list, reduction: str, ignore_index: typing.SupportsInt | typing.SupportsIndex, label_smoothing: typing.SupportsFloat | typing.SupportsIndex) -> None:
    """
    shape: rows, classes, stride of the logits, stride of the probabilities. addresses: logits, int64 labels or else probabilities, weights of the classes, loss, gradient.
    """
def dense_backward(dy: typing.Any, x: typing.Any, w: typing.Any, saved: typing.Any, activation: str, hyper: dict, precision: str | None = None) -> tuple:
    """
    (dx, dw, db).
    """
def dense_forward(x: typing.Any, w: typing.Any, b: typing.Any, activation: str, hyper: dict, keep: bool = False, out: typing.Any = None, precision: str | None = None) -> tuple:
    """
    (y, what dense_backward reads as `saved`, or None without `keep`).
    """
def dense_layers(x: typing.Any, layers: collections.abc.Sequence[tuple], epsilon: typing.SupportsFloat | typing.SupportsIndex = 1e-05, precision: str | None = None, max_threads: typing.SupportsInt | typing.SupportsIndex = 0) -> typing.Any:
    """
    The values of the last of several dense layers. layers: kernel, bias, activation, its parameters, and None or gamma, beta, mean and variance of a normalisation before it.
    """
def dropout(x: typing.Any, rate: typing.SupportsFloat | typing.SupportsIndex, seed: typing.SupportsInt | typing.SupportsIndex, step: typing.SupportsInt | typing.SupportsIndex = 0, stream: typing.SupportsInt | typing.SupportsIndex = 0, out: typing.Any = None, noise: str = 'mask', deviation: typing.SupportsFloat | typing.SupportsIndex = 0.0) -> typing.Any:
    """
    Noise by the name of what becomes of an element, as in engine/operations.h.
    """
def elementary(name: str, x: typing.Any, out: typing.Any = None) -> typing.Any:
    ...
def elementary_functions() -> list[str]:
    """
    Names that elementary() knows.
    """
def init_optimizer_state(options: dict, parameters: list) -> dict:
    """
    The state before step 1: a list of arrays per state tensor of the rule, and its memory.
    """
def isa() -> str:
    """
    The instruction set in use.
    """
def isas() -> list:
    """
    The instruction sets compiled, the fastest last, and whether each runs here.
    """
def layer_norm_backward(dy: typing.Any, x: typing.Any, gamma: typing.Any, mean: typing.Any, inverse_deviation: typing.Any, out: typing.Any = None) -> tuple:
    """
    (dx, dgamma, dbeta).
    """
def layer_norm_forward(x: typing.Any, gamma: typing.Any, beta: typing.Any, epsilon: typing.SupportsFloat | typing.SupportsIndex = 1e-05, out: typing.Any = None) -> tuple:
    """
    (y, mean, inverse deviation).
    """
def loss(name: str, hyper: dict, predictions: typing.Any, targets: typing.Any, reduction: str = 'mean', sample_weight: typing.Any = None, class_weight: typing.Any = None, ignore_index: typing.SupportsInt | typing.SupportsIndex | None = None, gradient: bool = True, out: typing.Any = None) -> tuple:
    """
    (value, gradient or None).
    """
def losses() -> dict:
    """
    Name -> parameters as {name: (default, low, high)}, and whether the rule works row by row.
    """
def measure_ceiling(kind: str, dtype: str, threads: typing.SupportsInt | typing.SupportsIndex, seconds: typing.SupportsFloat | typing.SupportsIndex = 0.1) -> float:
    """
    Operations (fma) or bytes (read, copy, triad) a second that this machine reaches at most.
    """
def measure_handover(threads: typing.SupportsInt | typing.SupportsIndex) -> float:
    """
    Seconds in which so many threads have waited for each other once.
    """
def mix_rows(x: typing.Any, alpha: typing.SupportsFloat | typing.SupportsIndex, seed: typing.SupportsInt | typing.SupportsIndex, step: typing.SupportsInt | typing.SupportsIndex = 0, stream: typing.SupportsInt | typing.SupportsIndex = 0) -> typing.Any:
    """
    Samples mixed with others of the batch, as in training with mixup.
    """
def num_threads() -> int:
    """
    How many threads a run may use.
    """
def optimizer_step(options: dict, parameters: list, gradients: list, state: dict, step: typing.SupportsInt | typing.SupportsIndex, clear_gradient: bool = False) -> None:
    """
    Changes parameters and state in place.
    """
def optimizers() -> dict:
    """
    Name -> parameters as {name: (default, low, high)}, the names of the state tensors, and whether the rule works with norms of whole tensors.
    """
def register_backend(backend: typing_extensions.CapsuleType) -> None:
    """
    Makes a device known that comes from a module of its own.
    """
def resample(images: typing.Any, config: dict, seed: typing.SupportsInt | typing.SupportsIndex, step: typing.SupportsInt | typing.SupportsIndex = 0, stream: typing.SupportsInt | typing.SupportsIndex = 0, training: bool = True) -> typing.Any:
    """
    Images through random transforms, as a layer's configuration says.
    """
def run_product(kind: str, x: typing.Any, w: typing.Any, y: typing.Any, repeats: typing.SupportsInt | typing.SupportsIndex = 1, bfloat16: bool = False) -> None:
    """
    y = x w (forward), x = y wᵀ (dx) or w = xᵀ y (dw), several times, each a run of its own.
    """
def run_stream(x: typing.Any, y: typing.Any, z: typing.Any, threads: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    The loop of a memory ceiling over arrays of whole lines: y = x, or z = x + y / 2.
    """
def same_objects(containers: list, objects: list) -> bool:
    """
    Whether lists and values of dictionaries hold exactly these objects, in this order.
    """
def set_array_device(name: str) -> None:
    """
    Where single operations on arrays run; for tests: another device costs a copy each way.
    """
def set_isa(name: str) -> None:
    """
    Changes it for all that runs from now on.
    """
def set_num_threads(n: typing.SupportsInt | typing.SupportsIndex) -> None:
    ...
def shuffled(n: typing.SupportsInt | typing.SupportsIndex, seed: typing.SupportsInt | typing.SupportsIndex, epoch: typing.SupportsInt | typing.SupportsIndex) -> numpy.ndarray:
    """
    A permutation of 0 .. n-1, a function of seed and epoch alone.
    """
def softmax(x: typing.Any, out: typing.Any = None, log: bool = False) -> typing.Any:
    ...
def softmax_backward(dy: typing.Any, y: typing.Any, out: typing.Any = None, log: bool = False) -> typing.Any:
    ...
def sum(x: typing.Any, max_threads: typing.SupportsInt | typing.SupportsIndex = 0) -> float:
    """
    Of all elements, in double.
    """
def uses_bf16() -> bool:
    """
    Whether bfloat16 products run on AVX512-BF16; otherwise they are emulated.
    """
__version__: str = '0.1.0'
