"""Reader of a folder of one's own images: a subfolder a class.

    DIR/<class>/*.png     labeled images, PNG or JPEG, one subfolder a class
    DIR/unlabeled/*.png   the others, if there are any
    DIR/test/<class>/     images to measure on, if there are any

Images of differing size are all given the most common one, or the median where hardly
two are alike, and none is left with a side of more than LARGEST_SIDE pixels: the
networks are fully connected. Where one image has color, all have. Each of these is told
in a note.
"""

import logging
import math
import os
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_vae.datasets import picture
from ssl_vae.datasets.dataset import MAX_BYTES, Dataset, assemble, check_labels
from ssl_vae.datasets.picture import Header
from ssl_vae.datasets.stored import as_array, gathered
from ssl_vae.errors import InputError

logger = logging.getLogger("ssl_vae")

LARGEST_SIDE = 64
DIM = 16  # what 12 bits in a file of 16, or 0 and 1 in one of 8, stay below
_MANY = 5_000  # images that are not read within a few seconds
_UNLABELED = ("unlabeled", "unlabelled")
_TEST = "test"
_LAYOUT = (
    "wanted: DIR/<class>/*.png or *.jpg with a subfolder a class, DIR/unlabeled/ for "
    "images without a label, and DIR/test/<class>/ to measure on"
)


class Listing(NamedTuple):
    """The images of a folder, by name, and how much was passed over.

    Attributes:
      root: The folder.
      train: Paths of the training images.
      labels: Name of the class of each, "" for none.
      test: Paths of the test images.
      test_labels: Name of the class of each.
      skipped: How many files are hidden or of another kind.
    """

    root: Path
    train: list[Path]
    labels: list[str]
    test: list[Path]
    test_labels: list[str]
    skipped: int


def find(root: Path) -> Listing:
    """What a folder holds, after checking its layout; no image is opened.

    Raises:
      InputError: the layout is another one.
    """
    folders, images, skipped = _content(root)
    if images and not folders:
        raise InputError(
            f"{root} has {len(images)} images and no subfolder that says their class; "
            f"{_LAYOUT}"
        )
    listing = Listing(root, [], [], [], [], skipped + len(images))
    for folder in folders:
        kind = folder.name.lower()
        if kind == _TEST:
            listing = _add_test(listing, folder)
        else:
            label = "" if kind in _UNLABELED else _as_text(folder.name)
            paths, count = _images_of(folder)
            listing.train.extend(paths)
            listing.labels.extend([label] * len(paths))
            listing = listing._replace(skipped=listing.skipped + count)
    classes = {label for label in listing.labels if label}
    if len(classes) < 2:
        there = f"one class, {min(classes)!r}," if classes else "no class"
        raise InputError(f"{root} has {there} and a classifier needs two; {_LAYOUT}")
    return listing


def read(listing: Listing, file: Path) -> Dataset:
    """The images of a folder, of one size and kind.

    Args:
      listing: What the folder holds.
      file: Where the training images go if they are too large for memory.

    Raises:
      InputError: naming a file that is damaged or too large.
    """
    paths = listing.train + listing.test
    if len(paths) > _MANY:
        logger.info("data: reading %d images in %s", len(paths), listing.root)
    headers = [picture.header(path) for path in paths]
    size, color = common_size(headers), any(each.color for each in headers)
    shape = size[1], size[0], 3 if color else 1
    if len(listing.test) * math.prod(shape) > MAX_BYTES:
        raise InputError(
            f"{listing.root / _TEST}: {len(listing.test)} images of "
            f"{size[0]}x{size[1]} pixels are more than the limit of "
            f"{MAX_BYTES >> 30} GiB; give fewer"
        )
    labels, where = np.array(listing.labels), str(listing.root / _TEST)
    test_labels = np.array(listing.test_labels) if listing.test else None
    check_labels(labels, test_labels, shape, where)  # before any image is decoded
    largest = max(each.num_pixels for each in headers)
    pixels = partial(picture.read_all, size=size, color=color, largest=largest)
    images = _not_black(pixels(listing.train), listing.root)
    train = gathered(images, (len(listing.train), *shape), file)
    test = as_array(pixels(listing.test), (len(listing.test), *shape))
    names = [path.relative_to(listing.root).as_posix() for path in listing.train]
    return assemble(
        (train, labels),
        None if test_labels is None else (test, test_labels),
        name="",
        test_labels_from=where,
        sources=np.array(names),
        notes=tuple(_notes(headers, size, color=color)),
    )


def _not_black(images: Iterable[np.ndarray], root: Path) -> Iterator[np.ndarray]:
    """The images, and in the end a refusal where all of them are as good as black."""
    brightest = 0
    for image in images:
        brightest = max(brightest, int(image.max()))
        yield image
    if brightest < DIM:
        raise InputError(
            f"{root}: no pixel is brighter than {brightest} of 255, which is as good as"
            " black; scale the values up, to 255, or to 65535 in files of 16 bits"
        )


def common_size(headers: list[Header]) -> tuple[int, int]:
    """Width and height for all: the most common, at most LARGEST_SIDE a side.

    Where hardly any two images are of one size, the median of each.
    """
    if not (size := _most_common(headers)):
        widths, heights = zip(*(header.size for header in headers), strict=True)
        size = statistics.median_low(widths), statistics.median_low(heights)
    width, height = size
    shrink = min(1.0, LARGEST_SIDE / max(width, height))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def _most_common(headers: list[Header]) -> tuple[int, int] | None:
    """The most common size, of two the smaller one, if a tenth of the images has it."""
    counts = Counter(header.size for header in headers)
    size = min(counts, key=lambda s: (-counts[s], s[0] * s[1], s))
    return size if counts[size] >= len(headers) / 10 else None


def _notes(headers: list[Header], size: tuple[int, int], *, color: bool) -> list[str]:
    """What was done to the images, a line each."""
    notes = []
    if resized := sum(header.size != size for header in headers):
        sizes = len({header.size for header in headers})
        kind = "most common" if _most_common(headers) else "median"
        common = f"the {kind} of {sizes} sizes, and " if sizes > 1 else ""
        stretched = "; those of another ratio of the sides are stretched"
        notes.append(
            f"{resized} of {len(headers)} images resized to {size[0]}x{size[1]}: "
            f"{common}at most {LARGEST_SIDE} pixels a side"
            f"{stretched if sizes > 1 else ''}"
        )
    gray = sum(not header.color for header in headers)
    if color and gray:
        notes.append(f"{gray} gray images among color ones: made color like the rest")
    if transparent := sum(header.transparent for header in headers):
        notes.append(f"{transparent} images with an alpha channel: put on white")
    return notes


def _content(folder: Path) -> tuple[list[Path], list[Path], int]:
    """Folders and images in a folder, in the order of names, and other files' number.

    Hidden folders, and those that archives of a Mac have, are no classes.
    """
    folders, images, others = [], [], 0
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith((".", "__"))
        if path.is_dir():
            if not hidden:
                folders.append(path)
        elif hidden or path.suffix.lower() not in picture.SUFFIXES:
            others += 1
        elif path.is_file() or not path.exists():  # a link to nowhere is told
            images.append(path)
        else:  # a pipe would be waited for
            others += 1
    return folders, images, others


def _images_of(folder: Path) -> tuple[list[Path], int]:
    """Images of one class, and how many files are not."""
    folders, images, others = _content(folder)
    if images:
        nested = sum(
            1 for each in folders for path in each.rglob("*") if path.is_file()
        )
        return images, others + nested
    if folders:
        raise InputError(
            f"{folder} holds folders and no images; if they are the classes, give "
            f"--dataset=folder:{folder} or move them up; {_LAYOUT}"
        )
    kinds = f" but {others} files of other kinds" if others else ""
    raise InputError(
        f"{folder} has no PNG or JPEG images{kinds}: fill it or remove it; {_LAYOUT}"
    )


def _as_text(name: str) -> str:
    """A folder's name, with two digits for each byte of it that is no text."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _add_test(listing: Listing, folder: Path) -> Listing:
    folders, images, skipped = _content(folder)
    if not folders:
        raise InputError(
            f"{folder} has {len(images) or 'no'} images and no subfolder that says "
            f"their class; {_LAYOUT}"
        )
    skipped += len(images)
    for each in folders:
        paths, count = _images_of(each)
        listing.test.extend(paths)
        listing.test_labels.extend([_as_text(each.name)] * len(paths))
        skipped += count
    return listing._replace(skipped=listing.skipped + skipped)
