"""`python -m ssl_vae.report RUN...`: a run's report made anew, or runs side by side."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_vae import errors
from ssl_vae.errors import InputError

if TYPE_CHECKING:
    from ssl_vae.report import compare

# matplotlib and NumPy take a while to import: only after the arguments are read.

PROGRAM = "python -m ssl_vae.report"
OUTPUT = Path("comparison.html")
DESCRIPTION = f"""\
Makes report.html and model_card.md of a run anew, from what its folder holds;
or, of several runs of the same data, one page that compares them. Nothing is
trained; the paths written are printed.

  {PROGRAM} RUN
  {PROGRAM} RUN_A RUN_B --output=FILE.html
"""


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = errors.Parser(prog=PROGRAM, description=DESCRIPTION)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--output",
        type=errors.path,
        metavar="FILE.html",
        help=f"where the page goes; default {OUTPUT}, for one run its own folder",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> Sequence[Path | str]:
    """Writes what the arguments ask for.

    Returns:
      The files written.

    Raises:
      InputError: for anything that the caller can mend; before anything is written.
    """
    flags = _parse(argv)
    try:
        if flags.output is not None:
            _check_output(flags.output)
        from ssl_vae.report import compare  # late: see above

        runs = compare.read_runs(flags.runs)
        if len(runs) == 1:
            return _report(runs[0], flags.output)
        path = flags.output or OUTPUT
        compare.write_comparison(path, runs)
    except OSError as error:
        if error.filename is None:  # a full disk
            raise
        raise InputError(
            f"{error.filename}: {error.strerror}; choose another folder or --output"
        ) from None
    return [path]


def _report(run: "compare.Run", output: Path | None) -> Sequence[Path | str]:
    """The page of one run; beside it the card where both go into the run's folder."""
    from ssl_vae.report import card, evidence, page

    found, folder = evidence.load(run.workdir.path), run.workdir.path
    path = output or folder / "report.html"
    page.write_report(path, run.workdir, run.results, found)
    if output:
        return [path]
    card.write_card(folder / "model_card.md", run.results, found)
    run.workdir.push()
    return [run.workdir.address(file) for file in (path, folder / "model_card.md")]


def _check_output(path: Path) -> None:
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--output={path}: a page's name ends with .html")
    if path.is_dir() or not path.parent.is_dir():
        where = "a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise InputError(f"--output={path}: {where}")


def run() -> int:
    """Exit status: 0 done, 2 bad input, 1 anything else."""
    for path in main(sys.argv[1:]):
        print(path)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(errors.exit_status(run))
