# SPDX-License-Identifier: Apache-2.0
"""What the command ``train`` does between reading a table and writing a report."""
