# SPDX-License-Identifier: Apache-2.0
"""Errors in the caller's language: the argument, the value given, what was expected."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# What other libraries call an argument, and what it is called here. The first entry that the
# called function knows is the one meant.
_OTHER_HOUSES: dict[str, tuple[str, ...]] = {
    "lr": ("learning_rate",),
    "learning_rate_init": ("learning_rate",),
    "learning_rate": ("lr",),
    "betas": ("beta_1",),
    "beta1": ("beta_1", "betas"),
    "beta2": ("beta_2", "betas"),
    "beta_1": ("betas",),
    "beta_2": ("betas",),
    "epsilon": ("eps",),
    "eps": ("epsilon",),
    "alpha": ("rho", "negative_slope", "weight_decay"),
    "decay": ("weight_decay",),
    "clip_norm": ("clipnorm", "max_norm"),
    "global_clipnorm": ("max_norm",),
    "use_ema": ("ema",),
    "ema_momentum": ("ema",),
    "clip_value": ("clipvalue",),
    "max_norm": ("global_clipnorm",),
    "max_grad_norm": ("global_clipnorm",),
    "nesterovs_momentum": ("nesterov",),
    "n_epochs": ("epochs",),
    "num_epochs": ("epochs",),
    "max_epochs": ("epochs",),
    "max_iter": ("epochs",),
    "nb_epoch": ("epochs",),
    "X": ("x",),
    "X_train": ("x",),
    "y_train": ("y",),
    "validation_fraction": ("validation_split",),
    "eval_set": ("validation_data",),
    "optim": ("optimizer",),
    "solver": ("optimizer",),
    "criterion": ("loss",),
    "loss_fn": ("loss",),
    "dtype": ("precision",),
    "random_state": ("seed",),
    "out_features": ("units",),
    "n_units": ("units",),
    "bias": ("use_bias",),
    "p": ("rate",),
    "affine": ("scale",),
    "elementwise_affine": ("scale",),
    "negative_slope": ("activation",),
    "n_iter_no_change": ("patience",),
    "tol": ("min_delta",),
}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to a misspelt one, or None when none is near."""
    import difflib

    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.55)
    return by_lower[close[0]] if close else None


def unknown_choice(argument: str, value: object, known: Iterable[str]) -> ValueError:
    """Return the error for a string that names nothing."""
    known = list(known)
    near = nearest(value, known) if isinstance(value, str) else None
    hint = f"did you mean {near!r}? " if near else ""
    return ValueError(f"{argument}={value!r} is unknown; {hint}known: {', '.join(sorted(known))}")


def unexpected_keyword(owner: str, name: str, known: Iterable[str]) -> TypeError:
    """Return the error for a keyword that a function does not have."""
    known = [k for k in known if k != "self"]
    near = next((k for k in _OTHER_HOUSES.get(name, ()) if k in known), None)
    if name == "betas" and near:
        hint = "use beta_1 and beta_2"
    elif near:
        hint = f"use {near}"
    else:
        near = nearest(name, known)
        hint = f"did you mean {near}?" if near else f"known: {', '.join(known)}"
    return TypeError(f"{owner}() has no argument {name!r}; {hint}")


def helpful_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Answer an unknown keyword with the right name instead of Python's bare refusal."""
    code = function.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                constructs = function.__name__ == "__init__"
                owner = type(args[0]).__name__ if constructs else function.__qualname__
                raise unexpected_keyword(owner, name, known)
        return function(*args, **kwargs)

    return checked


def check_integer(argument: str, value: object, low: int) -> int:
    """Return value as an int of at least `low`; a bool or a fraction is refused."""
    import operator

    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{argument} must be an integer, got {value!r}") from None
    if number < low:
        raise ValueError(f"{argument} must be at least {low}, got {number}")
    return number


def check_number(
    argument: str,
    value: object,
    low: float = float("-inf"),
    high: float = float("inf"),
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return value as a finite float inside the interval; ends belong to it unless opened."""
    if isinstance(value, (bool, str, bytes)):
        raise TypeError(f"{argument} must be a number, got {value!r}")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"{argument} must be a number, got {value!r}") from None
    inside = (number > low if open_low else number >= low) and (
        number < high if open_high else number <= high
    )
    if not inside or number in (float("inf"), float("-inf")):
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        raise ValueError(f"{argument} must be a finite number in {interval}, got {value!r}")
    return number


def check_flag(argument: str, value: object) -> bool:
    """Return value as a bool; NumPy's bools, 0 and 1 are taken, other things are not."""
    if value is True or value is False or (type(value).__module__ == "numpy" and value in (0, 1)):
        return bool(value)
    raise TypeError(f"{argument} must be True or False, got {value!r}")
