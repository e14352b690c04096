"""`python -m ssl_vae.export --workdir=RUN`: the classifier for other programs."""

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl_vae import errors
from ssl_vae.errors import InputError
from ssl_vae.results import Results
from ssl_vae.workdir import Workdir, read_json

# JAX takes seconds to import: only after all checks.

PROGRAM = "python -m ssl_vae.export"
DESCRIPTION = f"""\
Writes the classifier of a finished run, of its most labels, for other programs.

  weights.safetensors  all weights by name
  classifier.jax       the whole classifier for jax.export on CPU, CUDA and TPU
  classifier.onnx      the same for ONNX
  export.json          names of the classes, shape of the images, accuracy, also
                       the mean over the choices of labels

Both classifiers take images, uint8 [N, H, W, C], and give probabilities,
float32 [N, classes].

  {PROGRAM} --workdir=RUN
  {PROGRAM} --workdir=RUN --format=onnx --output=DIR
"""
FORMAT, FORMAT_VERSION = "ssl_vae export", 2
ABOUT = "export.json"
FILES = {
    "safetensors": "weights.safetensors",
    "jax": "classifier.jax",
    "onnx": "classifier.onnx",
}
# Packages of the extra `export`.
NEEDED = {"safetensors": "safetensors", "jax": "flatbuffers", "onnx": "onnx"}


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = errors.Parser(prog=PROGRAM, description=DESCRIPTION)
    parser.add_argument(
        "--workdir", required=True, metavar="RUN", help="folder of the finished run"
    )
    parser.add_argument(
        "--output",
        type=errors.path,
        metavar="DIR",
        help="where the files go (default: RUN/export)",
    )
    parser.add_argument(
        "--format",
        action="append",
        choices=FILES,
        help="write this one alone; may be given several times",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input, 1 a bucket that cannot be written."""
    return errors.exit_status(lambda: _export(_parse(argv)))


def _export(args: argparse.Namespace) -> int:
    chosen = [name for name in FILES if name in (args.format or FILES)]
    results = Results.of_finished_run(args.workdir)
    run = Workdir(args.workdir)
    folder = args.output or run.path / "export"
    _check_packages(chosen)
    try:
        _check_folder(folder)
        paths = _write(folder, _contents(args.workdir, results, chosen))
    except OSError as error:
        if error.filename is None:  # a full disk
            raise
        raise InputError(f"{error.filename}: {error.strerror}") from None
    run.push()
    for path in paths:
        print(path if args.output else run.address(path))  # noqa: T201
    return 0


def _check_packages(chosen: Sequence[str]) -> None:
    for name in chosen:
        if importlib.util.find_spec(NEEDED[name]) is None:
            raise InputError(
                f"--format={name} needs the package {NEEDED[name]}:"
                " pip install 'ssl_vae[export]'"
            )


def _check_folder(folder: Path) -> None:
    """Refuses a folder that cannot be, or with files of our names that are not ours."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(
            f"--output={folder}: {there} is not a folder that you can write to"
        )
    ours = _is_ours(folder / ABOUT)
    for path in (folder / name for name in (ABOUT, *FILES.values())):
        if path.is_dir() or (path.exists() and not ours):
            raise InputError(
                f"--output={folder}: {path.name} is there and is not an export of"
                " ssl_vae; choose another folder"
            )


def _is_ours(path: Path) -> bool:
    try:
        content = read_json(path)
    except InputError:
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def _contents(
    workdir: str, results: Results, chosen: Sequence[str]
) -> dict[str, bytes]:
    """The files to write, by name."""
    from ssl_vae import trained  # late: see above
    from ssl_vae.export import formats

    writers = {
        "safetensors": formats.to_safetensors,
        "jax": formats.to_jax,
        "onnx": formats.to_onnx,
    }
    classifier, about = trained.load(workdir), _about(results)
    contents = {FILES[name]: writers[name](classifier, about) for name in chosen}
    return contents | {ABOUT: (json.dumps(about, indent=1) + "\n").encode()}


def _about(results: Results) -> dict[str, Any]:
    """What one has to know of the classifier to use it."""
    row, dataset = results.results[-1], results.dataset
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "recipe": results.recipe,
        "model": results.model,
        "dataset": dataset["name"],
        "labels": row.labels,
        "protocol": row.protocol,
        "accuracy": row.accuracy_of_kept,
        "accuracy_mean": row.test_accuracy_mean,
        "splits": len(row.split_seeds),
        "class_names": dataset["class_names"],
        "image_shape": dataset["image_shape"],
        "input": "images: uint8 [N, H, W, C], 0 to 255",
        "output": "probs: float32 [N, classes]",
        "versions": results.versions,
    }


def _write(folder: Path, contents: dict[str, bytes]) -> list[Path]:
    """Replaces what an earlier export has left in the folder; all else stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.partial").write_bytes(content)
    for name in FILES.values():
        (folder / name).unlink(missing_ok=True)
    for name in contents:
        (folder / f"{name}.partial").replace(folder / name)
    return [folder / name for name in contents]


if __name__ == "__main__":
    sys.exit(main())
