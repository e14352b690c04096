"""Reader of the four IDX files of an MNIST-shaped data set.

Sizes come from a file's header before anything is unpacked, so a small file that
claims or unpacks to gigabytes costs neither memory nor time.
"""

import gzip
import hashlib
import math
import zlib
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from ssl_vae.datasets.dataset import MAX_BYTES, MAX_SIDE
from ssl_vae.errors import InputError

FILE_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_CHUNK = 1 << 22
_UBYTE = 8
_HTML = (b"<!doctype", b"<html", b"<head", b"<?xml")
_AGAIN = "get the file again"

Arrays = tuple[np.ndarray, np.ndarray]


def find(folder: Path) -> dict[str, Path]:
    """Those of the four files that are in a folder, by standard name.

    The unpacked file is taken where the folder has both.
    """
    found = {}
    for name in FILE_NAMES:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                found[name] = path
                break
    return found


def require(folder: Path) -> dict[str, Path]:
    """The paths of the four files of a folder, by standard name.

    Raises:
      InputError: some of them are missing.
    """
    found = find(folder)
    missing = [name for name in FILE_NAMES if name not in found]
    if missing:
        raise InputError(
            f"{folder} lacks {', '.join(missing)} (with or without .gz): "
            f"--data_dir needs {', '.join(FILE_NAMES)}"
        )
    return found


def read_set(paths: dict[str, Path]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and digests of the unpacked bytes of the four files, by standard name.

    Images are uint8 [N, height, width], labels uint8 [N].

    Raises:
      InputError: a file cannot be read or does not hold what its name says.
    """
    arrays, digests = {}, {}
    for name, path in paths.items():
        num_dims = 3 if "images" in name else 1
        arrays[name], digests[name] = read(path, num_dims)
    return arrays, digests


def pair_up(
    arrays: dict[str, np.ndarray], paths: dict[str, Path]
) -> tuple[Arrays, Arrays]:
    """Train and test (images uint8 [N, height, width, 1], labels uint8 [N]).

    Raises:
      InputError: two of the files do not fit each other.
    """
    train, test = FILE_NAMES[:2], FILE_NAMES[2:]
    for images, labels in (train, test):
        if len(arrays[images]) != len(arrays[labels]):
            raise InputError(
                f"{paths[images]} has {len(arrays[images])} images and "
                f"{paths[labels].name} {len(arrays[labels])} labels: "
                "get the two files from one source"
            )
    train_size, test_size = (arrays[names[0]].shape[1:] for names in (train, test))
    if train_size != test_size:
        raise InputError(
            f"{paths[test[0]]} has images of {test_size[0]}x{test_size[1]} and "
            f"{paths[train[0]].name} of {train_size[0]}x{train_size[1]}: "
            "get the two files from one source"
        )
    return (
        (arrays[train[0]][..., np.newaxis], arrays[train[1]]),
        (arrays[test[0]][..., np.newaxis], arrays[test[1]]),
    )


def read(path: Path, num_dims: int) -> tuple[np.ndarray, str]:
    """Array and digest of one IDX file of unsigned bytes, packed or not.

    Args:
      path: the file; it is unpacked when its name ends in ``.gz``.
      num_dims: 3 for images, 1 for labels.

    Returns:
      uint8 array with ``num_dims`` axes, and the sha256 of the unpacked bytes.

    Raises:
      InputError: the file cannot be read or is not such a file.
    """
    try:
        _check_packing(path)
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as stream:
            return _parse(stream, path, num_dims)
    except EOFError as error:
        raise InputError(f"{path} is cut short: {_AGAIN}") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}): {_AGAIN}") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): check the file"
        ) from error


def _check_packing(path: Path) -> None:
    """Refuses what is plainly another kind of file than its name says."""
    with path.open("rb") as stream:
        head = stream.read(64)
    if not head:
        raise InputError(f"{path} is empty: {_AGAIN}")
    _refuse_html(head, path)
    named, packed = path.suffix == ".gz", head.startswith(b"\x1f\x8b")
    if packed and not named:
        raise InputError(f"{path} is packed: rename it to {path.name}.gz")
    if named and not packed:
        if head.startswith(b"\0\0"):
            raise InputError(f"{path} is not packed: rename it to {path.stem}")
        raise InputError(f"{path} is not a gzip file: {_AGAIN}")


def _refuse_html(head: bytes, path: Path) -> None:
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML):
        raise InputError(
            f"{path} looks like an HTML page: the download was not the file, {_AGAIN}"
        )


def _parse(stream: BufferedIOBase, path: Path, num_dims: int) -> tuple[np.ndarray, str]:
    header = stream.read(4 + 4 * num_dims)
    shape = _shape(header, path, num_dims)
    size = math.prod(shape)
    digest, body = hashlib.sha256(header), bytearray()
    # One byte more than claimed shows trailing bytes and makes gzip check its sum.
    while chunk := stream.read(min(_CHUNK, size + 1 - len(body))):
        digest.update(chunk)
        body += chunk
    if len(body) < size:
        raise InputError(
            f"{path} is cut short, {len(body)} of {size} bytes after the header: "
            f"{_AGAIN}"
        )
    if len(body) > size:
        raise InputError(
            f"{path} has bytes after the {size} that its header claims: {_AGAIN}"
        )
    return np.frombuffer(body, np.uint8).reshape(shape), digest.hexdigest()


def _shape(header: bytes, path: Path, num_dims: int) -> tuple[int, ...]:
    """The array's shape from the header of an IDX file."""
    _refuse_html(header, path)
    _check_magic(header, path, num_dims)
    if len(header) < 4 + 4 * num_dims:
        raise InputError(f"{path} is cut short within its header: {_AGAIN}")
    shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
    if not all(shape):
        raise InputError(f"{path} holds nothing, its shape is {shape}: {_AGAIN}")
    if math.prod(shape) > MAX_BYTES:
        raise InputError(
            f"{path} claims {math.prod(shape)} bytes, more than the limit of "
            f"{MAX_BYTES >> 30} GiB: {_AGAIN}"
        )
    if max(shape[1:], default=0) > MAX_SIDE:
        raise InputError(
            f"{path} has images of {shape[1]}x{shape[2]}: more than {MAX_SIDE} pixels "
            "a side are too many for fully connected networks; make them smaller, 28 "
            "to 64"
        )
    return shape


def _check_magic(header: bytes, path: Path, num_dims: int) -> None:
    magic = int.from_bytes(header[:4], "big")
    if magic == (_UBYTE << 8) + num_dims:
        return
    wanted, other = ("images", "labels") if num_dims == 3 else ("labels", "images")
    if magic == (_UBYTE << 8) + (4 - num_dims):
        raise InputError(
            f"{path} holds {other}, not {wanted}: check that no files were swapped"
        )
    raise InputError(
        f"{path} is not an IDX file of {wanted} in unsigned bytes, "
        f"its magic number is {magic}: {_AGAIN}"
    )
