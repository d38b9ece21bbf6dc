# SPDX-License-Identifier: Apache-2.0
"""Measure the CUDA backend beside PyTorch on the same device; ``bench/device.sh`` runs it.

The harness is that of ``python -m fusednn bench``: answers are checked first, candidates take
turns, and every turn ends with a wait for the device. The document has the same form, with the
device in the place of the processor: ``isa`` is its compute capability, there is one thread, and
the ceilings are those of its memory and its matrix units, measured first, through PyTorch. Cases
are written to the file as they are measured, the most wanted first, until the time is over.

``predictions.json`` has the microseconds that were predicted for an H200 before anything ran on
one; every case is printed with what came of its prediction. ``--products`` times the ways of a
matrix product instead (``on_device/products.py``).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from on_device import bits, fits, narrow, operations, optimizers, products, steps
from on_device.place import Place, begin

import fusednn.device
from fusednn import _core
from fusednn.bench import ceilings, goals, harness, report, session
from fusednn.bench.harness import Case

EFFORT = harness.Effort(rounds=9, seconds=1.5, fewest=5, turn=0.01, warm=0.01, patience=0.0)
PREDICTIONS = Path(__file__).with_name("predictions.json")


def _cases(place: Place) -> Iterator[Case]:
    """Return all cases, the most wanted first."""
    yield from steps.cases(place, ("float32",))
    yield from optimizers.cases(place, optimizers.RULES[:1])
    yield from optimizers.cases_of_one_pass(place)
    yield from operations.cases(place)
    yield from narrow.cases(place)
    yield from steps.cases(place, ("bfloat16",))
    yield from fits.cases(place)
    yield from optimizers.cases(place, optimizers.RULES[1:])


def _measured(place: Place, document: session.Document, case: Case) -> dict[str, Any]:
    isa = document["machine"]["isa"]
    cost = ceilings.Cost(case.flops, case.bytes, case.dtype, 1, isa)
    effort = EFFORT if place.real else harness.QUICK
    record = harness.measure(case, lambda _: True, ceilings.floor(cost, document), effort)
    record.update(threads=1, isa=isa, date=session._now())
    record["goals"] = goals.judged(case.goals, record, document["ceilings"])
    return record


def _beside(predictions: dict[str, float], record: dict[str, Any]) -> str:
    """Return how a measured time compares with the predicted one, in words."""
    name = f"{record['suite']}: {record['name']}"
    if name not in predictions:
        return "; nothing was predicted"
    predicted = predictions[name]
    if record["ours"] is None:
        return ""
    share = record["ours"]["median"] / predicted
    return f"; {share:.2f} of the predicted {report.duration(predicted)}"


def main() -> int:
    """Measure until the time is over; 0 when every answer was right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=240.0, help="begin no case after these")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains this")
    parser.add_argument("--products", action="store_true", help="the ways of a product instead")
    arguments = parser.parse_args()
    start = time.monotonic()
    device = fusednn.device.check_device("cuda")
    about = fusednn.device.cuda_device()
    place = Place("cpu" if about and about["emulated"] else "cuda")
    fusednn.device.automatic = lambda: device
    if not place.real:
        _core.set_array_device(device)  # arrays of the host go there and come back
    if arguments.products:
        lines = products.measure(place, arguments.seconds)
        arguments.json.write_text(json.dumps(lines, indent=1))
        print(products.report(lines))
        return 0
    document = begin(place)
    memory = ", ".join(f"{k} {v['1']:.0f}" for k, v in document["ceilings"]["memory"].items())
    rates = document["ceilings"]["fma"][document["machine"]["isa"]]
    print(f"{document['machine']['cpu']}, {document['machine']['compiler']}")
    peaks = ", ".join(f"{name} {rate['1'] / 1e3:.1f}" for name, rate in rates.items())
    print(f"GB/s: {memory}; TFLOP/s: {peaks}")
    left_out, failed = [], False
    for name, equal in bits.check(place).items():
        print(f"the same bits twice: {name}: {'yes' if equal else 'NO'}")
        failed = failed or not equal
    predictions = json.loads(PREDICTIONS.read_text())
    for case in _cases(place):
        if arguments.only not in f"{case.suite}: {case.name}":
            continue
        if time.monotonic() - start > arguments.seconds:
            left_out.append(f"{case.suite}: {case.name}")
            continue
        try:
            record = _measured(place, document, case)
        except Exception as error:  # the others are still worth measuring
            print(f"{case.suite}: {case.name}: FAILED: {type(error).__name__}: {error}", flush=True)
            failed = True
            continue
        document["cases"].append(record)
        failed = failed or not record["checked"]
        beside = _beside(predictions, record) if place.real else ""
        print(report.verdict(record) + beside, flush=True)
        session.save(document, arguments.json)
        if place.real:
            torch.cuda.empty_cache()
    document["machine"]["load_end"] = os.getloadavg()[0]
    session.save(document, arguments.json)
    for name in left_out:
        print(f"not measured, for lack of time: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
