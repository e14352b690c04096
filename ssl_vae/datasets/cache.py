"""Decoded data sets kept on disk, keyed by the content of their source files."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ssl_vae.datasets.dataset import Dataset, Images
from ssl_vae.datasets.stored import StoredImages
from ssl_vae.errors import InputError

_FORMAT = "3"  # raise it when the canonical order or the entry's layout changes
_ARRAYS = (
    "train_labels",
    "train_sources",
    "test_images",
    "test_labels",
)


def cache_dir() -> Path:
    """The folder that this package may fill and anybody may delete at any time.

    Raises:
      InputError: it would be in the user's home, and there is none.
    """
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        raise InputError(
            "no home folder is known for a cache: set XDG_CACHE_HOME to a folder"
        ) from None
    return Path(base) / "ssl_vae"


def key_of(paths: Iterable[Path], root: Path | None = None) -> str:
    """Hex digest of the names and bytes of files.

    Never of their times: a file that was replaced within a second is another file.

    Args:
      paths: the files.
      root: folder that their names are to be given within; by default a name is the
        last part of a path.
    """
    digest = hashlib.sha256(_FORMAT.encode())
    for path in paths:
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        name = path.relative_to(root).as_posix() if root else path.name
        digest.update(f"{name}\0{content}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def get(key: str) -> Dataset | None:
    """The data set kept under a key, None where there is no sound one."""
    try:
        with (
            _entry(key).open("rb") as stream,
            np.load(stream, allow_pickle=False) as entry,
        ):
            dataset = Dataset(
                name=str(entry["name"]),
                class_names=tuple(entry["class_names"].tolist()),
                source="",
                cross_validated=bool(entry["cross_validated"]),
                notes=tuple(entry["notes"].tolist()),
                train_images=_images(entry, key),
                **{array: entry[array] for array in _ARRAYS},
            )
            return dataset if dataset.sha256 == str(entry["sha256"]) else None
    except Exception:  # whatever is wrong with the entry, it will be made again
        return None


def put(key: str, dataset: Dataset) -> None:
    """Keeps a data set under a key; a disk that takes none is no error.

    One whose images stay in a file of its owner is not kept: there is no need to.
    """
    images = dataset.train_images
    kept: dict[str, Any]
    if not isinstance(images, StoredImages):
        kept = {"train_images": images}
    elif images.path == images_file(key):
        kept = {"shape_in_file": np.array(images.shape_in_file), "rows": images.rows}
    else:
        return
    kept |= {array: getattr(dataset, array) for array in _ARRAYS}
    with contextlib.suppress(OSError):
        cache_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache_dir(), delete=False) as stream:
            try:
                np.savez(
                    stream,
                    name=np.array(dataset.name),
                    class_names=np.array(dataset.class_names),
                    sha256=np.array(dataset.sha256),
                    cross_validated=np.array(dataset.cross_validated),
                    notes=np.array(dataset.notes, str),
                    **kept,
                )
                stream.flush()
                # Renamed when whole: a reader never sees half an entry.
                Path(stream.name).replace(_entry(key))
            except BaseException:
                Path(stream.name).unlink()
                raise


def images_file(key: str) -> Path:
    """Where the training images of a key lie that are too large for memory."""
    return cache_dir() / f"{key}.images"


def drop_images(key: str) -> None:
    """Removes that file if it is there; who has it open may go on reading it."""
    with contextlib.suppress(OSError):
        images_file(key).unlink()


def _images(entry: Any, key: str) -> Images:
    if "train_images" in entry:
        images: np.ndarray = entry["train_images"]
        return images
    shape = tuple(entry["shape_in_file"].tolist())
    return StoredImages(images_file(key), 0, shape, entry["rows"])


def _entry(key: str) -> Path:
    return cache_dir() / f"{key}.npz"
