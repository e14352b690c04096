"""scikit-learn's handwritten digits: 1797 images of 8x8 that need no download."""

import dataclasses

import numpy as np

from ssl_vae.datasets.dataset import Dataset, assemble

_BRIGHTEST = 16
_TEST_IMAGES = 360  # a fifth


def load() -> Dataset:
    """The data set, with 36 images of each class as its test part: always the same."""
    from sklearn.datasets import load_digits  # late: its import takes a second

    images, labels = load_digits(return_X_y=True)
    images = np.round(images.reshape(-1, 8, 8, 1) * (255 / _BRIGHTEST))
    whole = assemble(
        (images.astype(np.uint8), labels), None, name="digits", test_labels_from=""
    )
    return dataclasses.replace(
        whole.holdout(_TEST_IMAGES), name="digits", source="scikit-learn"
    )
