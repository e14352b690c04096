"""Classes of new images: `python -m ssl_vae.predict --workdir=DIR photo.png photos`."""

import argparse
import csv
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ssl_vae import errors
from ssl_vae.compiled import keep_compiled
from ssl_vae.datasets import picture
from ssl_vae.errors import InputError, say
from ssl_vae.results import Results

# JAX and scikit-learn take seconds to import: only after all checks.

PROGRAM = "python -m ssl_vae.predict"
DESCRIPTION = f"""\
Tells class, probability and runner-up of images, by a finished run.

  {PROGRAM} --workdir=RUN photo.png photos/
  {PROGRAM} --workdir=RUN --format=csv photos/ > said.csv
"""
BATCH_PIXELS = 4_000_000  # of the images decoded, classified and written at a time
ASPECT = 0.02  # by so much the ratio of an image's sides may differ
Record = dict[str, Any]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = errors.Parser(prog=PROGRAM, description=DESCRIPTION)
    parser.add_argument(
        "--workdir", required=True, metavar="RUN", help="folder of the finished run"
    )
    parser.add_argument(
        "--format",
        choices=WRITERS,
        default="table",
        help="what is printed; json is one object a line (default: table)",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=errors.path,
        metavar="IMAGE",
        help="PNG or JPEG file, or folder of them",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input, 1 when some images could not be decoded."""
    return errors.exit_status(lambda: _predict(argv))


def _predict(argv: Sequence[str] | None) -> int:
    skipped: list[str] = []
    keep_compiled()
    args = _parse(argv)
    results = Results.of_finished_run(args.workdir)
    shape = tuple(results.dataset["image_shape"])
    files, num_resized = fitting(find(args.paths, skipped), shape, skipped)
    if num_resized:
        say(f"{num_resized} of {len(files)} images are resized to {_size(shape)}")
    WRITERS[args.format](_records(args.workdir, files, shape, skipped))
    for line in skipped:
        say(f"skipped: {line}")
    return 1 if skipped else 0


def find(paths: Iterable[Path], skipped: list[str]) -> list[Path]:
    """Files as given, and all images within folders, sorted; no hidden ones.

    Folders within that may not be read go to `skipped`.

    Raises:
      InputError: naming a path that is not there or may not be read, or a folder
        without images.
    """
    found: list[Path] = []
    for path in paths:
        try:
            inside = not path.is_file()
            images = sorted(_within(path, skipped)) if inside else [path]
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        if not images:
            there = "is no file" if path.exists() else "does not exist"
            what = "holds no PNG or JPEG file" if path.is_dir() else there
            raise InputError(f"{path} {what}")
        found += images
    return found


def _within(folder: Path, skipped: list[str]) -> Iterator[Path]:
    """The images within a folder, none that is hidden or in a hidden folder."""

    def unreadable(error: OSError) -> None:
        if Path(error.filename) == folder:
            if folder.is_dir():
                raise error
            return  # it does not exist
        skipped.append(f"{error.filename}: {error.strerror}")

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(place, name) for name in files if not name.startswith(".")):
            if path.suffix.lower() in picture.SUFFIXES and path.is_file():
                yield path


def fitting(
    files: Sequence[Path], shape: tuple[int, ...], skipped: list[str]
) -> tuple[list[Path], int]:
    """Those of the files that it is for, and how many have to be made smaller.

    Only headers are read. Why files are left out goes to `skipped`: they are no images,
    or smaller, of another ratio of the sides, or in color where it knows gray.

    Raises:
      InputError: if none is left, with the reason of the first.
    """
    kept: list[Path] = []
    num_resized = 0
    for file in files:
        try:
            head = picture.header(file)
            _check_fits(file, head, shape)
        except InputError as error:
            skipped.append(str(error))
            continue
        kept.append(file)
        num_resized += head.size != (shape[1], shape[0])
    if not kept:
        raise InputError(skipped[0])
    return kept, num_resized


def _check_fits(file: Path, head: picture.Header, shape: tuple[int, ...]) -> None:
    height, width, channels = shape
    shrunk = head.size[1] * width / head.size[0]  # its height at our width
    other = abs(shrunk - height) > max(0.5, ASPECT * height)
    if head.size[0] < width or other or head.color > (channels == 3):
        kind = ("of gray", "in color")
        raise InputError(
            f"{file}: {head.size[0]}x{head.size[1]} pixels {kind[head.color]}; this"
            f" classifier is for images of {_size(shape)} {kind[channels == 3]}, or"
            " larger ones with sides of the same ratio"
        )


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _records(
    workdir: str, files: Sequence[Path], shape: tuple[int, ...], skipped: list[str]
) -> Iterator[Record]:
    """One record an image, in order; why others are left out goes to `skipped`."""
    from ssl_vae import trained  # late: see above

    classifier = trained.load(workdir)
    with tqdm(total=len(files), unit=" images", disable=None, leave=False) as progress:
        batch = max(1, BATCH_PIXELS // math.prod(shape))
        for start in range(0, len(files), batch):
            part = files[start : start + batch]
            readable, images = _decoded(part, shape, skipped)
            # Where none was whole, there is nothing to ask.
            rows = classifier.predict_proba(images) if readable else np.empty(0)
            for file, row in zip(readable, rows, strict=True):
                yield _record(file, row, classifier.class_names)
            progress.update(len(part))


def _decoded(
    files: Sequence[Path], shape: tuple[int, ...], skipped: list[str]
) -> tuple[list[Path], np.ndarray]:
    """Those of the files that are whole, and their pixels, uint8 [n, H, W, C]."""
    height, width, channels = shape
    readable: list[Path] = []
    images = np.empty([len(files), *shape], np.uint8)
    for file in files:
        try:
            pixels = picture.read(file, (width, height), color=channels == 3)
        except InputError as error:
            skipped.append(str(error))
        else:
            images[len(readable)] = pixels
            readable.append(file)
    return readable, images[: len(readable)]


def _record(file: Path, probs: np.ndarray, names: Sequence[str]) -> Record:
    """What is said of an image."""
    second, first = np.argsort(probs, kind="stable")[-2:]
    return {
        "image": str(file),
        "class": names[first],
        "probability": round(float(probs[first]), 4),
        "runner_up": names[second],
        "runner_up_probability": round(float(probs[second]), 4),
    }


def _write_table(records: Iterable[Record]) -> None:
    for record in records:
        print(  # noqa: T201
            f"{record['image']}  {record['class']} {record['probability']:.2f}"
            f"  (or {record['runner_up']} {record['runner_up_probability']:.2f})"
        )


def _write_csv(records: Iterable[Record]) -> None:
    writer = None
    for record in records:
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(record), lineterminator="\n")
            writer.writeheader()
        writer.writerow(record)


def _write_json(records: Iterable[Record]) -> None:
    for record in records:
        print(json.dumps(record))  # noqa: T201


WRITERS = {"table": _write_table, "csv": _write_csv, "json": _write_json}

if __name__ == "__main__":
    sys.exit(main())
