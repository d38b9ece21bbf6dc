# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 and CIFAR-100 in their binary version: no pickle, nothing executed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fusednn.datasets.base import Dataset, DatasetNotFoundError

PIXELS = 3 * 32 * 32  # red, green, blue, each row by row
LABEL_BYTES = {10: 1, 100: 2}  # CIFAR-100 has a coarse label before the fine one
CIFAR_10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer",
    "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR_10_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
CIFAR_10_TEST = "test_batch.bin"


def read_cifar(path: str | os.PathLike[str], classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Read one file of the binary version of CIFAR-10 or CIFAR-100.

    Parameters
    ----------
    path : path
        Such as ``data_batch_1.bin`` or, for CIFAR-100, ``train.bin``.
    classes : {10, 100}

    Returns
    -------
    images : ndarray of uint8, shape (samples, 32, 32, 3)
        The colours last.
    labels : ndarray of int64, shape (samples,)
        For CIFAR-100 the fine ones.

    Raises
    ------
    ValueError
        If the file is empty, does not consist of whole records, or has other labels.

    Examples
    --------
    >>> import pathlib, tempfile, fusednn
    >>> file = pathlib.Path(tempfile.mkdtemp(), "data_batch_1.bin")
    >>> _ = file.write_bytes(bytes([7]) + bytes(3072))
    >>> images, labels = fusednn.datasets.read_cifar(file)
    >>> images.shape, labels
    ((1, 32, 32, 3), array([7]))
    """
    if classes not in LABEL_BYTES:
        raise ValueError(f"classes must be 10 or 100, got {classes!r}")
    before = LABEL_BYTES[classes]
    record = before + PIXELS
    size = os.path.getsize(path)
    if size == 0 or size % record:
        other = next(n for n in LABEL_BYTES if n != classes)
        hint = ""
        if size and size % (LABEL_BYTES[other] + PIXELS) == 0:
            hint = f"; it looks like CIFAR-{other}: classes={other}"
        raise ValueError(
            f"{path} has {size} bytes, which are not whole records of {record} bytes{hint}"
        )
    records = np.fromfile(path, dtype=np.uint8).reshape(-1, record)
    labels = records[:, before - 1].astype(np.int64)
    if labels.max() >= classes:
        row = int((labels >= classes).argmax())
        raise ValueError(f"{path}: label {labels[row]} in record {row + 1} is not below {classes}")
    images = records[:, before:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels


def load_cifar10(path: str | os.PathLike[str]) -> Dataset:
    """Load CIFAR-10 from the folder of its binary version, ``cifar-10-batches-bin``.

    No package carries it; it has to be there already.

    Parameters
    ----------
    path : path
        Folder with ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``.

    Returns
    -------
    Dataset
        50000 training and 10000 test samples of shape (32, 32, 3); 10 classes.

    Raises
    ------
    DatasetNotFoundError
        If a file is not there.
    ValueError
        If a file is damaged.
    """
    folder = Path(path)
    missing = [n for n in (*CIFAR_10_TRAIN, CIFAR_10_TEST) if not (folder / n).is_file()]
    if missing:
        raise DatasetNotFoundError(
            f"CIFAR-10 is not in {folder}: {missing[0]} is missing; unpack its binary version, "
            "cifar-10-binary.tar.gz, and pass the folder"
        )
    parts = [read_cifar(folder / name) for name in (*CIFAR_10_TRAIN, CIFAR_10_TEST)]
    (x_test, y_test), train = parts[-1], parts[:-1]
    return Dataset(
        name="cifar-10",
        x_train=np.concatenate([images for images, _ in train]).astype(np.float32) / 255,
        y_train=np.concatenate([labels for _, labels in train]),
        x_test=x_test.astype(np.float32) / 255,
        y_test=y_test,
        classes=CIFAR_10_CLASSES,
    )
