"""What knowledge of images gives the features of `m1_features` beyond its gradients.

    python benchmarks/images.py --data_dir=DIR
    python benchmarks/images.py --data_dir=DIR --row=m1_features --row="patch networks"

Epochs, batches and learning rate are those of the recipe, held-out training images
stand in for the test images, and the SVM has C=2 and gamma="scale". A star is a gain
over `m1_features`, choice of labels by choice, of more than chance reaches in 2.5 % of
cells (Student's t); where that row is not asked for there are none.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from image_models import Convolutional, Moved, Patched, Shape, mirrored
from objectives import asked, over_splits, pixels_of, trained
from unlabeled import cell

from ssl_vae import config as recipes
from ssl_vae import fitting
from ssl_vae.augment import nudged
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.classifiers.svm import fit_svm
from ssl_vae.datasets import Dataset
from ssl_vae.models import M1, active_units
from ssl_vae.splits import usual_labels

# What is seen of images x [batch, pixels]: so many arrays of that size.
LOOKS: dict[str, Callable[[jax.Array, Shape], list[jax.Array]]] = {
    "one": lambda x, shape: [x],
    "five times": lambda x, shape: [x] * 5,
    "shifted": nudged,
    "mirrored": lambda x, shape: [x, mirrored(x, shape)],
}
# The looks at the labeled images that the SVM learns from, and at those it is asked.
WAYS = {
    "": ("one", "one"),
    "  labeled images five times": ("five times", "one"),
    "  labeled images also shifted": ("shifted", "one"),
    "  labeled images also mirrored": ("mirrored", "one"),
    "  mean over five looks": ("one", "shifted"),
    "  shifted, and five looks": ("shifted", "shifted"),
    "  mirrored, and two looks": ("mirrored", "mirrored"),
}


@dataclass(frozen=True)
class Row:
    """What is trained, and what is made of its features.

    Attributes:
      kind: The model.
      changes: Fields of it that are not the recipe's.
      seeds: One training each; with several there is an ensemble of them.
      ways: Of WAYS; an ensemble has the first only.
    """

    kind: type[M1] = M1
    changes: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (42,)
    ways: Sequence[str] = ("",)


ROWS = {
    "m1_features": Row(ways=tuple(WAYS)),
    "ensemble of 3 seeds": Row(seeds=(42, 43, 44)),
    "trained on shifted images": Row(Moved, ways=("", "  labeled images also shifted")),
    "trained on shifted and mirrored images": Row(
        Moved, {"mirrors": True}, ways=("", "  labeled images also mirrored")
    ),
    "patch networks": Row(Patched),
    "convolutional encoder": Row(Convolutional),
}


class Given(NamedTuple):
    """Features of one VAE: what an SVM learns from and what it is asked.

    Attributes:
      train: Of the training images, float [N, dim] a look; the label is the same.
      test: Of the images it is measured on, float [M, dim] a look.
    """

    train: list[np.ndarray]
    test: list[np.ndarray]


def side_by_side(members: Sequence[Given]) -> Given:
    """One whose features are those of all, look by look."""
    train, test = (
        [np.concatenate(look, axis=1) for look in zip(*looks, strict=True)]
        for looks in zip(*members, strict=True)
    )
    return Given(train, test)


def said_of_classes(
    members: Sequence[Given], chosen: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Log probabilities of the classes, averaged over members and looks: [M, K].

    A single member needs no temperature: the likeliest class is the same at any.

    Args:
      members: An SVM each.
      chosen: The labeled training images, int [n].
      labels: Their classes, int [n].
    """
    said = []
    for given in members:
        features = np.concatenate([look[chosen] for look in given.train])
        known = np.tile(labels, len(given.train))
        if len(members) > 1:
            svm = CalibratedSVM.fitted(features, known, C=2.0, standardize=False)
        else:
            pipeline = fit_svm(features, known, C=2.0, standardize=False)
            svm = CalibratedSVM(pipeline, 1.0, np.zeros(len(np.unique(labels))))
        said.append(np.mean([svm.log_probs(look) for look in given.test], axis=0))
    return np.mean(said, axis=0)


def accuracies(
    data: Dataset, members: Sequence[Given], num_labels: int, num_splits: int
) -> np.ndarray:
    """Of the likeliest classes, %, one a label split."""

    def accuracy(chosen: np.ndarray) -> float:
        said = said_of_classes(members, chosen, data.train_labels[chosen])
        return float(np.mean(said.argmax(axis=1) == data.test_labels))

    return over_splits(data, num_labels, num_splits, accuracy)


def features(model: M1, params: dict, x: np.ndarray, looks: str) -> list[np.ndarray]:
    """Of images x [N, pixels], [N, latent] a look."""

    def of_looks(params: dict, x: jax.Array) -> list[jax.Array]:
        seen = LOOKS[looks](x, model.image_shape)
        return [model.features(params, look) for look in seen]

    found: list[np.ndarray] = fitting.map_rows(of_looks, params, x)
    return found


class Trained(NamedTuple):
    """A model after its training.

    Attributes:
      model: The model.
      params: Its parameters.
      elbo: Of the pixels, mean over the measured images, nats.
      seconds: Of the processor, an epoch; compilation is shared out among them.
    """

    model: M1
    params: dict
    elbo: float
    seconds: float


class Measured(NamedTuple):
    """A line of the table.

    Attributes:
      name: Of the row, or of what was made of the features of the row above.
      units: Active ones.
      elbo: As in `Trained`, mean over the members.
      seconds: Likewise.
      accuracies: %, [num_splits] for each number of labels.
    """

    name: str
    units: int
    elbo: float
    seconds: float
    accuracies: list[np.ndarray]


def trainer(data: Dataset) -> Callable[[M1, int], Trained]:
    """Trains a model with a seed on the training images; the same only once."""
    x, x_test = pixels_of(data.train_images), pixels_of(data.test_images)
    num_epochs = recipes.load(recipes.recipe_path("m1_features")).train.num_epochs

    @cache
    def train(model: M1, seed: int) -> Trained:
        start = time.process_time()
        params = trained(model, x, seed)
        seconds = (time.process_time() - start) / num_epochs
        elbo = float(fitting.elbos(model, params, x_test).mean())
        return Trained(model, params, elbo, seconds)

    return train


def measured(
    data: Dataset, name: str, num_splits: int, train: Callable[[M1, int], Trained]
) -> Iterator[Measured]:
    """The lines of a row, each as soon as it is there."""
    row = ROWS[name]
    fields = recipes.load(recipes.recipe_path("m1_features")).model
    model = row.kind(data.image_shape, **(recipes.model_fields(fields) | row.changes))
    x_train, x_test = pixels_of(data.train_images), pixels_of(data.test_images)
    members = [train(model, seed) for seed in row.seeds]

    def line(name: str, given: list[Given], members: list[Trained]) -> Measured:
        return Measured(
            name,
            len(active_units(np.concatenate([each.test[0] for each in given], axis=1))),
            float(np.mean([each.elbo for each in members])),
            float(np.mean([each.seconds for each in members])),
            [accuracies(data, given, n, num_splits) for n in usual_labels(data)],
        )

    for way in row.ways:
        of_labeled, of_measured = WAYS[way]
        given = [
            Given(
                features(model, each.params, x_train, of_labeled),
                features(model, each.params, x_test, of_measured),
            )
            for each in members
        ]
        yield line(way or name, given, members)
    if len(members) > 1:
        yield line("  features side by side", [side_by_side(given)], members)
        for seed, one, member in zip(row.seeds, given, members, strict=True):
            yield line(f"  seed {seed} alone", [one], [member])


def main() -> None:
    """Prints the table, a row as soon as it is there."""
    data, names, num_splits = asked(__doc__, ROWS, num_splits=5)
    counts = usual_labels(data)
    print(
        f"validation accuracy %, {num_splits} label splits; ELBO of the pixels,"
        " nats; processor seconds an epoch"
    )
    head = "".join(f"{count:>15} " for count in counts)
    print(f"{'':40}{'units':>5}{'ELBO':>8}{'s':>6}{head}", flush=True)
    train, reference = trainer(data), []
    for name in names:
        for line in measured(data, name, num_splits, train):
            if line.name == "m1_features":
                reference = line.accuracies
            # Nothing is better than itself.
            beside = zip(line.accuracies, reference or line.accuracies, strict=True)
            cells = "".join(f"{cell(*both):>16}" for both in beside)
            start = f"{line.name:40}{line.units:5d}{line.elbo:8.1f}{line.seconds:6.1f}"
            print(start + cells, flush=True)


if __name__ == "__main__":
    main()
