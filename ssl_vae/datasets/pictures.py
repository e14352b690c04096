"""PNG and JPEG files: found, checked by their headers, decoded."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ssl_vae.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")
_GRAY, _COLOR = ("1", "L"), ("P", "RGB", "RGBA")  # modes of Pillow


def find(paths: Iterable[Path]) -> list[Path]:
    """Files as given, and all images within folders, sorted; no hidden ones.

    Raises:
      InputError: naming a path that is not there, or a folder without images.
    """
    found = []
    for path in paths:
        within = [path] if path.is_file() else sorted(path.rglob("*"))
        images = [p for p in within if p == path or _is_image(p.relative_to(path))]
        if not images:
            what = "holds no PNG or JPEG file" if path.is_dir() else "does not exist"
            raise InputError(f"{path} {what}")
        found += images
    return found


def _is_image(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def check_fits(file: Path, shape: tuple[int, ...]) -> None:
    """Refuses an image file of another size, or a color image for a gray one.

    Only the header is read, so no file can unpack to more than is expected.

    Args:
      file: PNG or JPEG.
      shape: (H, W, C) that is expected; C is 1 for gray and 3 for color.

    Raises:
      InputError: naming the file, what it is and what it should be.
    """
    with _opened(file) as image:
        height, width, channels = shape
        color = image.mode in _COLOR
        if image.size != (width, height) or color > (channels == 3):
            raise InputError(
                f"{file}: {image.width} x {image.height} pixels"
                f" {'in color' if color else 'of gray'}; this classifier was trained on"
                f" {width} x {height} {'in color' if channels == 3 else 'of gray'}"
            )


def decode(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The pixels, uint8 [H, W, C]; gray is made color where that is expected.

    Raises:
      InputError: naming a file that does not fit, or is damaged.
    """
    check_fits(file, shape)
    with _opened(file) as image:
        try:
            pixels = image.convert("L" if shape[-1] == 1 else "RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{file}: damaged ({error})") from None
        return np.asarray(pixels, np.uint8).reshape(shape)


def _opened(file: Path) -> Image.Image:
    """The image, of which only the header has been read."""
    try:
        image = Image.open(file, formats=FORMATS)
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise InputError(f"{file}: not a PNG or JPEG image of a usual size") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    if image.mode not in _GRAY + _COLOR:
        image.close()
        raise InputError(
            f"{file}: pixels of the kind {image.mode}; save it with 8 bits, gray or RGB"
        )
    return image
