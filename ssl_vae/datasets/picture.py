"""One PNG or JPEG file: its size before it is unpacked, and its pixels."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ssl_vae.errors import InputError, in_a_line

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 64_000_000  # of one file; a camera's have up to 50 million
FORMATS = ("PNG", "JPEG")  # Pillow knows others, and starts Ghostscript for one
_PIXELS_AT_ONCE = 2 * MAX_PIXELS  # of the files being unpacked: up to a gigabyte
_GRAY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")
_ORIENTATION = 0x0112  # Exif's tag; from 5 on, width and height change places


class Header(NamedTuple):
    """What a file says of its image.

    Attributes:
      size: Width and height in pixels, upright.
      color: Whether it has color.
      transparent: Whether parts of it may be seen through.
    """

    size: tuple[int, int]
    color: bool
    transparent: bool

    @property
    def num_pixels(self) -> int:
        """How many there are."""
        return self.size[0] * self.size[1]


def header(path: Path) -> Header:
    """The header of a file, whose image stays packed.

    Raises:
      InputError: the file is no PNG or JPEG image, or a larger one than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings():
            # Our own limit is lower than the one that Pillow warns of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                size, mode = image.size, image.mode
                transparent = image.has_transparency_data
                # A PNG file is unpacked to look for Exif, and hardly ever has it.
                exif = {} if image.format == "PNG" else image.getexif()
                turned = exif.get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large: {error}") from error
    except Exception as error:  # a damaged file fails in too many ways to list
        raise _unreadable(path, error) from error
    upright = (size[1], size[0]) if turned else size
    found = Header(upright, mode not in _GRAY, transparent)
    if found.num_pixels > MAX_PIXELS:
        raise InputError(
            f"{path} is too large: {size[0]}x{size[1]} pixels, and the limit is "
            f"{MAX_PIXELS // 1_000_000} million"
        )
    return found


def read_all(
    paths: Sequence[Path], size: tuple[int, int], *, color: bool, largest: int
) -> Iterator[np.ndarray]:
    """The pixels of files, uint8 [height, width, 3 or 1] each, in their order.

    Args:
      paths: files whose headers have been checked.
      size: see `read`.
      color: see `read`.
      largest: how many pixels the largest of the files has, before it is made smaller.

    Raises:
      InputError: naming the file that cannot be read.
    """
    at_once = max(1, min(_num_cores(), _PIXELS_AT_ONCE // largest))
    with ThreadPoolExecutor(at_once) as pool:  # Pillow unpacks without the GIL
        for part in _parts(paths):
            yield from pool.map(lambda path: read(path, size, color=color), part)


def read(path: Path, size: tuple[int, int], *, color: bool) -> np.ndarray:
    """The pixels of a file at a size of (width, height), uint8 [height, width, C].

    Args:
      path: a file whose header has been checked.
      size: width and height.
      color: whether there are three channels or one.

    Raises:
      InputError: the file is damaged.
    """
    try:
        with Image.open(path, formats=FORMATS) as opened:
            # A large JPEG is unpacked at a fraction of its size, twice this or more.
            opened.draft(None, (2 * max(size), 2 * max(size)))
            image = _eight_bits(opened)
            if opened.format != "PNG":
                image = ImageOps.exif_transpose(image)
            if image.has_transparency_data:
                image = _on_white(image)
            image = image.convert("RGB" if color else "L")
            if image.size != size:
                image = image.resize(size, Image.Resampling.LANCZOS)
            return np.asarray(image).reshape(size[1], size[0], -1)
    except Exception as error:  # as above
        raise _unreadable(path, error) from error


def _num_cores() -> int:
    """Those that this process may use; not every system can say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _parts(paths: Sequence[Path], length: int = 256) -> Iterable[Sequence[Path]]:
    """A few files at a time: a map over all would hold all pixels twice."""
    return (paths[i : i + length] for i in range(0, len(paths), length))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray of 16 bits as gray of 8, which Pillow would cut off at 255."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    whole = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole)


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = "not such an image"
    if not isinstance(error, Image.UnidentifiedImageError):
        reason = in_a_line(error)
    return InputError(
        f"{path} cannot be read as PNG or JPEG ({reason}): replace or remove it"
    )
