# SPDX-License-Identifier: Apache-2.0
"""One HTML file: headings, cards, tables, charts. No scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

STYLE = """
body{margin:0;background:#f3f4f6;color:#111827;
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1020px;margin:0 auto;padding:28px 24px 48px}
h1{font-size:26px;margin:0 0 2px}h2{font-size:18px;margin:0 0 12px}
.lead{color:#4b5563;margin:0 0 20px}
section{background:#fff;border:1px solid #e5e7eb;border-radius:10px;padding:18px 20px;
margin:0 0 16px}
.cards{display:flex;flex-wrap:wrap;gap:14px;margin:0 0 16px}
.card{flex:1 1 150px;background:#fff;border:1px solid #e5e7eb;border-radius:10px;padding:12px 16px}
.card b{display:block;font-size:25px;line-height:1.25}.card span{color:#6b7280;font-size:13px}
.card.main{background:#1d4ed8;border-color:#1d4ed8;color:#fff}.card.main span{color:#dbeafe}
.charts{display:flex;flex-wrap:wrap;gap:12px 24px;align-items:flex-start}
.chart{max-width:100%;height:auto;font-size:12px}.chart text:not([fill]){fill:#374151}
.chart .heading{font-size:14px;font-weight:600;fill:#111827}
.chart .small{font-size:11px}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;padding:5px 10px;border-bottom:1px solid #e5e7eb;vertical-align:top}
th{color:#6b7280;font-weight:600;font-size:13px}td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
tr.strong td{font-weight:600;background:#eff6ff}
ul{margin:0;padding-left:20px}li{margin:2px 0}
.note{border-left:4px solid #d97706}
code,pre{font:13px/1.45 ui-monospace,"DejaVu Sans Mono",monospace}
pre{background:#f9fafb;border:1px solid #e5e7eb;border-radius:6px;padding:10px 12px;
overflow-x:auto;margin:0}
footer{color:#6b7280;font-size:13px}
@media print{body{background:#fff}section,.card{break-inside:avoid}}
""".strip()


class Page:
    """A page that grows from top to bottom. Texts are escaped; charts go in as they are.

    Parameters
    ----------
    title : str
    lead : str
        What it is about, in a line.

    Examples
    --------
    >>> from fusednn.reporting import Page
    >>> page = Page("Adult", "a classifier")
    >>> page.section("Settings", Page.table([("epochs", "12")]))
    >>> "<td>epochs</td>" in page.render()
    True
    """

    def __init__(self, title: str, lead: str) -> None:
        self._title = title
        self._body = [f"<h1>{html.escape(title)}</h1>", f'<p class="lead">{html.escape(lead)}</p>']

    def cards(self, cards: Iterable[tuple[str, str]]) -> None:
        """Add large numbers, each with what it means; the first is the one that counts."""
        shown = [
            f'<div class="card{" main" if place == 0 else ""}"><b>{html.escape(value)}</b>'
            f"<span>{html.escape(meaning)}</span></div>"
            for place, (value, meaning) in enumerate(cards)
        ]
        self._body.append(f'<div class="cards">{"".join(shown)}</div>')

    def section(self, title: str, *content: str, kind: str = "") -> None:
        """Add a box with a heading."""
        inside = "".join(content)
        mark = f' class="{kind}"' if kind else ""
        self._body.append(f"<section{mark}><h2>{html.escape(title)}</h2>{inside}</section>")

    def footer(self, text: str) -> None:
        """Add a last line."""
        self._body.append(f"<footer>{html.escape(text)}</footer>")

    @staticmethod
    def charts(*pictures: str) -> str:
        """Return charts side by side."""
        return f'<div class="charts">{"".join(pictures)}</div>'

    @staticmethod
    def table(
        rows: Iterable[Sequence[str]], head: Sequence[str] = (), *, strong: int | None = None,
        numbers: Sequence[int] = (),
    ) -> str:  # fmt: skip
        """Return a table, with columns of numbers to the right."""

        def cells(row: Sequence[str], tag: str) -> str:
            made = []
            for place, text in enumerate(row):
                kind = ' class="n"' if place in numbers else ""
                made.append(f"<{tag}{kind}>{html.escape(text)}</{tag}>")
            return "".join(made)

        lines = [f"<tr>{cells(head, 'th')}</tr>"] if head else []
        for place, row in enumerate(rows):
            mark = ' class="strong"' if place == strong else ""
            lines.append(f"<tr{mark}>{cells(row, 'td')}</tr>")
        return f"<table>{''.join(lines)}</table>"

    @staticmethod
    def items(texts: Iterable[str]) -> str:
        """Return a list."""
        return f"<ul>{''.join(f'<li>{html.escape(text)}</li>' for text in texts)}</ul>"

    @staticmethod
    def code(text: str) -> str:
        """Return a text as it is typed."""
        return f"<pre>{html.escape(text)}</pre>"

    def render(self) -> str:
        """Return the whole file."""
        title = html.escape(self._title)
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>{STYLE}</style></head>\n<body><main>"
            + "\n".join(self._body)
            + "</main></body></html>\n"
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file."""
        Path(path).write_text(self.render(), encoding="utf-8")
