"""Images that stay in their file: data sets may be larger than memory."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

import numpy as np


class StoredImages:
    """uint8 images one after the other in a file, read as they are asked for.

    Like an array [N, H, W, C] as far as `shape`, `size`, `len` and indexing by a slice,
    a mask or row numbers of any shape go, which give NumPy arrays.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        path: Path,
        offset: int,
        shape: tuple[int, ...],
        rows: np.ndarray | None = None,
    ):
        """The images at a place of a file.

        Args:
          path: The file.
          offset: Where in it the first image begins, bytes.
          shape: Of all images in the file.
          rows: Which of them these are, int [N]; all of them by default.
        """
        self._path, self._offset, self._shape = path, offset, shape
        self._rows = np.arange(shape[0]) if rows is None else rows

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return len(self._rows), *self._shape[1:]

    @property
    def size(self) -> int:
        """Number of values, and of bytes."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: np.ndarray, axis: int = 0) -> Self:
        """Some of the images, int [n], in that order; nothing is read."""
        if axis:
            raise ValueError(f"axis={axis}: images are rows, of axis 0")
        return type(self)(self._path, self._offset, self._shape, self._rows[rows])

    def __getitem__(self, which: Any) -> np.ndarray:
        """The images at a slice, a mask or numbers: uint8 [..., H, W, C]."""
        wanted = np.asarray(self._rows[which])
        images = np.empty((wanted.size, *self._shape[1:]), np.uint8)
        num_bytes = images[0].size if wanted.size else 0
        rows = wanted.reshape(-1)
        # One read for images that lie one behind the other.
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        with self._path.open("rb") as file:
            for begin, end in zip([0, *ends], [*ends, rows.size], strict=True):
                if begin < end:
                    at = self._offset + int(rows[begin]) * num_bytes
                    _read(file, images[begin:end], at)
        return images.reshape(*wanted.shape, *self._shape[1:])


def _read(file: IO[bytes], images: np.ndarray, at: int) -> None:
    view = memoryview(images.data).cast("B")
    while len(view):
        count = os.preadv(file.fileno(), [view], at)
        if not count:
            raise OSError(f"{file.name} has become shorter while it was read")
        view, at = view[count:], at + count


def in_parts(
    images: np.ndarray | StoredImages, num: int = 1 << 14
) -> Iterator[np.ndarray]:
    """The images in order, uint8 [n, H, W, C] with n up to `num`."""
    for begin in range(0, len(images), num):
        yield images[begin : begin + num]
