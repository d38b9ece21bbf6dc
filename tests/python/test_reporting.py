# SPDX-License-Identifier: Apache-2.0
"""Charts are well-formed and show what they are given; pages escape what people call things."""

from __future__ import annotations

import html.parser
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from fusednn.reporting import Page, canvas, charts

NASTY = "<script>alert('&\"')</script>"


def parsed(svg):
    return ElementTree.fromstring(svg)


def texts(svg):
    return [element.text for element in parsed(svg).iter("text")]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3, 7), (1e-9, 2e-9), (0, 1e12), (0.93, 0.97), (-1, -0.5)]
)
def test_ticks_are_few_round_and_inside(low, high):
    found = canvas.ticks(low, high)
    assert 2 <= len(found) <= 7
    step = found[1] - found[0]
    assert all(low - step / 1e6 <= t <= high + step / 1e6 for t in found)
    mantissa = float(f"{step:e}".split("e")[0])
    assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-9


def all_charts():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(2000), rng.standard_normal(2000)
    yield charts.learning_curves({"training": [3, 2, 1.5], "validation": [3, 2.5]}, 2, NASTY)
    yield charts.learning_curves({"training": [1.0]}, 1)
    yield charts.learning_curves({"training": [float("nan"), float("inf")]}, 1)
    yield charts.curve(np.array([0, 1.0]), np.array([0, 1.0]), NASTY, "x", "y", diagonal=True)
    yield charts.scatter(x, y, NASTY)
    yield charts.scatter(np.zeros(3), np.zeros(3), "one point")
    yield charts.histogram(x, NASTY, "x")
    yield charts.histogram(np.full(5, 2.0), "one value", "x")
    yield charts.bars([NASTY, "b"], [0.5, -0.1], [0.1, 0.0], NASTY)
    yield charts.bars([], [], [], "nothing")
    yield charts.matrix(np.array([[5, 1], [0, 9]]), [NASTY, "b"])
    yield charts.matrix(rng.integers(0, 9, (30, 30)), [f"class {i}" for i in range(30)])


@pytest.mark.parametrize("svg", list(all_charts()))
def test_charts_are_well_formed(svg):
    root = parsed(svg)
    assert root.tag == "svg"
    assert "script" not in {element.tag for element in root.iter()}
    assert "nan" not in re.sub(r"<text.*?</text>", "", svg)


def test_points_are_where_they_belong():
    axes = canvas.Axes((0, 10), (-1, 1), "t")
    assert axes.at(0, -1) == (canvas.LEFT, axes.height - canvas.BOTTOM)
    assert axes.at(10, 1) == (axes.width - canvas.RIGHT, canvas.TOP)
    middle = axes.at(5, 0)
    assert middle[0] == (canvas.LEFT + axes.width - canvas.RIGHT) / 2


def test_the_matrix_says_what_was_counted():
    said = texts(charts.matrix(np.array([[1234, 1], [0, 9]]), ["yes", "no"]))
    assert "1,234" in said
    assert "·" in said
    assert "100%" in said


def test_histogram_loses_no_row():
    values = np.concatenate([np.zeros(997), [1e9, -1e9, 3]])
    svg = charts.histogram(values, "t", "x", bins=11)
    assert len(list(parsed(svg).iter("rect"))) == 11


class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.open, self.loads = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [v for k, v in attributes if k in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_page_is_whole_and_alone(tmp_path):
    page = Page(NASTY, NASTY)
    page.cards([("1", NASTY), ("2", "b")])
    page.section(NASTY, Page.table([[NASTY, "<b>"]], ["a", NASTY], strong=0, numbers=[1]))
    page.section("list", Page.items([NASTY]), kind="note")
    page.section("code", Page.code(NASTY), Page.charts(charts.bars([NASTY], [1.0], [0.0], NASTY)))
    page.footer(NASTY)
    path = tmp_path / "page.html"
    page.write(path)
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == reader.loads == []
    assert "script" not in reader.tags
    assert "svg" in reader.tags
    assert "url(" not in page.render()
