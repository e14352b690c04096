"""Command that gets a data set ready and says what it found."""

import argparse
import sys

from ssl_vae.datasets import Dataset, load
from ssl_vae.errors import InputError, Parser, exit_status

PROGRAM = "python -m ssl_vae.datasets"
DESCRIPTION = f"""\
Reads a data set, fetches it if need be, and says what was found.

  {PROGRAM} digits
  {PROGRAM} folder:photos
  {PROGRAM} npz:mine.npz
"""


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 with what the data set is on stdout, 2 without data."""
    return exit_status(lambda: _describe(argv))


def _describe(argv: list[str] | None) -> int:
    args = _parse(argv)
    try:
        dataset = load(args.name)
    except InputError:
        if args.quiet:
            return 2
        raise
    for line in (*dataset.notes, _summary(dataset)):
        sys.stdout.write(line + "\n")
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog=PROGRAM, description=DESCRIPTION)
    parser.add_argument(
        "name",
        nargs="?",
        metavar="DATA",
        default="fashion_mnist",
        help="as --dataset of ssl_vae.main, on this machine (default: fashion_mnist)",
    )
    parser.add_argument("--quiet", action="store_true", help="no error message")
    return parser.parse_args(argv)


def _summary(dataset: Dataset) -> str:
    num_train, height, width, _ = dataset.train_images.shape
    num_test = dataset.identity["test"] or "no"
    some = dataset.num_labeled < num_train
    labeled = f" ({dataset.num_labeled} labeled)" if some else ""
    return (
        f"{dataset.name}: {num_train} train{labeled} and {num_test} test "
        f"images of {height}x{width}, {dataset.num_classes} classes, "
        f"from {dataset.source}"
    )


if __name__ == "__main__":
    sys.exit(main())
