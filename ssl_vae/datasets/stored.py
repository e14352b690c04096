"""Images that stay in their file: data sets may be larger than memory."""

import contextlib
import errno
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from ssl_vae.errors import InputError

LARGE = 1 << 30  # bytes: images above it are left in a file, or put into one
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StoredImages:
    """uint8 images one after the other in a file, read as they are asked for.

    Like an array [N, H, W, C] as far as `shape`, `size`, `len` and indexing by a slice,
    a mask or row numbers of any shape go, which give NumPy arrays.

    Attributes:
      path: The file.
      offset: Where in it the first image begins, bytes.
      shape_in_file: Of all images there.
      rows: Which of them these are, int [N].
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        path: Path,
        offset: int,
        shape: tuple[int, ...],
        rows: np.ndarray | None = None,
    ):
        """The images at a place of a file; all of them by default."""
        self.path, self.offset, self.shape_in_file = path, offset, shape
        self.rows = np.arange(shape[0]) if rows is None else rows

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return len(self.rows), *self.shape_in_file[1:]

    @property
    def size(self) -> int:
        """Number of values, and of bytes."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: np.ndarray, axis: int = 0) -> Self:
        """Some of the images, int [n], in that order; nothing is read."""
        if axis:
            raise ValueError(f"axis={axis}: images are rows, of axis 0")
        rows = self.rows[rows]
        return type(self)(self.path, self.offset, self.shape_in_file, rows)

    def __getitem__(self, which: Any) -> np.ndarray:
        """The images at a slice, a mask or numbers: uint8 [..., H, W, C]."""
        wanted, shape = np.asarray(self.rows[which]), self.shape_in_file[1:]
        images = np.empty((wanted.size, *shape), np.uint8)
        num_bytes = images[0].size if wanted.size else 0
        rows = wanted.reshape(-1)
        # One read for images that lie one behind the other.
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        with self.path.open("rb") as file:
            for begin, end in zip([0, *ends], [*ends, rows.size], strict=True):
                if begin < end:
                    at = self.offset + int(rows[begin]) * num_bytes
                    _read(file, images[begin:end], at)
        return images.reshape(*wanted.shape, *shape)


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


def as_array(images: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Images that come one by one, uint8 [H, W, C] each, as one array.

    Raises:
      ValueError: there are not as many as the shape says, (N, H, W, C).
    """
    array = np.empty(shape, np.uint8)
    for row, image in enumerate(_counted(images, shape[0])):
        array[row] = image
    return array


def gathered(
    images: Iterable[np.ndarray], shape: tuple[int, ...], path: Path
) -> np.ndarray | StoredImages:
    """The same; but if the array would be LARGE, they are written to a file.

    Args:
      images: uint8 [H, W, C] each.
      shape: (N, H, W, C).
      path: Of the file, which is there as a whole or not at all.

    Raises:
      InputError: the file cannot be written.
      ValueError: there are not N images.
    """
    if math.prod(shape) <= LARGE:
        return as_array(images, shape)
    try:
        with whole_file(path) as file:
            for image in _counted(images, shape[0]):
                file.write(np.ascontiguousarray(image).data)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise InputError(
            f"{path.parent}: no room for {math.prod(shape) / 1e9:.1f} GB of images"
            f" ({error.strerror}); make some, or set XDG_CACHE_HOME to another folder"
        ) from None
    return StoredImages(path, 0, shape)


def _counted(images: Iterable[np.ndarray], num: int) -> Iterator[np.ndarray]:
    """The images, after which there must have been so many."""
    count = 0
    for count, image in enumerate(images, 1):
        if count <= num:
            yield image
    if count != num:
        raise ValueError(f"{count} of {num} images")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to be written that is in its place when it is whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            yield file
            file.flush()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise
