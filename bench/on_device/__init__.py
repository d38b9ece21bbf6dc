# SPDX-License-Identifier: Apache-2.0
"""The cases of ``bench/device.py``, by subject."""
