# SPDX-License-Identifier: Apache-2.0
"""Several documents of one machine made into one, so that it can be measured suite by suite."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from fusednn.bench import ceilings
from fusednn.bench.suites import SUITES

Document = dict[str, Any]

# What must be the same: numbers of different processors, or of different code, are no one result.
ALIKE = ("cpu", "isa", "threads", "processors", "compiler")


def _require_alike(documents: Sequence[Document]) -> None:
    first = documents[0]["machine"]
    for document in documents[1:]:
        other = document["machine"]
        for name in ALIKE:
            if other[name] != first[name]:
                raise ValueError(f"{name} is {first[name]!r} in one and {other[name]!r} in another")
        for package, version in other["versions"].items():
            if first["versions"].get(package, version) != version:
                raise ValueError(
                    f"{package} is {first['versions'][package]} in one and {version} in another"
                )
    if len({document["quick"] for document in documents}) > 1:
        raise ValueError("some are of quick runs")


def merged(documents: Sequence[Document]) -> Document:
    """Return one document with the cases of all.

    A case that was measured more than once counts as in the youngest document. A ceiling is the
    highest that was seen, and the machine was as busy as it ever was; floors and shares of them
    stay as they were in their own run.

    Raises ValueError where the documents are not of the same machine and the same versions.
    """
    if not documents:
        raise ValueError("no documents were given")
    ordered = sorted(documents, key=lambda document: str(document["date"]))
    _require_alike(ordered)
    result = copy.deepcopy(ordered[-1])
    about = result["machine"]
    for document in ordered:
        about["rivals"] = {**document["machine"]["rivals"], **about["rivals"]}
    result["ceilings"] = ceilings.highest([document["ceilings"] for document in ordered])
    cases = {(case["suite"], case["name"]): case for each in ordered for case in each["cases"]}
    result["cases"] = sorted(
        copy.deepcopy(list(cases.values())), key=lambda case: SUITES.index(case["suite"])
    )
    return result
