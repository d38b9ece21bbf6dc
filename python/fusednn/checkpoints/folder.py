# SPDX-License-Identifier: Apache-2.0
"""The files of one training."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusednn import safetensors, saving
from fusednn.safetensors import Tensors

_NAME = re.compile(r"(?:checkpoint-(\d{10,})|best)\.safetensors(\.\d+\.[0-9a-f]{8}\.tmp)?")


class Folder:
    """Checkpoints by the number of training steps before them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unreadable: set[int] = set()
        self._lock: Any = None

    def file(self, number: int) -> Path:
        """Return where a checkpoint is."""
        return self.path / f"checkpoint-{number:010d}.safetensors"

    def numbers(self) -> list[int]:
        """Return the numbers of those that are there, the oldest first."""
        return sorted(int(match[1]) for match in self._matches() if match[1] and not match[2])

    def _matches(self) -> list[re.Match[str]]:
        names = os.listdir(self.path) if self.path.is_dir() else []
        return [match for match in map(_NAME.fullmatch, names) if match]

    # ---- one process at a time -------------------------------------------------------------------

    def lock(self) -> None:
        """Keep other processes from training into the folder as long as this one lives."""
        try:
            import fcntl
        except ImportError:  # not a POSIX system
            return
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.path / "lock", "w")  # noqa: SIM115
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self.unlock()
            raise RuntimeError(
                f"resume: another process trains into {self.path} at this moment"
            ) from None

    def unlock(self) -> None:
        """Let others."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # ---- reading ---------------------------------------------------------------------------------

    def newest(self) -> tuple[int, Tensors, dict[str, str]] | None:
        """Return the newest checkpoint that can be read, or None where there is none at all.

        ValueError where there are some and not one of them can be read.
        """
        complaints = []
        for number in reversed(self.numbers()):
            try:
                tensors, metadata = safetensors.read(self.file(number))
                saving.check_format(metadata)
                saving.json_of(metadata, "checkpoint")
            except (OSError, ValueError) as error:
                text = str(error)
                name = str(self.file(number))
                complaints.append(text if name in text else f"{name}: {text}")
                self._unreadable.add(number)
                continue
            for complaint in complaints:
                warnings.warn(
                    f"{complaint}; training goes on from {self.file(number).name}", stacklevel=2
                )
            return number, tensors, metadata
        if complaints:
            raise ValueError(
                f"no checkpoint in {self.path} can be read ({'; '.join(complaints)}); remove them "
                "if the training is to begin anew"
            )
        return None

    # ---- writing ---------------------------------------------------------------------------------

    def write(self, number: int, tensors: Tensors, metadata: Mapping[str, str]) -> None:
        """Write a checkpoint: it is there as a whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        safetensors.write(self.file(number), tensors, metadata)
        self._unreadable.discard(number)

    def copy(self, number: int, to: Path) -> None:
        """Let a checkpoint be found by a second name that stays when it is removed."""
        if to.exists() and os.path.samefile(self.file(number), to):
            return
        temporary = self.path / f"{self.file(number).name}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
        try:
            os.link(self.file(number), temporary)
        except OSError:  # not every file system has links
            safetensors.replace_file(to, [self.file(number).read_bytes()])
        else:
            os.replace(temporary, to)
            safetensors.sync_folder(self.path)

    def rotate(self, keep: int) -> None:
        """Remove all but the latest, and what was being written when a process died."""
        readable = [number for number in self.numbers() if number not in self._unreadable]
        for number in readable[:-keep]:
            self.file(number).unlink(missing_ok=True)
        self.sweep()

    def sweep(self) -> None:
        """Remove what was being written when a process died."""
        for match in self._matches():
            if match[2]:
                (self.path / match[0]).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all checkpoints."""
        for number in self.numbers():
            self.file(number).unlink(missing_ok=True)
        self.sweep()
        with contextlib.suppress(FileNotFoundError):
            (self.path / "lock").unlink()
