"""Label splits: which images keep their label, and which a classifier is measured on.

Where there are test images, a split is a class-balanced choice of labels, measured on
all of them. Where there are none, it is a fold of a cross-validation: all chosen labels
but the fold's, measured on the labeled images whose label was not given.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ssl_vae.datasets import Dataset
from ssl_vae.errors import InputError
from ssl_vae.labels import check_num_labels, choose_labeled

FOLDS = 5  # at most; fewer where a class has fewer labels
WHOLE = 2**31 - 1  # above all other seeds
USUAL_LABELS = (100, 600, 1000, 3000)  # of benchmarks, whose images all have labels


class Split(NamedTuple):
    """A choice of labels and its judges.

    Attributes:
      seed: At least 0; it alone decides the choice. WHOLE is that of `Splits.whole`.
      labeled: Training images that keep their label, int64 [n], ascending.
      measured: Test images that a classifier of them is measured on, int64, ascending.
    """

    seed: int
    labeled: np.ndarray
    measured: np.ndarray


@dataclass(frozen=True)
class Splits:
    """The splits of a data set at one number of labels.

    Attributes:
      data: The images; `cross_validated` tells which kind the splits are of.
      num_labels: How many labels are chosen, see `labels.choose_labeled`.
    """

    data: Dataset
    num_labels: int

    def check(self) -> None:
        """Refuses a number of labels that the classes do not have.

        Raises:
          InputError: with what can be had, or naming a class with a single label that
            a fold would be without.
        """
        check_num_labels(self.data.train_labels, self.num_labels)
        if self.data.cross_validated and self._class_counts.min() < 2:
            scarce = self.data.class_names[int(np.argmin(self._class_counts))]
            raise InputError(
                f"--labels={self.num_labels}: class {scarce!r} has a single label, and"
                " without test images every class needs two, for cross-validation;"
                " give more labels, or test images"
            )

    @property
    def protocol(self) -> str:
        """Of the rows in results.json."""
        return "cross_validation" if self.data.cross_validated else "inductive"

    @property
    def num_given(self) -> int:
        """How many labels a model or classifier of one split is given."""
        if not self.data.cross_validated:
            return self.num_labels
        return self.num_labels - -(-self.num_labels // self._num_folds)

    def number(self, asked: int) -> int:
        """How many splits are measured when so many are asked for.

        One if all labels are chosen: there is no other choice. In cross-validation
        whole passes, so that each labeled image is measured in every one: by one fold
        if its label was chosen, by all folds if not.
        """
        if self.data.cross_validated:
            return -(-asked // self._num_folds) * self._num_folds
        return 1 if self.num_labels == self.data.num_labeled else asked

    def split(self, seed: int) -> Split:
        """The split of a seed, at least 0."""
        if self.data.cross_validated:
            return self._fold(seed)
        chosen = choose_labeled(
            self.data.train_labels, self.num_labels, split_seed=seed
        )
        return Split(seed, chosen, np.arange(len(self.data.test_labels)))

    def _fold(self, seed: int) -> Split:
        """Fold seed % F of shuffle seed // F, of F folds that are given equally many.

        So seeds may be added to those that were measured.
        """
        shuffle, index = divmod(seed, self._num_folds)
        labels = self.data.train_labels
        shuffled = np.random.default_rng(shuffle).permutation(self.chosen)
        by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
        # Dealt out like cards: every fold has its share of every class.
        given = np.delete(by_class, np.s_[index :: self._num_folds])
        if len(given) > self.num_given:
            largest = np.argmax(np.bincount(labels[given]))
            given = np.delete(given, np.argmax(labels[given] == largest))
        # The test images are the labeled ones, in their order.
        labeled = np.flatnonzero(labels >= 0)
        return Split(seed, np.sort(given), np.flatnonzero(~np.isin(labeled, given)))

    @functools.cached_property
    def chosen(self) -> np.ndarray:
        """Training images with the labels that are shared out among the folds."""
        return choose_labeled(self.data.train_labels, self.num_labels, split_seed=0)

    @property
    def whole(self) -> Split:
        """All chosen labels and no judge: what a cross-validated run keeps is of it."""
        return Split(WHOLE, self.chosen, np.arange(0))

    @property
    def known(self) -> np.ndarray:
        """Training images whose label the classifier that a run keeps may have seen."""
        return self.chosen if self.data.cross_validated else self.split(0).labeled

    @property
    def _class_counts(self) -> np.ndarray:
        return np.bincount(self.data.train_labels[self.chosen])

    @property
    def _num_folds(self) -> int:
        """FOLDS, or fewer, so that each has an image of every class."""
        return min(FOLDS, int(np.min(self._class_counts)))


def usual_labels(data: Dataset) -> tuple[int, ...]:
    """The numbers of labels of a run that is asked for none in particular.

    Where images are unlabeled or there are no test images, somebody has given what
    labels there are: all of them. Otherwise those of USUAL_LABELS that the classes can
    share evenly, the next smaller number for each; or all if there are not as many.
    """
    if data.cross_validated or data.num_labeled < len(data.train_labels):
        return (data.num_labeled,)
    most = data.num_classes * int(np.min(np.bincount(data.train_labels)))
    even = [n // data.num_classes * data.num_classes for n in USUAL_LABELS if n <= most]
    return tuple(dict.fromkeys(n for n in even if n)) or (data.num_labeled,)


def first_measured(
    splits: Sequence[Split], values: Sequence[np.ndarray], num_images: int
) -> np.ndarray:
    """One row an image, [num_images, ...], by the first split that is measured on it.

    Args:
      splits: That together are measured on all images.
      values: Of each split, what it says of the images that it is measured on.
      num_images: How many test images there are.
    """
    out = np.empty([num_images, *values[0].shape[1:]], values[0].dtype)
    for split, mine in zip(reversed(splits), reversed(values), strict=True):
        out[split.measured] = mine
    return out
