# SPDX-License-Identifier: Apache-2.0
"""Examples in the running text of docstrings, shown as code.

Under a heading "Examples" they are recognised anyway; docstrings of modules have them in between.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"(?:^>>> .*\n?(?:^(?!\n).+\n?)*)+", re.M)


class Doctests(griffe.Extension):
    """Puts a fence around each example of a module's docstring."""

    def on_module(self, *, mod: griffe.Module, **_: Any) -> None:
        if mod.docstring is not None:
            mod.docstring.value = _EXAMPLE.sub(
                lambda m: f"```pycon\n{m[0].rstrip()}\n```\n", mod.docstring.value
            )
