"""Classes of new images: `python -m ssl_vae.predict --workdir=DIR photo.png photos`."""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ssl_vae.datasets import pictures
from ssl_vae.errors import InputError
from ssl_vae.results import Results

# JAX and scikit-learn take seconds to import: only after all checks.

BATCH = 2_000  # as many images are decoded, classified and written at a time
Record = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input, 1 when some images could not be decoded."""
    parser = argparse.ArgumentParser(
        prog="python -m ssl_vae.predict",
        description="Class, probability and runner-up of images, by a finished run.",
    )
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument(
        "--format", choices=WRITERS, default="table", help="json: one object a line"
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, help="PNG or JPEG files, or folders of them"
    )
    args = parser.parse_args(argv)
    skipped: list[str] = []
    try:
        results = Results.of_finished_run(args.workdir)
        shape = tuple(results.dataset["image_shape"])
        files = pictures.find(args.paths)
        for file in files:
            pictures.check_fits(file, shape)
        WRITERS[args.format](_records(args.workdir, files, shape, skipped))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except BrokenPipeError:  # whoever reads the output has had enough
        sys.stderr.close()
        return 0
    for line in skipped:
        print(f"skipped: {line}", file=sys.stderr)  # noqa: T201
    return 1 if skipped else 0


def _records(
    workdir: str, files: Sequence[Path], shape: tuple[int, ...], skipped: list[str]
) -> Iterator[Record]:
    """One record an image, in order; why others are left out goes to `skipped`."""
    from ssl_vae import trained  # late: see above

    classifier = trained.load(workdir)
    names = classifier.class_names
    progress = tqdm(total=len(files), unit=" images", disable=None, leave=False)
    with progress:
        for start in range(0, len(files), BATCH):
            part = files[start : start + BATCH]
            images = np.zeros([BATCH, *shape], np.uint8)  # one size, compiled once
            decoded: list[Path] = []
            for file in part:
                try:
                    images[len(decoded)] = pictures.decode(file, shape)
                    decoded.append(file)
                except InputError as error:
                    skipped.append(str(error))
            probs = classifier.predict_proba(images[: len(decoded)])
            for file, row in zip(decoded, probs, strict=True):
                second, first = np.argsort(row, kind="stable")[-2:]
                yield {
                    "image": str(file),
                    "class": names[first],
                    "probability": round(float(row[first]), 4),
                    "runner_up": names[second],
                    "runner_up_probability": round(float(row[second]), 4),
                }
            progress.update(len(part))


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
