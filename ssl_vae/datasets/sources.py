"""The places that are searched for a data set, in order."""

import difflib
import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from ssl_vae.datasets import cache, class_folders, digits, idx, known, npz, tfds
from ssl_vae.datasets.dataset import Dataset, assemble
from ssl_vae.errors import InputError, in_a_line

_DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def load(name: str = "fashion_mnist", data_dir: str | Path | None = None) -> Dataset:
    """The data set in a folder, or a public one from where this machine has it.

    Without a folder: what TFDS has prepared, then for Fashion-MNIST what Debian's
    package has installed, then a download.

    Args:
      name: "fashion_mnist", "mnist" or "kmnist"; with ``data_dir`` it says which set to
        take from a TFDS folder, and IDX files say themselves what they are. Or
        "tfds:NAME" or "tfds:NAME:VERSION" for any image classification set of TFDS; or,
        without ``data_dir``, "digits", "npz:FILE" or "folder:DIR", see ``npz`` and
        ``class_folders``.
      data_dir: folder with the four IDX files of any MNIST-shaped data set, or with
        prepared TFDS data sets.

    Raises:
      InputError: there is no such data set, or its files are not sound.
    """
    kind, _, where = name.partition(":")
    if kind in ("digits", "npz", "folder"):
        _refuse_data_dir(name, data_dir)
    try:
        if kind == "digits":
            return digits.load()
        if kind == "npz":
            return _from_npz(_expanded(where, "--dataset=npz:"))
        if kind == "tfds":
            return _from_any_tfds(where, data_dir)
        if kind == "folder":
            return _from_images(_expanded(where, "--dataset=folder:"))
        if data_dir is not None:
            return _from_folder(name, _expanded(data_dir, "--data_dir="))
        return _from_machine(name)
    except OSError as error:
        fault = in_a_line(error)
        if error.filename:
            fault = f"{error.filename} cannot be read ({error.strerror})"
        flag = f"--dataset={kind}:" if kind in ("npz", "folder") else "--data_dir="
        raise InputError(
            f"{fault}: check its permissions, or give another place as {flag}"
        ) from error


def _expanded(path: str | Path, flag: str) -> Path:
    """The path with somebody's home in place of ~."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(
            f"{flag}{path}: nobody's home is known by that name; give the whole path"
        ) from None


def _refuse_data_dir(name: str, data_dir: str | Path | None) -> None:
    if data_dir is not None:
        raise InputError(
            f"--data_dir={data_dir}: --dataset={name} is not looked for in a folder; "
            "leave --data_dir out"
        )


def _from_npz(path: Path) -> Dataset:
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise InputError(f"--dataset=npz:{path} {what}: give an .npz file")
    dataset = _cached([path], lambda _: npz.read(path))
    return dataset.described(name=_as_name(path.with_suffix("")), source=f"{path}")


def _from_images(root: Path) -> Dataset:
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"--dataset=folder:{root} {what}: give a folder of images")
    listing = class_folders.find(root)
    paths = listing.train + listing.test
    read = partial(class_folders.read, listing)
    dataset = _cached(paths, read, root=root)
    notes = dataset.notes
    if listing.skipped:
        kinds = "hidden, not PNG or JPEG, or misplaced"
        notes = (*notes, f"{listing.skipped} files skipped: {kinds}")
    return dataset.described(name=_as_name(root), source=f"{root}", notes=notes)


def _from_folder(name: str, folder: Path) -> Dataset:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(
            f"--data_dir={folder} {what}: give the folder with "
            f"{', '.join(idx.FILE_NAMES)}"
        )
    if not idx.find(folder):
        if prepared := tfds.find(name, folder):
            return _from_tfds(prepared)
        if others := tfds.prepared_names(folder):
            raise InputError(
                f"the TFDS folder {folder} has {', '.join(others)} and not {name}: "
                f"give --data_dir={folder / others[0]}"
            )
    return _from_idx(folder, "IDX files")  # it names what is missing


def _from_machine(name: str) -> Dataset:
    if name not in known.DOWNLOADABLE:
        names = (*known.DOWNLOADABLE, "digits")
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=0)[0]
        raise InputError(
            f"no data set is called {name!r}, the nearest is {nearest!r}: choose one "
            f"of {', '.join(names)}, or for data of your own folder:DIR or npz:FILE, "
            "or give a folder of IDX files as --data_dir"
        )
    tfds_dir = _tfds_dir()
    if prepared := tfds.find(name, tfds_dir):
        return _from_tfds(prepared)
    unpacked = cache.cache_dir() / "debian" / _DEBIAN.relative_to("/")
    for folder in (_DEBIAN, unpacked):
        if name == "fashion_mnist" and folder.is_dir():
            return _from_idx(folder, "Debian package")
    return _from_tfds(tfds.prepare(name, tfds_dir))


def _from_any_tfds(name: str, data_dir: str | Path | None) -> Dataset:
    folder = _expanded(data_dir, "--data_dir=") if data_dir else _tfds_dir()
    if prepared := tfds.find(name, folder):
        return _from_tfds(prepared)
    make = tfds.prepare if name in known.DOWNLOADABLE else tfds.prepare_any
    return _from_tfds(make(name, folder))


def _tfds_dir() -> Path:
    folder = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return _expanded(folder, "TFDS_DATA_DIR=")


def _from_idx(folder: Path, kind: str) -> Dataset:
    paths = idx.require(folder)

    def decode(_: Path) -> Dataset:
        arrays, digests = idx.read_set(paths)
        name = known.recognize(digests, folder)
        train, test = idx.pair_up(arrays, paths)
        test_labels = str(paths["t10k-labels-idx1-ubyte"])
        return assemble(train, test, name=name or "", test_labels_from=test_labels)

    dataset = _cached(paths.values(), decode)
    return dataset.described(
        # The same files in another folder are the same entry of the cache.
        name=dataset.name or _as_name(folder),
        source=f"{kind} in {folder}",
    )


def _from_tfds(folder: Path) -> Dataset:
    def decode(images: Path) -> Dataset:
        train, test, names = tfds.read(folder, images)
        return checked(
            assemble(train, test, name="", test_labels_from=where, class_names=names)
        )

    def checked(dataset: Dataset) -> Dataset:
        known.check_content(name, dataset.sha256, folder)
        return dataset

    name, where = _as_name(folder.parent), f"TFDS in {folder.parent.parent}"
    files = sorted(path for path in folder.iterdir() if path.is_file())
    # Checked again: it may be in the cache since the folder had another name.
    return checked(_cached(files, decode)).described(name=name, source=where)


def _cached(
    paths: Iterable[Path], decode: Callable[[Path], Dataset], root: Path | None = None
) -> Dataset:
    """From the cache, or decoded: `decode(file for large images)`."""
    key = cache.key_of(paths, root)
    if (dataset := cache.get(key)) is None:
        cache.drop_images(key)  # no good, and their room is needed
        try:
            dataset = decode(cache.images_file(key))
        except BaseException:
            cache.drop_images(key)
            raise
        cache.put(key, dataset)
    return dataset


def _as_name(folder: Path) -> str:
    """The folder's name, made fit to be part of a file name."""
    name = re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower())
    return name.strip("-") or "images"
