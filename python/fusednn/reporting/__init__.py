# SPDX-License-Identifier: Apache-2.0
"""Reports as single HTML files, with charts drawn as SVG: nothing to install, nothing to load."""

from __future__ import annotations

from fusednn.reporting import charts as charts
from fusednn.reporting.page import Page as Page

__all__ = ["Page", "charts"]
