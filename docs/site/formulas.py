# SPDX-License-Identifier: Apache-2.0
"""Formulas as MathML, which browsers draw by themselves: no script, no font, no network."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

# What pymdownx.arithmatex leaves of $...$ and $$...$$.
_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?:\(|\[)(?P<latex>.*?)\\(?:\)|\])</(?P=tag)>', re.S
)
# The converter spells words letter by letter, leaves no space around log, and draws \mathrel{-}= as
# operators in an operator.
_WORD = re.compile(r"\\(?:mathrm|mathit)\{([^{}]*)\}")
_NAMES = r"\\(?:log|ln|exp|cosh|tanh|cos|sin|min|max)"
_BEFORE = re.compile(rf"(?<=[\w)}}])\s*(?={_NAMES}\b)")
_AFTER = re.compile(rf"({_NAMES}(?:_\w)?)\s+(?=[\w\\])")
_BAR = "<mo>&#x0007C;</mo>"  # would have the spaces of an operator
_COMPOUND = re.compile(r"<mo><mrow><mo>([^<]*)</mo></mrow></mo><mo>&#x0003D;</mo>")


def mathml(latex: str, display: str = "inline") -> str:
    """Return a formula in LaTeX as MathML."""
    latex = _WORD.sub(lambda m: rf"\text{{{m[1]}}}".replace(r"\_", "_"), latex)
    latex = _AFTER.sub(r"\1 \\, ", _BEFORE.sub(r" \\, ", latex))
    found = _COMPOUND.sub(r"<mo>\1=</mo>", convert(latex, display=display))
    return found.replace(_BAR, '<mo lspace="0" rspace="0" stretchy="false">|</mo>')


def on_page_content(content: str, **_: Any) -> str:
    """Replace each formula of a page."""

    def drawn(match: re.Match[str]) -> str:
        latex = html.unescape(match["latex"]).strip()
        return mathml(latex, "block" if match["tag"] == "div" else "inline")

    return _FORMULA.sub(drawn, content)
