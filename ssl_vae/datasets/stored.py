"""Images that stay in their file: data sets may be larger than memory."""

import contextlib
import copy
import errno
import logging
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from ssl_vae.datasets.turns import Turn
from ssl_vae.errors import InputError

LARGE = 1 << 30  # bytes: images above it are left in a file, or put into one

logger = logging.getLogger("ssl_vae")


class StoredImages:
    """uint8 images one after the other in a file, read as they are asked for.

    The file stays open: it may be removed, or another may take its place.

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
        self._file = _Opened(path)

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
        some = copy.copy(self)
        some.rows = self.rows[rows]
        return some

    def is_whole(self) -> bool:
        """Whether the file has what the shape says, and no more."""
        size = self.offset + math.prod(self.shape_in_file)
        return os.fstat(self._file.descriptor).st_size == size

    def renamed(self, path: Path) -> Self:
        """The same images, once their file has been given another name."""
        self.path.replace(path)
        same = copy.copy(self)
        same.path = path
        return same

    def __getitem__(self, which: Any) -> np.ndarray:
        """The images at a slice, a mask or numbers: uint8 [..., H, W, C]."""
        wanted, shape = np.asarray(self.rows[which]), self.shape_in_file[1:]
        images = np.empty((wanted.size, *shape), np.uint8)
        num_bytes = images[0].size if wanted.size else 0
        rows = wanted.reshape(-1)
        # One read for images that lie one behind the other.
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        for begin, end in zip([0, *ends], [*ends, rows.size], strict=True):
            if begin < end:
                at = self.offset + int(rows[begin]) * num_bytes
                self._fill(images[begin:end], at)
        return images.reshape(*wanted.shape, *shape)

    def _fill(self, images: np.ndarray, at: int) -> None:
        """Fills an array with the bytes from a place on; any thread may."""
        view = memoryview(images.data).cast("B")
        while len(view):
            count = os.preadv(self._file.descriptor, [view], at)
            if not count:
                reason = "it ends too soon or has become shorter while it was read"
                raise OSError(errno.EIO, reason, str(self.path))
            view, at = view[count:], at + count


class _Opened:
    """A file that is open for as long as this object lives."""

    def __init__(self, path: Path):
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # it could not be opened
            os.close(self.descriptor)


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
      path: Of the file, which is there as a whole or not at all. If another process is
        about to write it, this one waits and then writes none; on a file system without
        locks both write one, and the last stays.

    Raises:
      InputError: the file cannot be written.
      ValueError: there are not N images.
    """
    size = math.prod(shape)
    if size <= LARGE:
        return as_array(images, shape)
    logger.info("data: %.1f GB of images are decoded into %s", size / 1e9, path)
    with _told(path.parent, size):
        turn = Turn(path.with_suffix(".partial"))
    with turn:
        there = _whole(path, shape)
        if there is None:
            return _written(images, shape, turn.folder, path)
    for _ in _counted(images, shape[0]):
        pass  # whoever gives the images has more to learn from them
    return there


def _whole(path: Path, shape: tuple[int, ...]) -> StoredImages | None:
    """The images of a file that has all of them and nothing else."""
    try:
        images = StoredImages(path, 0, shape)
    except FileNotFoundError:
        return None
    return images if images.is_whole() else None


def _written(
    images: Iterable[np.ndarray], shape: tuple[int, ...], folder: Path, path: Path
) -> StoredImages:
    """The images in a file that has a name of its own until it is whole."""
    told = partial(_told, path.parent, math.prod(shape))
    with told():
        descriptor, name = tempfile.mkstemp(dir=folder)
        file = os.fdopen(descriptor, "wb")
    try:
        for image in _counted(images, shape[0]):
            with told():
                file.write(np.ascontiguousarray(image).data)
        with told():
            file.close()
            # Opened before the rename: afterwards anybody may remove it.
            if (written := _whole(Path(name), shape)) is None:
                raise OSError(errno.EIO, "what was written is not there")
            return written.renamed(path)
    except BaseException:
        with contextlib.suppress(OSError):  # a full disk is told already
            file.close()
        Path(name).unlink(missing_ok=True)
        raise


def _counted(images: Iterable[np.ndarray], num: int) -> Iterator[np.ndarray]:
    """The images, after which there must have been so many."""
    count = 0
    for count, image in enumerate(images, 1):
        if count <= num:
            yield image
    if count != num:
        raise ValueError(f"{count} of {num} images")


@contextlib.contextmanager
def _told(folder: Path, size: int) -> Iterator[None]:
    """What keeps a file from being written there, as a line for the user."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: {size / 1e9:.1f} GB of images cannot be kept there"
            f" ({error.strerror}); make room, or set XDG_CACHE_HOME to another folder"
        ) from None
