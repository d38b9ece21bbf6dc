# SPDX-License-Identifier: Apache-2.0
"""Axes drawn as SVG."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field

BLUE, ORANGE, GRAY, LIGHT, TEXT = "#2563eb", "#d97706", "#9ca3af", "#e5e7eb", "#374151"
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 30, 42  # around the plot, in pixels


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers between two numbers, at most so many."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next((m for m in (1, 2, 5) if span / (step * m) <= most), 10)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """Return a number in at most six characters or so."""
    return f"{value:.4g}" if value else "0"


@dataclass
class Axes:
    """A plot with two linear axes; y grows upwards.

    Shapes are given in the units of the axes, and cut off at the frame.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    title: str
    x_label: str = ""
    y_label: str = ""
    width: int = 460
    height: int = 300
    whole_x: bool = False
    _shapes: list[str] = field(default_factory=list)
    _legend: list[tuple[str, str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.x, self.y = (_opened(*limits) for limits in (self.x, self.y))

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the place of a point in pixels."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            LEFT + across * (self.width - LEFT - RIGHT),
            self.height - BOTTOM - up * (self.height - TOP - BOTTOM),
        )

    def line(
        self, xs: list[float], ys: list[float], color: str, name: str = "", dashed: bool = False
    ) -> None:
        """Draw a line through points; those that are not finite are left out."""
        pairs = zip(xs, ys, strict=True)
        places = [self.at(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._shapes.append(
            f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.8"'
            f' stroke-linejoin="round"{dash}/>'
        )
        if name:
            self._legend.append((name, color, dashed))

    def dots(self, xs: list[float], ys: list[float], color: str) -> None:
        """Draw a small translucent disc at each point."""
        for x, y in zip(xs, ys, strict=True):
            cx, cy = self.at(x, y)
            self._shapes.append(
                f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="1.9" fill="{color}" fill-opacity="0.35"/>'
            )

    def box(self, x: tuple[float, float], y: tuple[float, float], color: str) -> None:
        """Fill a rectangle."""
        (left, bottom), (right, top) = self.at(x[0], y[0]), self.at(x[1], y[1])
        self._shapes.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(right - left - 0.6, 0.4):.1f}" '
            f'height="{max(bottom - top, 0):.1f}" fill="{color}"/>'
        )

    def note(self, x: float, y: float, text: str, anchor: str = "start") -> None:
        """Write beside a point."""
        left, top = self.at(x, y)
        self._shapes.append(
            f'<text x="{left:.1f}" y="{top:.1f}" dx="4" dy="-4" text-anchor="{anchor}">'
            f"{html.escape(text)}</text>"
        )

    def svg(self) -> str:
        """Return the picture."""
        right, bottom = self.width - RIGHT, self.height - BOTTOM
        parts = [heading(self.title, self.width)]
        for value in ticks(*self.y):
            y = self.at(self.x[0], value)[1]
            parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{LIGHT}"/>')
            parts.append(label(LEFT - 6, y + 4, number(value), "end"))
        for value in ticks(*self.x):
            if self.whole_x and value != int(value):
                continue
            x = self.at(value, self.y[0])[0]
            parts.append(f'<path d="M{x:.1f} {bottom}v4" stroke="{GRAY}"/>')
            parts.append(label(x, bottom + 17, number(value), "middle"))
        parts.append(f'<path d="M{LEFT} {bottom}H{right}" stroke="{GRAY}"/>')
        parts.append(label((LEFT + right) / 2, self.height - 7, self.x_label, "middle"))
        middle = (TOP + bottom) / 2
        parts.append(
            f'<text transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle">'
            f"{html.escape(self.y_label)}</text>"
        )
        frame = f'x="{LEFT}" y="{TOP - 8}" width="{right - LEFT + 4}" height="{bottom - TOP + 8}"'
        parts.append(f'<svg {frame} viewBox="{LEFT} {TOP - 8} {right - LEFT + 4} '
                     f'{bottom - TOP + 8}">{"".join(self._shapes)}</svg>')  # fmt: skip
        if self._legend:
            parts.append(
                f'<rect x="{right - 102}" y="{TOP - 6}" width="106" '
                f'height="{17 * len(self._legend) + 6}" fill="#ffffff" fill-opacity="0.85"/>'
            )
        for place, (name, color, dashed) in enumerate(self._legend):
            y = TOP + 6 + 17 * place
            dash = ' stroke-dasharray="5 4"' if dashed else ""
            parts.append(
                f'<path d="M{right - 96} {y}h20" stroke="{color}" stroke-width="2"{dash}/>'
            )
            parts.append(label(right - 70, y + 4, name, "start"))
        return picture(self.width, self.height, self.title, parts)


def picture(width: int, height: int, title: str, parts: list[str]) -> str:
    """Return an SVG element, with its title for those who do not see it."""
    label = html.escape(title, quote=True)
    return (
        f'<svg class="chart" role="img" aria-label="{label}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">{"".join(parts)}</svg>'
    )


def _opened(low: float, high: float) -> tuple[float, float]:
    """Return limits that are finite and apart."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    if high > low:
        return low, high
    apart = abs(low) * 0.1 or 1.0
    return low - apart, high + apart


def label(x: float, y: float, text: str, anchor: str = "middle") -> str:
    """Return a text at a place in pixels."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def heading(title: str, width: int) -> str:
    """Return the title of a picture."""
    return (
        f'<text class="heading" x="{width / 2:.0f}" y="15" text-anchor="middle">'
        f"{html.escape(title)}</text>"
    )
