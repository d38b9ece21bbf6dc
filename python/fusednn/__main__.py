# SPDX-License-Identifier: Apache-2.0
"""Makes ``python -m fusednn`` the command line; ``fusednn.cli`` holds its commands."""

from __future__ import annotations

import sys

from fusednn.cli import main

if __name__ == "__main__":
    sys.exit(main())
