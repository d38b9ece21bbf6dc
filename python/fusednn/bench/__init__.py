# SPDX-License-Identifier: Apache-2.0
"""The benchmark behind ``python -m fusednn bench``.

A suite describes cases; the harness checks every answer, times ours and the rivals' in turns, and
refuses to conclude from noise; the report is made of the document that it leaves behind. Nothing
here is imported by ``import fusednn``.
"""
