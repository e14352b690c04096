"""A labeled data set in canonical order: what every source is turned into."""

import dataclasses
import functools
import hashlib
import math
from typing import Any

import numpy as np

from ssl_vae.datasets import known
from ssl_vae.datasets.stored import StoredImages, in_parts
from ssl_vae.errors import InputError

Images = np.ndarray | StoredImages
Arrays = tuple[Images, np.ndarray]  # images, and labels as the source wrote them


MAX_SIDE = 256  # pixels: the networks are fully connected
MAX_BYTES = 4 << 30  # of images that are read into memory


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Train and test images with their labels, in canonical order.

    Attributes:
      name: "fashion_mnist", "mnist", or the folder's or file's name for an unknown set.
      train_images: uint8 [N, height, width, channels], 0 to 255; those of a large set
        may be left in their file.
      train_labels: int32 [N], 0 to num_classes - 1, or -1 for an unlabeled image.
      test_images: uint8 [M, height, width, channels], 0 to 255.
      test_labels: int32 [M], 0 to num_classes - 1.
      class_names: one name a class, in label order.
      source: where the images came from, a short phrase for the console.
      train_sources: [N], what each training image is in its source: the row, int64, or
        the file's path within the folder, str.
      cross_validated: whether the set has no test images of its own. Those here are
        then its labeled training images, each to be judged by a classifier that was
        not given its label.
      notes: what was done to the images that their owner may want to know, a line each.
    """

    name: str
    train_images: Images
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: str
    train_sources: np.ndarray
    cross_validated: bool = False
    notes: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C)."""
        return self.train_images.shape[1:]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def num_labeled(self) -> int:
        """Number of training images with a label."""
        return int(np.count_nonzero(self.train_labels >= 0))

    @property
    def sha256(self) -> str:
        """Hex digest of the shapes and bytes of the arrays: train, then test."""
        return self._digests[0]

    @property
    def images_sha256(self) -> str:
        """That of the training images alone, whatever labels they have."""
        return self._digests[1]

    @functools.cached_property
    def _digests(self) -> tuple[str, str]:
        digest, of_images = hashlib.sha256(), []
        for images, labels in (
            (self.train_images, self.train_labels),
            (self.test_images, self.test_labels),
        ):
            digest.update(repr(images.shape).encode())
            for part in in_parts(images):
                digest.update(np.ascontiguousarray(part).data)
            of_images.append(digest.hexdigest())
            # The digest is the same on a big-endian machine.
            digest.update(labels.astype("<i4").tobytes())
        return digest.hexdigest(), of_images[0]

    @property
    def identity(self) -> dict[str, Any]:
        """The data in results.json: name, numbers of images, digest, classes, shape."""
        return {
            "name": self.name,
            "train": len(self.train_images),
            "test": 0 if self.cross_validated else len(self.test_images),
            "sha256": self.sha256,
            "images_sha256": self.images_sha256,
            "class_names": list(self.class_names),
            "image_shape": list(self.image_shape),
        }

    def described(self, **words: Any) -> "Dataset":
        """The same images and labels with another name, source or notes."""
        other = dataclasses.replace(self, **words)
        if "_digests" in vars(self):  # of the arrays alone: not to be taken again
            vars(other)["_digests"] = self._digests
        return other

    def holdout(self, num: int) -> "Dataset":
        """The same data set with training images in place of the test set.

        Hyper-parameters are chosen on it, so that the test set stays unseen.

        Args:
          num: how many labeled training images are held out: the first
            ``num / num_classes`` of each class in canonical order.

        Raises:
          InputError: ``num`` is not a positive multiple of ``num_classes``, or leaves
            a class without labeled images.
        """
        held = self._first_of_each_class(num)
        return dataclasses.replace(
            self,
            name=f"{self.name}-validation",
            train_images=self.train_images.take(np.flatnonzero(~held), axis=0),
            train_labels=self.train_labels[~held],
            train_sources=self.train_sources[~held],
            test_images=self.train_images[held],
            test_labels=self.train_labels[held],
            cross_validated=False,
        )

    def _first_of_each_class(self, num: int) -> np.ndarray:
        """Mask of the held-out training images, bool [N]."""
        per_class, rest = divmod(num, self.num_classes)
        if num <= 0 or rest:
            raise InputError(
                f"cannot hold out {num} training images: "
                f"choose a positive multiple of {self.num_classes}, the classes"
            )
        labels = self.train_labels[self.train_labels >= 0]
        smallest = int(np.min(np.bincount(labels)))
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
    train: Arrays,
    test: Arrays | None,
    *,
    name: str,
    test_labels_from: str,
    class_names: tuple[str, ...] = (),
    sources: np.ndarray | None = None,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """The data set made of decoded images and the labels as the source wrote them.

    Args:
      train: images uint8 [N, height, width, channels] and labels [N], integers with -1
        for an unlabeled image or strings with "".
      test: images uint8 [M, height, width, channels] and labels [M] of the same kind;
        None for a set without test images.
      name: the data set's name.
      test_labels_from: file or folder that an error about the labels names.
      class_names: names by label value; by default known, or the values as text.
      sources: [N], see ``Dataset.train_sources``; by default the rows of ``train``.
      notes: see ``Dataset.notes``.

    Raises:
      InputError: see `check_labels`.
    """
    test_values = test[1] if test else None
    check_labels(train[1], test_values, train[0].shape[1:], test_labels_from)
    labeled = train[1] != unlabeled_value(train[1])
    values = np.unique(train[1][labeled])
    # Classes by their place among the values: the order of the values is kept.
    codes = np.where(labeled, np.searchsorted(values, train[1]), -1).astype(np.int32)
    order = _canonical_order(train[0], codes)
    images, labels = train[0].take(order, axis=0), codes[order]
    if test:
        test_images, test_labels = _test_part(test, values)
    else:
        judges = np.flatnonzero(labels >= 0)
        test_images, test_labels = np.asarray(images[judges]), labels[judges]
    names = tuple(class_names[value] for value in values) if class_names else ()
    return Dataset(
        name=name,
        train_images=images,
        train_labels=labels,
        test_images=test_images,
        test_labels=test_labels,
        class_names=names or known.class_names(name, values.tolist()),
        source="",
        train_sources=order if sources is None else sources[order],
        cross_validated=test is None,
        notes=notes,
    )


def check_labels(
    labels: np.ndarray,
    test_labels: np.ndarray | None,
    image_shape: tuple[int, ...],
    where: str,
) -> None:
    """Refuses labels of which no data set can be made; no image is needed to say so.

    Args:
      labels: of the training images, see `assemble`.
      test_labels: None for a set without test images.
      image_shape: (height, width, channels).
      where: file or folder that the message names.

    Raises:
      InputError: the labeled images are of one class or none, a test label is of no
        class, or the labeled images have to be the test images and are too many.
    """
    labeled = labels != unlabeled_value(labels)
    values = np.unique(labels[labeled])
    if len(values) < 2:
        fault = "no training image has a label"
        if len(values):
            which = "all" if labeled.all() else "all labeled"
            fault = f"{which} training images have the label {values[0]}"
        raise InputError(f"{where}: {fault}: a classifier needs two classes or more")
    if test_labels is None:
        if (num := np.count_nonzero(labeled)) * math.prod(image_shape) > MAX_BYTES:
            raise InputError(
                f"{where}: without test images the labeled ones are read into memory, "
                f"and these {num} are more than the limit of {MAX_BYTES >> 30} GiB; "
                "give test images"
            )
    elif (unseen := np.setdiff1d(test_labels, values)).size:
        raise InputError(
            f"{where} has the label {unseen[0]}, which no training image has: check "
            "that the train and test files belong together"
        )


def unlabeled_value(labels: np.ndarray) -> str | int:
    """What stands for no label among integers, and among strings."""
    return "" if labels.dtype.kind == "U" else -1


def _test_part(test: Arrays, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Test images in canonical order, and their classes, int32 [M]."""
    images, labels = test
    codes = np.searchsorted(values, labels).astype(np.int32)
    order = _canonical_order(images, codes)
    return np.asarray(images[order]), codes[order]


def _canonical_order(images: Images, codes: np.ndarray) -> np.ndarray:
    """Rows sorted by (sha256 of the image, label), int64 [N].

    TFDS shuffles what it prepares, so a file's own order would make "the first 600
    labels" mean something else for every source.
    """
    digests = b"".join(
        hashlib.sha256(image.data).digest()
        for part in in_parts(images)
        for image in np.ascontiguousarray(part).reshape(len(part), -1)
    )
    words = np.frombuffer(digests, ">u8").reshape(len(images), 4)
    return np.lexsort((codes, *words.T[::-1]))  # the last key sorts first
