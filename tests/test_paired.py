"""Runs at one number of labels, compared over the choices of labels that they share."""

import numpy as np
import pytest
import scipy.stats

from ssl_vae.report.paired import Cell, Column, compare
from ssl_vae.results import Row


def row(accuracy, collapsed=None, protocol="inductive"):
    """A row of accuracies by split seed; `collapsed` are seeds of models that have."""
    vae = [{"collapsed": seed in collapsed} for seed in accuracy] if collapsed else []
    return Row.measured(100, "svm_rbf", accuracy, protocol=protocol, vae=vae)


EASY = row({0: 0.5, 1: 0.6, 2: 0.9, 3: 0.9})  # two choices more, and those are easy
HARD = row({0: 0.55, 1: 0.7})


def test_runs_are_compared_over_the_choices_that_all_share():
    easy, hard = compare([EASY, HARD]).cells
    assert EASY.test_accuracy_mean > HARD.test_accuracy_mean
    assert (easy.best, hard.best) == (False, True)
    assert easy.row.split_seeds == hard.row.split_seeds == [0, 1]
    assert easy.row.test_accuracy_mean == pytest.approx(0.55)
    assert easy.row.test_accuracy_std == pytest.approx(np.std([0.5, 0.6], ddof=1))
    assert hard.row == HARD


def test_the_difference_to_the_best_is_taken_choice_by_choice():
    first = row({2: 0.7, 0: 0.5, 1: 0.6})  # in another order
    second = row({0: 0.52, 1: 0.63, 2: 0.74, 7: 0.0})
    behind, best = compare([first, second]).cells
    less = [0.02, 0.03, 0.04]
    assert behind.behind == pytest.approx(np.mean(less))
    low, high = scipy.stats.ttest_1samp(less, 0).confidence_interval(0.95)
    assert behind.margin == pytest.approx((high - low) / 2)
    assert (best.best, best.behind) == (True, 0)


def test_of_more_runs_every_interval_is_wider_so_that_all_hold_together():
    rows = [row({0: 0.5 - k, 1: 0.6 - k, 2: 0.7 - 2 * k}) for k in (0, 0.01, 0.03, 0.1)]
    cells = compare(rows).cells
    for cell, k in zip(cells, (0, 0.01, 0.03, 0.1), strict=True):
        low, high = scipy.stats.ttest_1samp([k, k, 2 * k], 0).confidence_interval(
            1 - 0.05 / 3
        )
        assert cell.margin == pytest.approx((high - low) / 2)


def test_folds_have_a_difference_without_an_interval():
    folds = [{0: 0.5, 1: 0.6, 2: 0.7}, {0: 0.52, 1: 0.63, 2: 0.74}]
    behind, _ = compare(
        [row(each, protocol="cross_validation") for each in folds]
    ).cells
    assert behind.behind == pytest.approx(0.03)
    assert behind.margin is None


def test_one_shared_choice_has_a_difference_without_an_interval():
    behind, best = compare([row({4: 0.5, 5: 0.9}), row({4: 0.75})]).cells
    assert (behind.behind, behind.margin) == (0.25, None)
    assert best.best


def test_where_no_choice_is_shared_nothing_is_best():
    apart = row({8: 0.9, 9: 0.9})
    column = compare([EASY, None, apart])
    assert column == Column(2, 0, [Cell(EASY), None, Cell(apart)])
    assert not any(cell.best for cell in column.cells if cell)


def test_a_collapsed_run_is_never_the_best_and_takes_no_choice_from_the_others():
    collapsed = row({1: 1.0, 9: 1.0}, collapsed=[9])
    column = compare([EASY, collapsed, HARD])
    assert (column.compared, column.shared) == (2, 2)
    assert column.cells[1] == Cell(collapsed)
    assert column.cells[2].best
    assert compare([collapsed, collapsed]) == Column(0, 0, [Cell(collapsed)] * 2)


def test_a_run_alone_is_not_the_best():
    assert compare([None, EASY]) == Column(1, 4, [None, Cell(EASY)])


def test_runs_that_are_as_good_are_both_the_best():
    assert [cell.best for cell in compare([HARD, HARD, EASY]).cells] == [1, 1, 0]
