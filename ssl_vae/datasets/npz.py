"""Reader of images and labels of one's own in a NumPy .npz file.

An archive says the shape and type of every array in front of its content, so what
cannot be right is refused before anything is unpacked. Images that would take up much
memory are left in the file if they lie there as they are.
"""

import math
import struct
import zipfile
from pathlib import Path

import numpy as np

from ssl_vae.datasets import npy
from ssl_vae.datasets.dataset import (
    MAX_BYTES,
    MAX_SIDE,
    Arrays,
    Dataset,
    assemble,
    unlabeled_value,
)
from ssl_vae.datasets.stored import LARGE, StoredImages
from ssl_vae.errors import InputError, in_a_line

_WANTED = (
    "wanted: images [N, H, W] or [N, H, W, C], labels [N] with -1 for unlabeled, "
    "and, to measure on, test_images and test_labels"
)
_CHUNK = 1 << 24  # values


def read(path: Path) -> Dataset:
    """The data set in a file with the arrays that `_WANTED` names.

    Images are uint8, or other integers from 0 to 255, or floats from 0 to 1. Labels are
    integers, -1 for none, or strings, "" for none. Other arrays are not read.

    Args:
      path: the file; read without pickle.

    Raises:
      InputError: the file is missing, damaged, too large or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            headers = _headers(archive, path)
            stored = _left_in_file(archive, path)
        with np.load(path, allow_pickle=False) as content:
            arrays = {n: content[n] for n in headers if n != "images" or not stored}
    except zipfile.BadZipFile as error:
        raise InputError(
            f"{path} is not a sound .npz file ({error}): write it with "
            "numpy.savez_compressed"
        ) from error
    except InputError:
        raise
    except (ValueError, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        reason = getattr(error, "strerror", None) or in_a_line(error)
        raise InputError(f"{path} cannot be read ({reason}): check the file") from error
    except Exception as error:  # a damaged archive fails in too many ways to list
        raise InputError(
            f"{path} is damaged ({in_a_line(error)}): write it again"
        ) from error
    return _assembled(arrays, path, stored)


def _left_in_file(archive: zipfile.ZipFile, path: Path) -> StoredImages | None:
    """The training images where they lie in the file; None if they are to be read."""
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    member = members["images"]
    if member.file_size <= LARGE or member.compress_type != zipfile.ZIP_STORED:
        return None
    header = npy.header(archive, member, f"{path}: images")
    if not header.of_bytes:
        return None
    with path.open("rb") as file:  # its own header, then that of the array
        file.seek(member.header_offset)
        head = file.read(30)
    before = 30 + sum(struct.unpack("<HH", head[26:30])) + header.num_bytes
    return StoredImages(path, member.header_offset + before, (*header.shape, 1)[:4])


def _headers(archive: zipfile.ZipFile, path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays that will be read, by name, after checking all of them."""
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if len(members) < len(archive.infolist()):  # what is read must be what is checked
        raise InputError(f"{path} has two arrays of one name: write it again")
    names = ["images", "labels"]
    if missing := [name for name in names if name not in members]:
        there = ", ".join(sorted(members)[:8]) or "nothing"
        raise InputError(
            f"{path} has no array {' and no '.join(missing)} but {there}; {_WANTED}"
        )
    tests = [name for name in ("test_images", "test_labels") if name in members]
    if len(tests) == 1:
        raise InputError(f"{path} has {tests[0]} alone of the test arrays; {_WANTED}")
    shapes = {name: _shape(archive, members[name], path) for name in names + tests}
    for images in [name for name in shapes if name.endswith("images")]:
        labels = images.replace("images", "labels")
        if shapes[labels] != shapes[images][:1]:
            raise InputError(
                f"{path}: {labels} has the shape {shapes[labels]} and {images} "
                f"{shapes[images]}; {_WANTED}"
            )
    if tests and shapes["test_images"][1:] != shapes["images"][1:]:
        raise InputError(
            f"{path}: test_images has the shape {shapes['test_images']} and images "
            f"{shapes['images']}: images of one size and kind are needed"
        )
    return shapes


def _shape(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path
) -> tuple[int, ...]:
    """An array's shape from its header; the content stays packed."""
    name = member.filename.removesuffix(".npy")
    header = npy.header(archive, member, f"{path}: {name}")
    shape, dtype = header.shape, header.dtype
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise InputError(
            f"{path}: {name} holds Python objects, which are not read; save plain "
            f"numbers or strings, such as {name}.astype(str)"
        )
    as_it_is = member.compress_type == zipfile.ZIP_STORED
    whole = min(shape, default=0) >= 0 and header.num_bytes + size == member.file_size
    whole &= not as_it_is or member.compress_size == member.file_size
    stored = whole and as_it_is and header.of_bytes
    if size > MAX_BYTES and not (stored and name == "images"):
        raise InputError(
            f"{path}: {name} claims {size} bytes, more than the limit of "
            f"{MAX_BYTES >> 30} GiB that are read into memory; uint8 training "
            "images written by numpy.savez, uncompressed, may be of any size"
        )
    if not whole:
        raise InputError(
            f"{path}: {name} does not hold what its header claims: write it again"
        )
    (_check_images if name.endswith("images") else _check_labels)(
        f"{path}: {name}", shape, dtype
    )
    return shape


def _check_images(what: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.kind not in "uif":
        raise InputError(f"{what} is of type {dtype}: uint8 or float is needed")
    if len(shape) == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3):
        raise InputError(
            f"{what} has the shape {shape}: the channels must come last, as in "
            "images.transpose(0, 2, 3, 1)"
        )
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise InputError(
            f"{what} has the shape {shape}: [N, H, W] or [N, H, W, C] is needed, with "
            "C = 1 (gray) or 3 (color)"
        )
    if not all(shape):
        raise InputError(f"{what} has the shape {shape}: there is no image")
    if max(shape[1:3]) > MAX_SIDE:
        raise InputError(
            f"{what} has the shape {shape}: more than {MAX_SIDE} pixels a side are too "
            "many for fully connected networks; make the images smaller, 28 to 64"
        )


def _check_labels(what: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.kind not in "uiU":
        raise InputError(
            f"{what} is of type {dtype}: integers are needed, -1 for unlabeled, or "
            'strings, "" for unlabeled'
        )


def _assembled(
    arrays: dict[str, np.ndarray], path: Path, stored: StoredImages | None
) -> Dataset:
    train: Arrays = (
        (stored, _labels(arrays, path, "")) if stored else _part(arrays, path, "")
    )
    test = _part(arrays, path, "test_") if "test_images" in arrays else None
    if (
        test
        and train[1].dtype.kind != test[1].dtype.kind
        and "U"
        in (
            train[1].dtype.kind,
            test[1].dtype.kind,
        )
    ):
        raise InputError(f"{path}: of labels and test_labels only one has strings")
    if test and (test[1] == unlabeled_value(test[1])).any():
        raise InputError(f"{path}: test_labels has unlabeled images: leave those out")
    return assemble(train, test, name="", test_labels_from=str(path))


def _part(arrays: dict[str, np.ndarray], path: Path, part: str) -> Arrays:
    """Images uint8 [N, H, W, C], and labels [N] with the one value for no label."""
    pixels = _as_bytes(arrays[f"{part}images"], f"{path}: {part}images")
    return pixels.reshape(*pixels.shape[:3], -1), _labels(arrays, path, part)


def _labels(arrays: dict[str, np.ndarray], path: Path, part: str) -> np.ndarray:
    """Labels [N] with the one value for no label."""
    labels = arrays[f"{part}labels"]
    if labels.dtype.kind == "U":  # -1 beside names, which NumPy made a string
        labels = np.where(labels == "-1", "", labels)
    if labels.dtype.kind in "ui" and labels.min() < -1:
        raise InputError(
            f"{path}: {part}labels has {labels.min()}: labels from 0 on are needed, "
            "and -1 for unlabeled"
        )
    return labels


def _as_bytes(images: np.ndarray, what: str) -> np.ndarray:
    """Images as uint8, 0 to 255, after a check of their range."""
    top = 1 if images.dtype.kind == "f" else 255
    low, high = images.min(), images.max()
    if (top, low, high) == (255, 0, 1):
        raise InputError(
            f"{what} is of type {images.dtype} with values 0 and 1 alone, which are"
            " black and nearly black: multiply them by 255, or give floats"
        )
    if images.dtype == np.uint8:
        return images
    if not (low >= 0 and high <= top):  # so written, NaN is refused too
        raise InputError(
            f"{what} is of type {images.dtype} with values from {low} to {high}: "
            "uint8, or floats from 0 to 1, are needed"
        )
    pixels = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), rows := max(1, _CHUNK // images[0].size)):
        part = images[start : start + rows]
        pixels[start : start + rows] = np.round(part * (255 / top))
    return pixels
