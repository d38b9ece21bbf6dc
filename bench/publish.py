# SPDX-License-Identifier: Apache-2.0
"""Make the README's table and the pictures of a committed result.

    python bench/publish.py bench/results/0.1.0-amd-epyc.json

writes the table between the marks in README.md anew and draws the picture beside the JSON, with the
same name. It needs fusednn, and matplotlib for the picture.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fusednn.bench import report, schema

README = Path(__file__).parents[1] / "README.md"


def main(path: Path) -> int:
    """Publish one result; 1 if it does not fit the schema."""
    document = json.loads(path.read_text())
    found = schema.problems(document)
    if found:
        print("\n".join(found), file=sys.stderr)
        return 1
    README.write_text(report.with_numbers(README.read_text(), document))
    print(README)
    try:
        from fusednn.bench import plot
    except ImportError:
        print("no picture: pip install matplotlib", file=sys.stderr)
        return 0
    picture = path.with_suffix(".png")
    plot.draw(document, picture)
    print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
