# SPDX-License-Identifier: Apache-2.0
"""What people read: the tables on the screen, and those in the README."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusednn.bench.goals import in_words, is_own
from fusednn.cli.tables import aligned

NOISY = "too noisy to conclude"
BEGIN, END = "<!-- bench numbers: begin -->", "<!-- bench numbers: end -->"

Document = dict[str, Any]
Record = dict[str, Any]


def duration(microseconds: float) -> str:
    """Return a time with three digits and a unit that fits."""
    for limit, factor, unit in ((1e3, 1.0, "µs"), (1e6, 1e-3, "ms")):
        if microseconds < limit:
            return f"{microseconds * factor:.3g} {unit}"
    return f"{microseconds * 1e-6:.3g} s"


def _rate(record: Record) -> str:
    seconds = record["ours"]["median"] * 1e-6
    if record["flops"]:
        return f"{record['flops'] / seconds / 1e9:.0f} GFLOP/s"
    return f"{record['bytes'] / seconds / 1e9:.1f} GB/s"


def _ratio(record: Record, rival: str) -> str:
    if rival in record["refused"]:
        return "refused"
    if rival not in record["ratios"]:
        return ""
    ratio, likely = record["ratios"][rival], record["ranges"][rival]
    if ratio is not None:
        return f"{ratio:.2f} x"
    return "noisy" if likely is None else f"{likely[0]:.2f}-{likely[1]:.2f} x"


def _time(record: Record) -> str:
    """Return our time; its range where it was not steady, nothing where it means nothing."""
    if record["steady"]:
        return duration(record["ours"]["median"])
    likely = record["range_us"]
    return "noisy" if likely is None else " - ".join(map(duration, likely))


def _goals(record: Record) -> str:
    """Return whether a case reached what it should: "met", "missed", "?", or "" without a goal."""
    answers = {goal["met"] for goal in record["goals"]}
    if not answers:
        return ""
    if False in answers:
        return "missed"
    return "?" if None in answers else "met"


def verdict(record: Record) -> str:
    """Return one line about a case: its time, or why there is none."""
    title = f"{record['suite']}: {record['name']}"
    if not record["checked"]:
        return f"{title}: WRONG ANSWER, not timed: {record['complaint']}"
    ours = record["ours"]
    words = [f"{duration(ours['median'])} (iqr {100 * ours['iqr'] / ours['median']:.0f} %)"]
    if record["percent_of_floor"] is not None:
        words.append(f"{record['percent_of_floor']:.0f} % of the floor")
    words += [f"{rival} {_ratio(record, rival)}" for rival in record["ratios"]]
    words += [f"{rival} refused: {reason}" for rival, reason in record["refused"].items()]
    words += [f"{name} {value:.3f}" for name, value in _qualities(record)]
    words += [f"goal missed: {in_words(goal)}" for goal in record["goals"] if goal["met"] is False]
    if not record["conclusive"]:
        words.append(NOISY)
    return f"{title}: {', '.join(words)}"


def _qualities(record: Record) -> list[tuple[str, float]]:
    return [(f"accuracy of {name}", value) for name, value in record["quality"].items()]


def _suite_table(records: Sequence[Record]) -> str:
    rivals = list(dict.fromkeys(name for r in records for name in (*r["ratios"], *r["refused"])))
    rows = [["", "ours", "iqr", "rate", "of the floor", *rivals, "goals", ""]]
    for record in records:
        if not record["checked"]:
            rows.append([record["name"], *[""] * (len(rivals) + 5), "WRONG ANSWER"])
            continue
        ours, percent = record["ours"], record["percent_of_floor"]
        rows.append(
            [
                record["name"],
                duration(ours["median"]),
                f"{100 * ours['iqr'] / ours['median']:.0f} %",
                _rate(record),
                "" if percent is None else f"{percent:.0f} %",
                *(_ratio(record, rival) for rival in rivals),
                _goals(record),
                "" if record["conclusive"] else NOISY,
            ]
        )
    return aligned(rows)


def tables(document: Document) -> str:
    """Return a table for each suite; a rival's column says how many times our time it needs."""
    suites: dict[str, list[Record]] = {}
    for record in document["cases"]:
        suites.setdefault(record["suite"], []).append(record)
    return "\n\n".join(f"{suite}\n{_suite_table(records)}" for suite, records in suites.items())


def goals(document: Document) -> str:
    """Return how many goals were met, and each that was not, in words; "" without goals."""
    judged = [(record, goal) for record in document["cases"] for goal in record["goals"]]
    if not judged:
        return ""
    counts = Counter(goal["met"] for _, goal in judged)
    lines = [f"goals: {counts[True]} met, {counts[False]} missed, {counts[None]} unknown"]
    lines += [
        f"  missed  {record['suite']}: {record['name']}: {in_words(goal)}"
        for record, goal in judged
        if goal["met"] is False
    ]
    return "\n".join(lines)


def machine(document: Document) -> str:
    """Return what the measurements were made on, and the ceilings found there."""
    m, ceilings = document["machine"], document["ceilings"]
    rows = [
        ["processor", f"{m['cpu']}, {m['isa']}"],
        ["threads", f"{m['threads']} of {m['processors']} processors"],
        ["system", f"{m['os']}, {m['compiler']}, Python {m['python']}"],
    ]
    for name, rival in m["rivals"].items():
        rows.append([name, f"{rival['version']}: {rival['kernels']}"])
    for isa, dtypes in ceilings["fma"].items():
        rows.append([f"FMA {isa}", "; ".join(f"{d} {_teams(v)}" for d, v in dtypes.items())])
    for kind, by_threads in ceilings["memory"].items():
        rows.append([kind, _teams(by_threads, "GB/s")])
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {text}" for label, text in rows)


def _teams(by_threads: dict[str, float], unit: str = "GFLOP/s") -> str:
    values = " | ".join(f"{value:.0f}" for value in by_threads.values())
    threads = " | ".join(by_threads)
    return f"{values} {unit} with {threads} thread{'' if threads == '1' else 's'}"


# ---- the README --------------------------------------------------------------------------------

# Suite -> heading of its first column.
HEADINGS = {
    "step": "one training step",
    "fit": "one training",
    "inference": "inference",
    "torch": "torch program",
    "sklearn": "scikit-learn program",
    "optimizer": "optimizer step",
    "gemm": "matrix product or layer",
    "activation": "activation or normalisation",
    "loss": "loss with gradient",
    "growth": "step of a growing network",
}
IN_README = ("step", "fit", "inference")
# Kind of picture -> what it shows; the files stand beside the JSON, see `picture`.
PICTURES = {
    "steps": "Time of a training step in each library, and the floor",
    "growth": "How a step grows with width, depth, batch and threads",
    "roofline": "What was reached of the limits of the machine",
}


def picture(result: Path, kind: str, suffix: str = ".png") -> Path:
    """Return where the picture of a result is: ``x.json`` and "steps" give ``x-steps.png``."""
    return result.with_name(f"{result.stem}-{kind}{suffix}")


def pictures(result: Path, page: Path) -> dict[str, str]:
    """Return what the pictures show that lie beside a result -> their place as seen from a page."""
    found = {text: picture(result, kind) for kind, text in PICTURES.items()}
    return {
        t: Path(os.path.relpath(p, page.parent)).as_posix() for t, p in found.items() if p.exists()
    }


def readme(
    document: Document,
    shown: Mapping[str, str] | None = None,
    suites: Collection[str] = IN_README,
) -> str:
    """Return what stands in the README between the marks, as Markdown.

    Times are medians; a rival's cell has its own time and how many times ours that is. What is too
    noisy for a number has a range, or nothing. `shown` are the pictures: text -> file.
    """
    parts = []
    for suite in suites:
        records = [
            record
            for record in document["cases"]
            if record["suite"] == suite and record["checked"] and record["rivals"]
        ]
        if records:
            parts.append(_markdown(HEADINGS[suite], records))
    parts += [f"![{text}]({file})" for text, file in (shown or {}).items()]
    parts.append(_small_print(document))
    return "\n\n".join(parts)


def page(document: Document, shown: Mapping[str, str] | None = None) -> str:
    """Return all suites of a result as a page of its own."""
    return f"# Measured on {document['machine']['cpu']}\n\n{readme(document, shown, HEADINGS)}\n"


def _small_print(document: Document) -> str:
    m = document["machine"]
    versions = {name: rival["version"] for name, rival in m["rivals"].items()}
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    counts = Counter(goal["met"] for record in document["cases"] for goal in record["goals"])
    goals = (
        f" Of {counts.total()} goals that the cases state, {counts[True]} are met, "
        f"{counts[False]} missed and {counts[None]} too noisy to tell."
        if counts
        else ""
    )
    return (
        f"Medians of interleaved rounds on {m['cpu']} ({m['isa']}), threads: {m['threads']}; "
        f"fusednn {m['versions']['fusednn']}, {libraries}; {document['date'][:10]}. "
        f"A ratio is how many times our time the rival needs; where rounds differed too much for "
        f"one number, the range in which it lies with 95 % probability.{goals}"
    )


def _rival_cell(record: Record, rival: str) -> str:
    if rival not in record["rivals"]:
        return ""
    if record["ratios"][rival] is None:
        return _ratio(record, rival)  # and no time, which somebody would believe
    return f"{duration(record['rivals'][rival]['median'])}, {_ratio(record, rival)}"


def _rivals_of(records: Sequence[Record]) -> Iterator[str]:
    yield from dict.fromkeys(n for record in records for n in record["rivals"] if not is_own(n))


def _markdown(heading: str, records: Sequence[Record]) -> str:
    rivals = list(_rivals_of(records))
    lines = [f"| {' | '.join([heading, 'fusednn', 'of the floor', *rivals])} |"]
    lines.append("|" + "---|" * (len(rivals) + 3))
    for record in records:
        percent = record["percent_of_floor"]
        cells = [
            record["name"],
            f"**{_time(record)}**",
            "" if percent is None else f"{percent:.0f} %",
        ]
        cells += [_rival_cell(record, rival) for rival in rivals]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_numbers(text: str, document: Document, shown: Mapping[str, str] | None = None) -> str:
    """Return a page with what stands between its marks made anew.

    Raises ValueError where the marks are not there exactly once, in this order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the page must have {BEGIN} and, after it, {END}, once each")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{readme(document, shown)}\n{END}{after}"
