"""A labeled data set in canonical order: what every source is turned into."""

import dataclasses
import functools
import hashlib

import numpy as np

from ssl_vae.datasets import known
from ssl_vae.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Train and test images with their labels, in canonical order.

    Attributes:
      name: "fashion_mnist", "mnist", or the folder's name for an unknown set.
      train_images: uint8 [N, height, width, channels], 0 to 255.
      train_labels: int32 [N], 0 to num_classes - 1.
      test_images: uint8 [M, height, width, channels], 0 to 255.
      test_labels: int32 [M], 0 to num_classes - 1.
      class_names: one name a class, in label order.
      source: where the images came from, a short phrase for the console.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: str

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C)."""
        return self.train_images.shape[1:]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @functools.cached_property
    def sha256(self) -> str:
        """Hex digest of the shapes and bytes of the arrays: train, then test."""
        digest = hashlib.sha256()
        for images, labels in (
            (self.train_images, self.train_labels),
            (self.test_images, self.test_labels),
        ):
            digest.update(repr(images.shape).encode())
            digest.update(np.ascontiguousarray(images).data)
            # The digest is the same on a big-endian machine.
            digest.update(labels.astype("<i4").tobytes())
        return digest.hexdigest()

    @property
    def identity(self) -> dict[str, str | int]:
        """The data in results.json: name, numbers of images, digest."""
        return {
            "name": self.name,
            "train": len(self.train_images),
            "test": len(self.test_images),
            "sha256": self.sha256,
        }

    def holdout(self, num: int) -> "Dataset":
        """The same data set with training images in place of the test set.

        Hyper-parameters are chosen on it, so that the test set stays unseen.

        Args:
          num: how many training images are held out: the first ``num / num_classes``
            of each class in canonical order.

        Raises:
          InputError: ``num`` is not a positive multiple of ``num_classes``, or leaves
            a class without training images.
        """
        held = self._first_of_each_class(num)
        return dataclasses.replace(
            self,
            name=f"{self.name}-validation",
            train_images=self.train_images[~held],
            train_labels=self.train_labels[~held],
            test_images=self.train_images[held],
            test_labels=self.train_labels[held],
        )

    def _first_of_each_class(self, num: int) -> np.ndarray:
        """Mask of the held-out training images, bool [N]."""
        per_class, rest = divmod(num, self.num_classes)
        if num <= 0 or rest:
            raise InputError(
                f"cannot hold out {num} training images: "
                f"choose a positive multiple of {self.num_classes}, the classes"
            )
        smallest = int(np.min(np.bincount(self.train_labels)))
        if per_class >= smallest:
            raise InputError(
                f"cannot hold out {num} training images: the smallest class has "
                f"{smallest}, choose less than {smallest * self.num_classes}"
            )
        held = np.zeros(len(self.train_labels), bool)
        for label in range(self.num_classes):
            held[np.flatnonzero(self.train_labels == label)[:per_class]] = True
        return held


def assemble(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    name: str,
    test_labels_from: str,
) -> Dataset:
    """The data set made of decoded images and the labels as the source wrote them.

    Args:
      train: images uint8 [N, height, width, channels] and integer labels [N].
      test: images uint8 [M, height, width, channels] and integer labels [M].
      name: the data set's name.
      test_labels_from: file or folder that an error about the test labels names.

    Raises:
      InputError: the training images are of one class, or a test label is of none.
    """
    values = np.unique(train[1])
    if len(values) < 2:
        raise InputError(
            f"{test_labels_from}: all training images have the label {values[0]}: "
            "a classifier needs two classes or more"
        )
    unseen = np.setdiff1d(test[1], values)
    if unseen.size:
        raise InputError(
            f"{test_labels_from} has the label {unseen[0]}, which no training image "
            "has: check that the train and test files belong together"
        )
    train_images, train_labels = _in_canonical_order(*train)
    test_images, test_labels = _in_canonical_order(*test)
    return Dataset(
        name=name,
        train_images=train_images,
        train_labels=np.searchsorted(values, train_labels).astype(np.int32),
        test_images=test_images,
        test_labels=np.searchsorted(values, test_labels).astype(np.int32),
        class_names=known.class_names(name, values.tolist()),
        source="",
    )


def _in_canonical_order(
    images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels sorted by (sha256 of the image, label).

    TFDS shuffles what it prepares, so a file's own order would make "the first 600
    labels" mean something else for every source.
    """
    rows = images.reshape(len(images), -1)
    digests = b"".join(hashlib.sha256(row.data).digest() for row in rows)
    words = np.frombuffer(digests, ">u8").reshape(len(images), 4)
    order = np.lexsort((labels, *words.T[::-1]))  # the last key sorts first
    return images[order], labels[order]
