# SPDX-License-Identifier: Apache-2.0
"""What all optimizers over arrays share: groups, states, and the way to the compiled step."""

from __future__ import annotations

import abc
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from fusednn import _core
from fusednn.device import queue_of
from fusednn.errors import check_flag, check_integer, check_number, unexpected_keyword
from fusednn.optim.rules import compiled_options

Array = Any  # NumPy array, or anything with the buffer protocol or DLPack in the memory of the CPU
Group = dict[str, Any]

# Options of a group by the values they may have; every other option is a flag.
_FROM_ZERO = ("lr", "eps", "weight_decay", "momentum", "alpha", "lr_decay", "momentum_decay",
              "initial_accumulator_value")  # fmt: skip


class Common(TypedDict, total=False):
    """What every optimizer takes beside its own options."""

    maximize: bool
    max_norm: float | None
    ema: float | None
    master_weights: bool
    stochastic_rounding: bool
    seed: int


_COMMON: dict[str, Any] = {
    "maximize": False,
    "max_norm": None,
    "ema": None,
    "master_weights": False,
    "stochastic_rounding": False,
    "seed": 0,
}
# Which of them belong to a group.
_OF_GROUPS = ("maximize", "stochastic_rounding", "seed")


@dataclass(frozen=True)
class _Bucket:
    """Tensors of one dtype under one rule: what one native call steps over."""

    updater: _core.Updater
    tensors: list[int]
    groups: list[int]


class Optimizer(abc.ABC):
    """Base class of all optimizers over lists of arrays.

    Attributes
    ----------
    param_groups : list of dict
        Each with "params", the arrays, and the options of the group, which may be changed between
        steps, as a schedule of the learning rate does: ``opt.param_groups[0]["lr"] *= 0.1``.
    state : list of dict
        Per parameter, in the order of the groups: "step" and the arrays of the update rule under
        PyTorch's names; "ema" and "master" where they are kept. All of them live: a step changes
        them.
    max_norm : float or None
        May be changed between steps.
    """

    @staticmethod
    @abc.abstractmethod
    def _rule(group: Mapping[str, Any], /) -> str:
        """Name of the compiled rule that a group's options ask for: one choice of `rules`."""

    def _construct(
        self,
        params: Iterable[Array] | Iterable[Group],
        options: Group,
        common: Common,
    ) -> None:
        for name in common:
            if name not in _COMMON:
                raise unexpected_keyword(type(self).__name__, name, [*options, *_COMMON])
        chosen = {**_COMMON, **common}
        max_norm, ema = chosen["max_norm"], chosen["ema"]
        self.defaults: Group = {**options, **{name: chosen[name] for name in _OF_GROUPS}}
        self.param_groups: list[Group] = []
        self.state: list[dict[str, np.ndarray]] = []
        self.max_norm = max_norm if max_norm is None else check_number("max_norm", max_norm, 0)
        self._ema = 0.0 if ema is None else check_number("ema", ema, 0, 1, open_high=True)
        self._master_weights = check_flag("master_weights", chosen["master_weights"])
        self._parameters = _core.Parameters([])
        self._arrays: list[np.ndarray] = []
        self._buckets: list[_Bucket] = []
        self._read_options = operator.itemgetter(*(name for name in self.defaults if name != "lr"))
        self._seen: list[tuple[Any, ...]] = []
        self._kinds: list[tuple[str, bool]] = []
        groups = _listed("params", params)
        if not groups:
            raise ValueError("params is empty, expected at least one array")
        if not isinstance(groups[0], Mapping):
            groups = [{"params": groups}]
        self._add([self._checked(group) for group in groups])

    # ---- groups ---------------------------------------------------------------------------------

    def add_param_group(self, group: Group) -> None:
        """Take in more parameters, with options of their own.

        Parameters
        ----------
        group : dict
            "params", a list of arrays, and any options that differ from those of the constructor.
        """
        self._add([self._checked(group)])

    def _checked(self, group: Mapping[str, Any]) -> Group:
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"a group must be a dict with 'params', got {group!r:.60}")
        unknown = set(group) - set(self.defaults) - {"params", "initial_lr"}
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no option {sorted(unknown)[0]!r}; "
                f"known: {', '.join(self.defaults)}"
            )
        params = _listed("params", group["params"])
        whole = {"params": params, **self.defaults, **{k: group[k] for k in group if k != "params"}}
        self._check(whole)
        return whole

    def _check(self, group: Group) -> None:
        """ValueError or TypeError for options that no step can follow."""
        for name in self.defaults:
            value = group[name]
            if name == "betas":
                if not isinstance(value, Sequence) or len(value) != 2:
                    raise TypeError(f"betas must be two numbers, got {value!r}")
                for place in (0, 1):
                    check_number(f"betas[{place}]", value[place], 0, 1, open_high=True)
            elif name == "rho":
                check_number(name, value, 0, 1)
            elif name in _FROM_ZERO:
                check_number(name, value, 0)
            elif name == "dampening":
                check_number(name, value)
            elif name == "seed":
                check_integer(name, value, 0)
            else:
                check_flag(name, value)

    def _add(self, groups: list[Group]) -> None:
        every = [*self.param_groups, *groups]
        # The order of the parameters is that of the groups, so that old places stay what they were.
        parameters = _core.Parameters([p for group in every for p in group["params"]])
        state: list[dict[str, np.ndarray]] = [dict(entry) for entry in self.state]
        state += [{} for _ in range(len(parameters.arrays) - len(state))]
        self._commit(every, state, parameters)

    # ---- the compiled part -----------------------------------------------------------------------

    def _options(self, group: Group) -> dict[str, Any]:
        """Options of a group as the compiled step takes them."""
        return {**compiled_options(self._rule(group), group), "ema_decay": self._ema}

    def _kind(self, group: Group) -> tuple[str, bool]:
        """What of a group's options decides which compiled step takes it."""
        return self._rule(group), bool(group["stochastic_rounding"])

    def _need_roundable(self, array: np.ndarray, place: int) -> None:
        """ValueError where rounding at random would mean nothing."""
        if str(array.dtype) != "bfloat16":
            raise ValueError(
                f"stochastic_rounding=True is for bfloat16 parameters, parameters[{place}] is "
                f"{array.dtype}; give it a group with stochastic_rounding=False"
            )
        if self._master_weights:
            raise ValueError(
                "stochastic_rounding=True and master_weights=True: a float32 copy loses nothing "
                "that rounding at random could keep; choose one of them"
            )

    def _commit(
        self,
        groups: list[Group],
        state: list[dict[str, np.ndarray]],
        parameters: _core.Parameters,
    ) -> None:
        """Take over groups and states, all or nothing; a state that is missing begins."""
        arrays = parameters.arrays
        buckets = self._fill_buckets(groups, state, arrays, parameters.addresses)
        self.param_groups, self.state, self._parameters = groups, state, parameters
        self._arrays, self._buckets = arrays, buckets
        self._seen = self._present()
        self._kinds = list(map(self._kind, groups))

    def _fill_buckets(
        self,
        groups: list[Group],
        state: list[dict[str, np.ndarray]],
        arrays: list[np.ndarray],
        addresses: list[int],
    ) -> list[_Bucket]:
        group_of = [g for g, group in enumerate(groups) for _ in group["params"]]
        members: dict[tuple[str, bool, str], list[int]] = {}
        for i, (g, array) in enumerate(zip(group_of, arrays, strict=True)):
            kind = self._kind(groups[g])
            if kind[1]:
                self._need_roundable(array, i)
            members.setdefault((*kind, str(array.dtype)), []).append(i)
        buckets = []
        device = "cuda" if isinstance(arrays[0], _core.DeviceArray) else "cpu"
        for (rule, stochastic, dtype), tensors in members.items():
            masters = self._master_weights and dtype in ("float16", "bfloat16")
            updater = _core.Updater(
                rule,
                dtype=dtype,
                ema=self._ema > 0,
                masters=masters,
                device=device,
                stochastic=stochastic,
            )
            used = sorted({group_of[i] for i in tensors})
            updater.set_groups([self._options(groups[g]) for g in used])
            kept = {"ema": self._ema > 0, "master": masters}
            for i in tensors:
                start = updater.initial_states(self._options(groups[group_of[i]]))
                _begin(state[i], arrays[i], updater, start, kept)
            addressed = {
                name: [_address(state[i][name]) for i in tensors] for name in kept if kept[name]
            }
            updater.set_tensors(
                [addresses[i] for i in tensors],
                [arrays[i].size for i in tensors],
                [[_address(state[i][name]) for i in tensors] for name in updater.states],
                [[_address(state[i][name]) for i in tensors] for name in updater.scalars],
                [used.index(group_of[i]) for i in tensors],
                ema=addressed.get("ema"),
                masters=addressed.get("master"),
                numbers=tensors,
            )
            buckets.append(_Bucket(updater, tensors, used))
        return buckets

    def _present(self) -> list[tuple[Any, ...]]:
        """The options that the compiled part was told, but for the learning rates."""
        return list(map(self._read_options, self.param_groups))

    def _refresh(self) -> None:
        """Tell the compiled part of options that were changed."""
        for group in self.param_groups:
            self._check(group)
        if list(map(self._kind, self.param_groups)) == self._kinds:
            for bucket in self._buckets:
                groups = [self.param_groups[g] for g in bucket.groups]
                bucket.updater.set_groups([self._options(group) for group in groups])
            self._seen = self._present()
        else:
            state = [dict(entry) for entry in self.state]
            self._commit(self.param_groups, state, self._parameters)

    # ---- steps -----------------------------------------------------------------------------------

    def step(
        self, gradients: Sequence[Array | None], *, clear_gradients: bool = False
    ) -> float | None:
        """Change all parameters in place, in one native call.

        Parameters
        ----------
        gradients : list of arrays or None
            One per parameter, in the order of the groups, of the same shape and dtype. A parameter
            whose gradient is None is left alone, and so is its count of steps.
        clear_gradients : bool
            Fill the gradients with zeros in the same pass over memory, for those that are added up
            in place. They must be writable, laid out like their parameters, and share no memory.

        Returns
        -------
        norm : float or None
            Of all gradients together, before it was limited, if there is `max_norm`.

        Raises
        ------
        ValueError, TypeError
            For a gradient of another shape or dtype, or one that shares memory with a parameter.
            Nothing has changed then.
        """
        if self._present() != self._seen:
            self._refresh()
        read = self._parameters.gradients(
            gradients if type(gradients) is list else _listed("gradients", gradients),
            writable=clear_gradients,
        )
        rates = [group["lr"] for group in self.param_groups]
        queue = queue_of(self.param_groups[0]["params"][0]) if self._parameters.on_device else 0
        if len(self._buckets) == 1:
            updater = self._buckets[0].updater
            return updater.step(
                read,
                lr=rates,
                max_norm=self.max_norm,
                clear_gradient=clear_gradients,
                queue=queue,
            )

        # Checked before the first bucket changes.
        rates = [check_number("lr", rate) for rate in rates]
        norm, scale = None, 1.0
        if self.max_norm is not None:
            limit = check_number("max_norm", self.max_norm, 0)
            squares = [
                b.updater.square_norm(read.take(b.tensors), queue=queue) for b in self._buckets
            ]
            norm = sum(squares) ** 0.5
            scale = _core.clip_coefficient(norm, limit)
        for bucket in self._buckets:
            bucket.updater.step(
                read.take(bucket.tensors),
                lr=[rates[g] for g in bucket.groups],
                gradient_scale=scale,
                clear_gradient=clear_gradients,
                queue=queue,
            )
        return norm

    @property
    def averages(self) -> list[np.ndarray]:
        """Moving averages of the parameters, which `ema` asks for; they change with every step."""
        if not self._ema:
            raise ValueError("no averages are kept; give ema=, for example ema=0.999")
        return [entry["ema"] for entry in self.state]

    # ---- saving ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that a later step depends on, but for the parameters.

        Returns
        -------
        state_dict : dict
            "state": per number of a parameter its arrays, and "step"; "param_groups": the options,
            with numbers in the place of arrays. The layout is that of ``torch.optim``.
        """
        groups, first = [], 0
        for group in self.param_groups:
            n = len(group["params"])
            groups.append({**group, "params": list(range(first, first + n))})
            first += n
        state = {
            i: {k: float(v) if k in _SCALARS else _on_host(v).copy() for k, v in each.items()}
            for i, each in enumerate(self.state)
        }
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, or ``state_dict`` of PyTorch's twin.

        Parameters
        ----------
        state_dict : dict
            Of an optimizer with as many groups, and as many parameters of the same shapes in each.

        Raises
        ------
        ValueError, TypeError
            If something does not fit. Nothing has changed then.
        """
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError(
                f"state_dict has {len(saved)} groups of parameters, the optimizer has "
                f"{len(self.param_groups)}"
            )
        groups: list[Group] = []
        numbers: list[Any] = []
        for given, group in zip(saved, self.param_groups, strict=True):
            if len(given["params"]) != len(group["params"]):
                raise ValueError(
                    f"group {len(groups)} has {len(given['params'])} parameters in state_dict, "
                    f"{len(group['params'])} in the optimizer"
                )
            groups.append({**self.defaults, **given, "params": group["params"]})
            self._check(groups[-1])
            numbers += given["params"]
        state = []
        for number, array in zip(numbers, self._arrays, strict=True):
            given = state_dict["state"].get(number, {})
            entry = {k: _like(v, k, array) for k, v in given.items() if v is not None}
            if "momentum_buffer" in entry and "step" not in entry:
                # PyTorch's SGD counts no steps: that it has a buffer says that there was a first.
                entry["step"] = np.ones((), np.float32)
            state.append(entry)
        self._commit(groups, state, self._parameters)

    def __repr__(self) -> str:
        first = ", ".join(f"{k}={v!r}" for k, v in self.param_groups[0].items() if k != "params")
        more = len(self.param_groups) - 1
        return f"{type(self).__name__}({first}{f', and {more} more groups' if more else ''})"


_SCALARS = ("step", "mu_product")  # states that are one number per parameter


def _listed(argument: str, given: Any) -> list[Any]:
    """The given list; a lone array would be taken for a list of its rows."""
    if isinstance(given, (str, bytes, Mapping, set)) or hasattr(given, "shape"):
        raise TypeError(f"{argument} must be a list of arrays, got {type(given).__name__}")
    return list(given)


def _address(array: Any) -> int:
    if isinstance(array, _core.DeviceArray):
        return array.__cuda_array_interface__["data"][0]
    return array.__array_interface__["data"][0]


def _on_host(array: Any) -> Any:
    return array.to_numpy() if isinstance(array, _core.DeviceArray) else array


def _like(value: Any, name: str, array: np.ndarray) -> np.ndarray:
    """A saved state as an array of our own: a number, or shaped and laid out like the parameter."""
    if name in _SCALARS:
        return np.array(float(value), np.float32)
    value = np.asarray(_on_host(value))
    if value.shape != array.shape:
        raise ValueError(
            f"{name!r} in state_dict has shape {value.shape}, its parameter {array.shape}"
        )
    return _filled(array, value, _wide(array) if name in ("ema", "master") else array.dtype)


def _begin(
    entry: dict[str, np.ndarray],
    array: np.ndarray,
    updater: _core.Updater,
    start: Sequence[float],
    kept: Mapping[str, bool],
) -> None:
    """Add what a parameter lacks of the state that its rule works with."""
    if updater.states == ["momentum_buffer"] and "momentum_buffer" not in entry:
        entry.pop("step", None)  # the first gradient in a buffer is not dampened
    for name, value in zip(updater.states, start, strict=True):
        if name not in entry:
            entry[name] = _filled(array, value, array.dtype)
    for name, value in zip(updater.scalars, updater.initial_scalars, strict=True):
        if name not in entry:
            entry[name] = np.array(value, np.float32)
    if kept["ema"] and "ema" not in entry:
        entry["ema"] = _filled(array, array, _wide(array))
    if kept["master"] and "master" not in entry:
        entry["master"] = _filled(array, array, _wide(array))


def _filled(array: Any, value: Any, dtype: np.dtype) -> Any:
    """An array laid out like another, from a cache line on: wide vectors are faster there."""
    if isinstance(array, _core.DeviceArray):
        return _core.DeviceArray(np.full(array.shape, _on_host(value), dtype))
    line = 64
    memory = np.empty(array.size * dtype.itemsize + line, np.uint8)
    strides = [stride // array.itemsize * dtype.itemsize for stride in array.strides]
    made: np.ndarray = np.ndarray(
        array.shape, dtype, memory, offset=-_address(memory) % line, strides=strides
    )
    np.copyto(made, value, casting="same_kind")
    return made


def _wide(array: np.ndarray) -> np.dtype:
    """The dtype of the arithmetic."""
    return np.result_type(array.dtype, np.float32)
