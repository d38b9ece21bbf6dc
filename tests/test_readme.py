# SPDX-License-Identifier: Apache-2.0
"""The README keeps its word: its Python runs, its commands and its links exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import documents
from fusednn import cli

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"
README = PAGE.read_text(encoding="utf-8")


def test_python_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    if importlib.util.find_spec("sklearn") is None:
        pytest.skip("the digits come with scikit-learn")
    monkeypatch.chdir(tmp_path)
    names = documents.run(PAGE)
    assert names["accuracy"] > 0.95
    assert names["value"] < 0.9
    assert (tmp_path / "digits.safetensors").exists()


def test_commands_exist():
    named = set(re.findall(r"python -m fusednn (\w+)", README))
    assert named == set(cli.COMMANDS)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    commands = [shlex.split(line, comments=True) for block in documents.blocks(PAGE, "sh")
                for line in block.source.splitlines()]  # fmt: skip
    named = {words[1] for words in commands if words and words[0] == "make"}
    named |= set(re.findall(r"`make (\w+)`", README))
    assert named
    assert named <= targets


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    # Results are not part of the source archive.
    if not (ROOT / "bench" / "results").is_dir():
        links = [link for link in links if not link.startswith("bench/results/")]
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing
