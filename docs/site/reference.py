# SPDX-License-Identifier: Apache-2.0
"""The API reference: a page per public module, made of its docstrings."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

SOURCES = Path(__file__).parents[2] / "python"

# Page -> modules, or members of modules, on it.
PAGES = {
    "models": ("fusednn", "fusednn.Sequential", "fusednn.Model"),
    "layers": ("fusednn.layers",),
    "activations": ("fusednn.activations",),
    "initializers": ("fusednn.initializers",),
    "losses": ("fusednn.losses",),
    "metrics": ("fusednn.metrics",),
    "optimizers": ("fusednn.optimizers",),
    "schedules": ("fusednn.schedules",),
    "regularizers": ("fusednn.regularizers",),
    "constraints": ("fusednn.constraints",),
    "callbacks": ("fusednn.callbacks",),
    "data": ("fusednn.data",),
    "datasets": ("fusednn.datasets",),
    "importing": ("fusednn.importing",),
    "plotting": ("fusednn.plotting",),
    "sklearn": ("fusednn.sklearn",),
    "torch": ("fusednn.torch", "fusednn.torch.optim", "fusednn.torch.nn"),
    "optim": ("fusednn.optim",),
    "ops": ("fusednn.ops",),
    "device": ("fusednn.device",),
}
# What a directive says beside the name.
_OPTIONS = {
    "fusednn": 'filters: ["!^_", "!^(Model|Sequential)$"]',
    "fusednn.Model": "inherited_members: true",
    "fusednn.sklearn": "inherited_members: true",
}
_FOLDER = "api"


def on_config(config: Any, **_: Any) -> Any:
    """List the pages."""
    for section in config["nav"]:
        if section.get("API") == _FOLDER:
            section["API"] = [f"{_FOLDER}/{name}.md" for name in ("index", *PAGES)]
    return config


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Write the pages: a heading, and where mkdocstrings puts what it finds."""
    contents = {"index": _contents()}
    for name, modules in PAGES.items():
        title = name.capitalize() if name == "models" else modules[0]
        contents[name] = "\n\n".join([f"# {title}", *map(_directive, modules)])
    for name, text in contents.items():
        files.append(File.generated(config, f"{_FOLDER}/{name}.md", content=text))
    return files


def _directive(name: str) -> str:
    options = _OPTIONS.get(name)
    return f"::: {name}" + (f"\n    options:\n      {options}" if options else "")


def _contents() -> str:
    rows = ["# API reference", "", "Made of the docstrings; `help()` shows the same.", ""]
    rows += ["| module | about |", "|---|---|"]
    for name, modules in PAGES.items():
        for module in modules:
            if (path := _file(module)) is not None:
                about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
                rows.append(f"| [`{module}`]({name}.md#{module}) | {about.splitlines()[0]} |")
    return "\n".join(rows)


def _file(name: str) -> Path | None:
    """Return the source of a module, or None for what is not one."""
    path = SOURCES.joinpath(*name.split("."))
    found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return found if found.exists() else None
