# SPDX-License-Identifier: Apache-2.0
"""The command line, ``python -m fusednn``: one module for each command, imported when it is called.

A command's module has ``SUMMARY``, ``add_arguments(parser)`` and ``run(arguments)``, which returns
the exit code: 0 for success, 1 for a failure found, 2 for a call that cannot be carried out. A text
`EXAMPLES` is shown below its help.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from fusednn import __version__
from fusednn.data import ColumnNotFoundError
from fusednn.errors import nearest

COMMANDS = ("train", "predict", "export", "inspect", "data", "doctor", "demo", "bench")
INTERRUPTED = 130  # what a shell reports for Ctrl-C


class UsageError(Exception):
    """A command cannot be carried out as it was called; the message says why and what helps."""


class CommandError(Exception):
    """A command was called rightly and failed, such as on a damaged file; the message says why."""


def _command(name: str) -> ModuleType:
    return importlib.import_module(f"fusednn.cli.{name}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fusednn",
        description="fusednn trains neural networks as fast as the machine allows.",
    )
    parser.add_argument("--version", action="version", version=f"fusednn {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for name in COMMANDS:
        module = _command(name)
        module.add_arguments(
            commands.add_parser(
                name,
                help=module.SUMMARY,
                description=module.__doc__,
                epilog=getattr(module, "EXAMPLES", None),
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows ``python -m fusednn``; by default what this process was called with.

    Examples
    --------
    >>> from fusednn.cli import main
    >>> main(["doctor"])    # doctest: +SKIP
    0
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    if not given:
        parser.print_help(sys.stderr)
        return 2
    if not given[0].startswith("-") and given[0] not in COMMANDS:
        near = nearest(given[0], COMMANDS)
        hint = f"did you mean {near!r}? " if near else ""
        parser.error(f"unknown command {given[0]!r}; {hint}known: {', '.join(COMMANDS)}")
    parsed = parser.parse_args(given)
    try:
        code: int = _command(parsed.command).run(parsed)
        sys.stdout.flush()
        return code
    except (UsageError, ColumnNotFoundError) as error:
        parser.error(str(error))
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
