# SPDX-License-Identifier: Apache-2.0
"""What makes a training the one that it is, and how two of them differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusednn.models import Model

_SHOWN = 4  # differences in one message


def identity_of(model: Model, data: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
    """Return, as plain values, all that decides the bits of a training that begins.

    Parameters
    ----------
    model : Model
        Compiled.
    data : dict
        By name what has an ``identity()``, or None.
    arguments : dict
        Of `fit`.
    """
    objective = model._objective
    assert objective is not None  # fit saw to it
    compiled = objective.serialize()
    rate = None
    if objective.optimizer.schedule is None:  # callbacks may change it: what it was at first counts
        rate = compiled["optimizer"]["config"].pop("learning_rate")
    found = {
        "model": model.get_config(),
        "precision": model.precision,
        "seed": model.seed,
        **compiled,
        "learning_rate": {"value": rate, "after": objective.optimizer.iterations},
        **arguments,
        **{name: None if source is None else source.identity() for name, source in data.items()},
    }
    return json.loads(json.dumps(found))


def differences(was: Any, now: Any, where: str = "") -> list[str]:
    """Return what is not as it was, each in a few words."""
    if isinstance(was, dict) and isinstance(now, dict):
        found: list[str] = []
        for key in [*was, *(key for key in now if key not in was)]:
            place = f"{where}: {key}" if where else key
            found += differences(was.get(key), now.get(key), place)
        return found
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        return [
            text
            for place, pair in enumerate(zip(was, now, strict=True))
            for text in differences(*pair, f"{where}[{place}]")
        ]
    if was == now or (was != was and now != now):  # NaN is as it was
        return []
    return [f"{where} is {_short(now)}, it was {_short(was)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def refusal(where: object, found: list[str]) -> ValueError:
    """Return the error for a checkpoint of another training."""
    more = len(found) - _SHOWN
    rest = f" and {more} more" if more > 0 else ""
    return ValueError(
        f"resume: {where} is of another training: {'; '.join(found[:_SHOWN])}{rest}; give each "
        "training a folder of its own, or remove the checkpoints if it is to begin anew"
    )
