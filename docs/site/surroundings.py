# SPDX-License-Identifier: Apache-2.0
"""What the site takes from outside docs/, and links that lead there.

Pages are read in the repository, too, so they link to its other files. Some of these become pages;
a link to any other is shown without the link, because the site does not say where sources are.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import reference
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]

# File of the repository -> page of the site.
_PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "bench/README.md": "benchmark.md",
    "csrc/README.md": "sources.md",
}
_INSTEAD = {"README.md": "index.md", "docs": "index.md", "bench/results": "numbers.md"}
_INSTEAD |= {
    f"python/{module.replace('.', '/')}{suffix}": f"api/{page}.md"
    for page, modules in reference.PAGES.items()
    for module in modules
    for suffix in ("", ".py")
}
_INSTEAD["python/fusednn"] = "api/index.md"
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"(^```.*?^```)", re.M | re.S)  # brackets there are no links


def on_config(config: Any, **_: Any) -> Any:
    """List the decisions, which are numbered and many."""
    decisions = sorted(p.name for p in (ROOT / "docs" / "decisions").glob("0*.md"))
    for section in config["nav"]:
        for pages in section.values():
            for entry in pages:
                if isinstance(entry, dict) and entry.get("Decisions") == "decisions":
                    entry["Decisions"] = [f"decisions/{name}" for name in decisions]
    return config


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Make pages of files that are not in docs/."""
    for source, page in _PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, files: Any, **_: Any) -> str:
    """Lead links that leave docs/ to pages of the site, or nowhere."""
    sources = {target: source for source, target in _PAGES.items()}
    here = posixpath.dirname(sources.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def led(match: re.Match[str]) -> str:
        text, link, anchor = match[1], match[2], match[3] or ""
        place = posixpath.normpath(posixpath.join(here, link))
        inside = place.removeprefix("docs/") if place.startswith("docs/") else None
        target = _PAGES.get(place) or _INSTEAD.get(place) or inside
        if target is not None and files.get_file_from_path(target) is not None:
            way = posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")
            return f"[{text}]({way}{anchor})"
        # What is nowhere is left for MkDocs to complain about.
        return text if (ROOT / place).exists() else match[0]

    parts = _CODE.split(markdown)
    parts[::2] = [_LINK.sub(led, part) for part in parts[::2]]
    return "".join(parts)
