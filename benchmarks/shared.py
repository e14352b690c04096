"""What the benchmarks of accuracy share: what is refused and how a cell reads."""

import argparse
from collections.abc import Callable, Sequence

import numpy as np

from ssl_vae.datasets import Dataset
from ssl_vae.errors import InputError


def at_least(least: int) -> Callable[[str], int]:
    """For --num_splits=10; a deviation needs two."""

    def whole_number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return whole_number


def with_test_images(data: Dataset) -> Dataset:
    """The data, where its test images are no training images.

    Raises:
      InputError: where they are.
    """
    if data.cross_validated:
        raise InputError(
            f"--dataset: {data.name} has no test images; this needs a data set with"
            " test images"
        )
    return data


def mean_and_deviation(scores: Sequence[float] | np.ndarray) -> str:
    """As "71.20 ± 0.45"; the sample deviation, 0 of a single score."""
    deviation = np.std(scores, ddof=1) if len(scores) > 1 else 0.0
    return f"{np.mean(scores):.2f} ± {deviation:.2f}"
