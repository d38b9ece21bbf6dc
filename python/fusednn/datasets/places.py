# SPDX-License-Identifier: Apache-2.0
"""Where packages that carry data are: installed, or as wheels in a folder. Never on a network."""

from __future__ import annotations

import importlib.util
import os
import zipfile
import zlib
from pathlib import Path

from fusednn.datasets.base import DatasetNotFoundError

FOLDER_VARIABLE = "FUSEDNN_DATASETS"
SYSTEM_FOLDER = Path("/usr/share/datasets")
MOST_BYTES = 1 << 28  # of one file in a wheel, unpacked


def chosen_folders() -> list[Path]:
    """Return the folder that the variable FUSEDNN_DATASETS names, if it names one."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return [Path(chosen)] if chosen else []


def package_folder(package: str) -> Path | None:
    """Return the folder of an installed package, without importing it."""
    found = importlib.util.find_spec(package)
    return Path(found.origin).parent if found and found.origin else None


def wheel(package: str) -> Path | None:
    """Return the newest wheel of a package in the chosen or the current folder."""
    for folder in [*chosen_folders(), Path.cwd()]:
        wheels = sorted(folder.glob(f"{package}-*.whl"))
        if wheels:
            return wheels[-1]
    return None


def locate(package: str, inside: str) -> str | None:
    """Return the file, or the wheel, that holds what lies at a place inside of a package."""
    folder = package_folder(package)
    if folder is not None and (folder / inside).is_file():
        return str(folder / inside)
    found = wheel(package)
    return None if found is None else str(found)


def read(package: str, inside: str, title: str, help: str) -> bytes:
    """Return the bytes of a file of a package.

    Raises
    ------
    DatasetNotFoundError
        If the package is neither installed nor there as a wheel.
    ValueError
        If a wheel is damaged, or is another one than expected.
    """
    place = locate(package, inside)
    if place is None:
        folders = " or ".join(map(str, [*chosen_folders(), Path.cwd()]))
        raise DatasetNotFoundError(
            f"{title} comes with the package {package.replace('_', '-')}, which is neither "
            f"installed nor in {folders} as a wheel; {help}"
        )
    if not place.endswith(".whl"):
        return Path(place).read_bytes()
    member = f"{package}/{inside}"
    try:
        with zipfile.ZipFile(place) as archive:
            size = archive.getinfo(member).file_size
            if size > MOST_BYTES:
                raise ValueError(f"{place}: {member} would have {size} bytes unpacked")
            with archive.open(member) as file:
                content = file.read(MOST_BYTES + 1)  # the size may be a lie
    except KeyError:
        raise ValueError(f"{place} has no {member}; it is of another version") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(f"{place} is damaged: {error}") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"{place}: {member} has more than {MOST_BYTES} bytes unpacked")
    return content
