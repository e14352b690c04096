"""Which training images keep their labels: a class-balanced choice by split seed."""

import numpy as np

from ssl_vae.errors import InputError


def check_num_labels(labels: np.ndarray, num_labels: int) -> None:
    """Refuses a number of labels that cannot be shared out evenly among the classes.

    All the labels that there are may always be used.

    Args:
      labels: Labels of all training images, int32 [N], 0..K-1, or -1 for none.
      num_labels: How many images in all are to keep their label.

    Raises:
      InputError: naming the nearest numbers that can be used.
    """
    counts = np.bincount(labels[labels >= 0])
    num_classes, largest = len(counts), len(counts) * int(np.min(counts))
    every = int(np.sum(counts))
    evenly = 0 < num_labels <= largest and num_labels % num_classes == 0
    if evenly or num_labels == every:
        return
    below = min(num_labels // num_classes * num_classes, largest)
    nearest = {max(below, num_classes), min(below + num_classes, largest)}
    if num_labels > largest:
        nearest.add(every)
    or_all = f", or all {every}" if every > largest else ""
    raise InputError(
        f"--labels={num_labels}: the same number for each of the {num_classes} classes"
        f" is needed, {largest} labels at most{or_all}; nearest: "
        + " or ".join(str(n) for n in sorted(nearest) if n > 0)
    )


def choose_labeled(
    labels: np.ndarray, num_labels: int, *, split_seed: int
) -> np.ndarray:
    """Indices of the images that keep their labels: the same number in every class.

    Drawn without replacement. With one `split_seed` a smaller choice is a part of every
    larger one, so a curve over `num_labels` adds labels and never swaps them.

    Args:
      labels: Labels of all training images, int32 [N], 0..K-1, or -1 for none.
      num_labels: A multiple of the K classes, at most K times the smallest class; or
        all the labels that there are, whatever the classes have.
      split_seed: At least 0; it alone decides the choice.

    Returns:
      int64 [num_labels], ascending.

    Raises:
      InputError: for any other `num_labels`.
    """
    check_num_labels(labels, num_labels)
    every = np.flatnonzero(labels >= 0)
    if num_labels == len(every):
        return every
    num_classes = int(labels.max()) + 1
    rng = np.random.default_rng(split_seed)
    per_class = num_labels // num_classes
    # Each class is shuffled whole: the draws do not depend on num_labels.
    chosen = [
        rng.permutation(np.flatnonzero(labels == k))[:per_class]
        for k in range(num_classes)
    ]
    return np.sort(np.concatenate(chosen))
