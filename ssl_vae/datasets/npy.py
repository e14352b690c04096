"""What an array in an archive says of itself in front of its content."""

import io
import struct
import zipfile
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as numpy_format

from ssl_vae.errors import InputError

_MAX_LENGTH = 10_000  # bytes; NumPy's own limit


class Header(NamedTuple):
    """What is said, and how many bytes that takes, after which the content begins."""

    shape: tuple[int, ...]
    in_columns: bool
    dtype: np.dtype
    num_bytes: int

    @property
    def of_bytes(self) -> bool:
        """Whether the content is row after row of uint8."""
        return self.dtype == np.uint8 and not self.in_columns


def header(archive: zipfile.ZipFile, member: zipfile.ZipInfo, what: str) -> Header:
    """The header of an array; what comes after it stays packed.

    Args:
      archive: an open archive.
      member: the array's file in it.
      what: the archive and the array, for the message.

    Raises:
      InputError: the header is too long. NumPy would have read all of it by then.
      Exception: it is damaged, in too many ways to list.
    """
    with archive.open(member) as stream:
        start = io.BytesIO(stream.read(_MAX_LENGTH + 12))
    first = numpy_format.read_magic(start) == (1, 0)
    (length,) = struct.unpack_from("<H" if first else "<I", start.read(4))
    if length > _MAX_LENGTH:
        raise InputError(
            f"{what} has a header of {length} bytes, more than the limit of "
            f"{_MAX_LENGTH}: write it again"
        )
    read: Any = (
        numpy_format.read_array_header_1_0
        if first
        else numpy_format.read_array_header_2_0
    )
    start.seek(numpy_format.MAGIC_LEN)
    shape, in_columns, dtype = read(start, max_header_size=_MAX_LENGTH)
    return Header(shape, in_columns, dtype, start.tell())
