import numpy as np
import pytest

from ssl_vae.datasets.dataset import Dataset, assemble
from ssl_vae.errors import InputError
from ssl_vae.splits import Splits, first_measured, usual_labels


def data(counts, unlabeled=0, test=True) -> Dataset:
    """So many labeled images of each class, and unlabeled ones."""
    every = [*counts, unlabeled]
    labels = np.repeat([*range(len(counts)), -1], every)
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(len(labels), 3, 3, 1)).astype(np.uint8)
    test_part = (images[:2], np.arange(2)) if test else None
    return assemble((images, labels), test_part, name="some", test_labels_from="it")


def test_with_test_images_a_split_is_a_choice_measured_on_all_of_them():
    splits = Splits(data([6, 6, 9], unlabeled=5), 9)
    for seed in range(splits.number(3)):
        split = splits.split(seed)
        labels = splits.data.train_labels[split.labeled]
        np.testing.assert_array_equal(np.bincount(labels), [3, 3, 3])
        np.testing.assert_array_equal(split.measured, [0, 1])
    assert splits.number(3) == 3
    assert splits.num_given == 9
    assert splits.protocol == "inductive"


def test_all_labels_are_one_choice_whatever_the_classes_have():
    splits = Splits(data([2, 7, 1], unlabeled=5), 10)
    splits.check()
    assert splits.number(10) == 1
    assert (splits.data.train_labels[splits.split(0).labeled] >= 0).all()
    assert len(splits.split(0).labeled) == 10


@pytest.mark.parametrize("counts", [[2, 3], [3, 3, 3], [11, 4, 7], [40, 41], [2, 90]])
def test_folds_share_out_the_labeled_images_evenly(counts):
    splits = Splits(data(counts, unlabeled=8, test=False), sum(counts))
    splits.check()
    num_folds = min(5, *counts)
    assert splits.number(1) == splits.number(num_folds) == num_folds
    assert splits.number(num_folds + 1) == 2 * num_folds
    folds = [splits.split(seed) for seed in range(num_folds)]
    for fold in folds:
        assert len(fold.labeled) == splits.num_given
        labels = splits.data.train_labels[fold.labeled]
        assert np.bincount(labels).min() >= 1
        assert len(np.bincount(labels)) == len(counts)
    seen = np.concatenate([fold.measured for fold in folds])
    np.testing.assert_array_equal(np.unique(seen), np.arange(sum(counts)))
    assert len(seen) - sum(counts) < num_folds  # next to none is measured twice


def test_no_image_is_measured_by_a_split_that_was_given_its_label():
    own = data([11, 4, 7], unlabeled=8, test=False)
    for num_labels in (12, 22):
        splits = Splits(own, num_labels)
        for seed in range(splits.number(10)):
            split = splits.split(seed)
            test_rows = np.flatnonzero(own.train_labels >= 0)
            assert not np.intersect1d(split.labeled, test_rows[split.measured]).size
            assert len(split.labeled) + len(split.measured) == 22


def test_a_second_pass_is_another_shuffle_and_a_seed_is_always_the_same():
    splits = Splits(data([20, 20], test=False), 40)
    again = Splits(data([20, 20], test=False), 40)
    np.testing.assert_array_equal(splits.split(7).labeled, again.split(7).labeled)
    assert (splits.split(2).labeled != splits.split(7).labeled).any()


def test_a_class_with_one_label_cannot_be_cross_validated():
    with pytest.raises(InputError, match="class '1' has a single label.*test images"):
        Splits(data([5, 1], test=False), 6).check()
    with pytest.raises(InputError, match="--labels=2: class '0' has a single label"):
        Splits(data([5, 5], test=False), 2).check()
    Splits(data([5, 1]), 6).check()


@pytest.mark.parametrize(
    ("counts", "unlabeled", "test", "usual"),
    [
        ([400] * 10, 0, True, (100, 600, 1000, 3000)),
        ([139] * 10, 0, True, (100, 600, 1000)),
        ([400] * 3, 0, True, (99, 600, 999)),
        ([20] * 3, 0, True, (60,)),
        ([400] * 3, 1, True, (1200,)),
        ([400] * 3, 0, False, (1200,)),
        ([3, 2], 9, False, (5,)),
        ([2] * 120, 0, True, (240,)),
    ],
)
def test_the_usual_numbers_of_labels_fit_the_data(counts, unlabeled, test, usual):
    own = data(counts, unlabeled, test)
    assert usual_labels(own) == usual
    for num_labels in usual:
        Splits(own, num_labels).check()


def test_of_several_splits_the_first_has_its_say():
    splits = Splits(data([2, 3], test=False), 5)
    folds = [splits.split(seed) for seed in range(4)]
    values = [np.full(len(f.measured), f.seed) for f in folds]
    said = first_measured(folds, values, 5)
    assert set(said) == {0, 1}
    assert (said[folds[0].measured] == 0).all()
