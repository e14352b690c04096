"""What users of scikit-learn hand in, in the models' terms: pixels and labels."""

import math
import operator
import warnings
from typing import Any, NamedTuple

import numpy as np

from ssl_vae.errors import InputError

UNLABELED = -1


def flattened(X: Any, image_shape: tuple[int, ...] | None = None) -> Any:
    """Images [n, H, W] or [n, H, W, C] as rows [n, H * W * C]; anything else as it is.

    Args:
      X: What a user gives for images.
      image_shape: (H, W, C) that images have to have, if any will not do.

    Raises:
      InputError: for images of another size.
    """
    shape = image_shape_of(X)
    if shape is None:
        return X
    if image_shape is not None and shape != image_shape:
        raise InputError(
            f"X has images of {_size(shape)}; expected are {_size(image_shape)}"
        )
    images = np.asarray(X)
    return images.reshape(len(images), math.prod(shape))


def image_shape_of(X: Any) -> tuple[int, ...] | None:
    """(H, W, C) of images; None for anything else, such as rows of numbers."""
    shape = shape_of_each(X)
    return (*shape, 1)[:3] if len(shape) in (2, 3) else None


def shape_of_each(X: Any) -> tuple[int, ...]:
    """The shape of X without its first axis, of arrays and what is like them."""
    return tuple((X if hasattr(X, "shape") else np.asarray(X)).shape[1:])


def checked_image_shape(value: Any, num_features: int) -> tuple[int, ...]:
    """An estimator's `image_shape` as (H, W, C).

    Raises:
      InputError: where it is not the shape of images of so many numbers.
    """
    try:
        shape = tuple(operator.index(size) for size in value)
    except TypeError:
        shape = ()
    shape = (*shape, 1) if len(shape) == 2 else shape
    if len(shape) != 3 or min(shape) < 1 or math.prod(shape) != num_features:
        raise InputError(
            f"image_shape={value!r}: must be (H, W) or (H, W, C) with a product of"
            f" {num_features}, the numbers of an image in X"
        )
    return shape


def _size(image_shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in image_shape)


class PixelRange(NamedTuple):
    """What stands for black and for white."""

    low: float
    high: float

    @classmethod
    def of(cls, X: np.ndarray) -> "PixelRange":
        """0 to 1 where X is uint8 or lies in between; else the lowest and highest."""
        low, high = (0.0, 1.0) if X.dtype == np.uint8 else (X.min(), X.max())
        inside = low >= 0 and high <= 1
        return cls(0.0, 1.0) if inside else cls(float(low), float(high))

    def pixels(self, X: np.ndarray) -> np.ndarray:
        """X as float32 in [0, 1]; what lies beyond the range is clipped.

        uint8 is divided by 255, unless the range is that of numbers of another kind.
        """
        if X.dtype == np.uint8 and self.low == 0 and self.high == 1:
            return X.astype(np.float32) / 255
        width = (self.high - self.low) or 1.0
        scaled = X.astype(np.result_type(X, np.float32)) / width - self.low / width
        if scaled.min() < -1 or scaled.max() > 2:
            warnings.warn(
                f"X reaches from {X.min():.4g} to {X.max():.4g}, that of fit from"
                f" {self.low:.4g} to {self.high:.4g}: was it scaled in another way? It"
                " is clipped",
                stacklevel=4,
            )
        return np.clip(scaled, 0, 1).astype(np.float32)

    def restored(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels in [0, 1] as the numbers that they stand for, float32."""
        return np.float32(self.low) + pixels * np.float32(self.high - self.low)


def encoded_labels(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes, sorted, [K], and the labels as int32 [n], -1 for unlabeled.

    Args:
      y: [n]. Unlabeled is -1, in arrays of strings also "-1", which NumPy makes of it.
        Where there are -1 and 1 and nothing else, both are classes.

    Raises:
      InputError: for labels of no or of several kinds, and fewer than two classes.
    """
    labeled = is_labeled(y)
    if not labeled.any():
        raise InputError("y has no labels: every y is -1, which means unlabeled")
    classes, codes = np.unique(_of_one_kind(y[labeled]), return_inverse=True)
    if classes.tolist() == [1] and not labeled.all():
        warnings.warn(
            "y has -1 and 1 alone, so both are taken for classes; for -1 to mean"
            " unlabeled, two other classes are needed",
            stacklevel=3,
        )
        return np.array([UNLABELED, 1], classes.dtype), labeled.astype(np.int32)
    if len(classes) < 2:
        raise InputError(
            f"y has labels of one class alone, {classes.tolist()[0]!r}; at least two"
            " are needed"
        )
    labels = np.full(len(y), UNLABELED, np.int32)
    labels[labeled] = codes
    return classes, labels


def is_labeled(y: np.ndarray) -> np.ndarray:
    """Which of the y [n] are labels, bool [n]."""
    text = str(UNLABELED)
    if y.dtype.kind == "O":
        return np.array([value not in (UNLABELED, text) for value in y], bool)
    if y.dtype.kind == "U":
        return y != text
    return y != (text.encode() if y.dtype.kind == "S" else UNLABELED)


def _of_one_kind(y: np.ndarray) -> np.ndarray:
    """Labels as numbers or as strings, not as objects."""
    values = [v.item() if isinstance(v, np.generic) else v for v in y.tolist()]
    if any(value is None or value in ("", b"") for value in values):
        raise InputError("y has None or an empty string; unlabeled is -1")
    kinds = {type(value).__name__ for value in values}
    if len(kinds) > 1:
        raise InputError(f"y has labels of several kinds: {', '.join(sorted(kinds))}")
    return np.array(values)
