# SPDX-License-Identifier: Apache-2.0
"""Write a model for other programs: ONNX, one C99 file without dependencies, or safetensors.

What is written is the network. For a model that ``train`` wrote, the preparation of its inputs goes
to a JSON file beside it: which column becomes which input, and how.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import fusednn
from fusednn import data
from fusednn.cli import CommandError, UsageError
from fusednn.cli.reading import model_path

SUMMARY = "write a model as ONNX, C or safetensors"
EXAMPLES = """\
examples:
  python -m fusednn export adult-model adult.onnx
  python -m fusednn export adult-model adult.c        # and adult.inputs.json
"""
ENDINGS = (".onnx", ".c", ".safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``export``."""
    parser.add_argument("model", type=Path, help="file, or folder that train wrote")
    parser.add_argument("out", type=Path, help=f"file ending in {', '.join(ENDINGS)}")
    parser.add_argument("--quiet", action="store_true", help="print nothing")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Write the file; 0."""
    path, out = model_path(arguments.model), arguments.out
    if out.suffix not in ENDINGS:
        raise UsageError(f"{out}: the ending must be one of {', '.join(ENDINGS)}")
    written = [str(out)]
    try:
        model, preprocessor = _open(path)
        model.export(out)
        if preprocessor is not None:
            beside = out.with_suffix(".inputs.json")
            text = json.dumps(
                {"inputs": preprocessor.feature_names, **preprocessor.get_config()}, indent=2
            )
            beside.write_text(text + "\n", encoding="utf-8")
            written.append(str(beside))
    except (ValueError, TypeError, ImportError, OSError) as error:
        raise CommandError(str(error)) from None
    if arguments.json:
        print(json.dumps({"written": written}))
    elif not arguments.quiet:
        print(f"written: {', '.join(written)}")
    return 0


def _open(path: Path) -> tuple[fusednn.Model, data.Preprocessor | None]:
    """Return a network, and the preparation of its inputs if it was trained on a table."""
    if data.TableModel.is_in(path):
        model = data.TableModel.load(path)
        return model.model, model.preprocessor
    return fusednn.load(path), None
