"""Runs at one number of labels, compared over the choices of labels that they share.

A hard choice of labels costs every run some points: which run is better, only the same
choices tell. An interval is of other choices, on the same test images and with the VAE
that is there: the chance of these is not in it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special

from ssl_vae.results import Row


class Cell(NamedTuple):
    """What a run has at a number of labels."""

    row: Row  # of the shared choices; of its own where it is not compared
    best: bool = False
    behind: float = 0.0  # mean of what the best run has more at each choice
    # Half the width of its interval, of two choices or more, which is wide enough for
    # 95 % of all the intervals beside it together (Bonferroni). Folds measure the same
    # images over and over, so theirs would be too narrow.
    margin: float | None = None


class Column(NamedTuple):
    """The runs at a number of labels."""

    compared: int  # runs, all with a result that has not collapsed
    shared: int  # choices that all these have
    cells: list[Cell | None]  # one a run


def compare(rows: Sequence[Row | None]) -> Column:
    """The rows of runs at a number of labels; None of a run that has none there.

    Rows that have collapsed are not compared, nor any where no choice is shared.
    """
    judged = [row for row in rows if row and not row.collapsed]
    seeds = [set(row.split_seeds) for row in judged]
    shared = sorted(set.intersection(*seeds)) if seeds else []
    if len(judged) < 2 or not shared:
        cells = [Cell(row) if row else None for row in rows]
    else:
        alike = [_over(shared, row) for row in judged]
        best = max(alike, key=lambda row: row.test_accuracy_mean)
        level = 0.05 / (len(judged) - 1)
        cells = [_beside(best, shared, row, level) if row else None for row in rows]
    return Column(len(judged), len(shared), cells)


def _over(seeds: Sequence[int], row: Row) -> Row:
    """The row of some of its choices."""
    every = dict(zip(row.split_seeds, row.test_accuracy, strict=True))
    some = {seed: every[seed] for seed in seeds}
    return Row.measured(row.labels, row.classifier, some, protocol=row.protocol)


def _beside(best: Row, shared: Sequence[int], row: Row, level: float) -> Cell:
    if row.collapsed:
        return Cell(row)
    mine = _over(shared, row)
    is_best = mine.test_accuracy_mean == best.test_accuracy_mean
    less = np.subtract(best.test_accuracy, mine.test_accuracy)
    margin = None
    if len(less) > 1 and row.protocol != "cross_validation":
        error = np.std(less, ddof=1) / np.sqrt(len(less))
        margin = float(scipy.special.stdtrit(len(less) - 1, 1 - level / 2) * error)
    return Cell(mine, is_best, float(np.mean(less)), margin)
