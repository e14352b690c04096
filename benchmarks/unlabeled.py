r"""Ways to use the unlabeled images on the features of a finished run of M1.

    python -m ssl_vae.main --config=configs/m1_features.py --workdir=RUN \
        --config.evaluate_on=validation --config.importance_samples=1 \
        --config.classifier.cross_validate=False
    python benchmarks/unlabeled.py --workdir=RUN

Labels spread over the graph of the training images' nearest neighbors, or name the
clusters of a Gaussian mixture. Held-out images stand in for the test images. They are
in no graph and no mixture: what they get is an average over their neighbors in the
training images, so that the figures are inductive. A star says: better than the SVM
alone, choice of labels by choice, by more than chance reaches in 2.5 % of cells
(Student's t of the differences).
"""

import argparse
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse, stats
from scipy.sparse.csgraph import connected_components, laplacian
from shared import at_least, mean_and_deviation
from sklearn.mixture import GaussianMixture

import ssl_vae
from ssl_vae import datasets
from ssl_vae.checked import without_validation
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.classifiers.graph import Neighbors, smoothed, solve
from ssl_vae.classifiers.svm import fit_svm
from ssl_vae.datasets import Dataset
from ssl_vae.errors import InputError
from ssl_vae.labels import choose_labeled
from ssl_vae.results import Results
from ssl_vae.splits import usual_labels

NUM_NEIGHBORS = 10
NUM_TAUGHT = 4_000  # images whose propagated label an SVM is given
NUM_CLUSTERS = 10  # of the mixture; many more take many minutes
SVM = {"C": 2.0, "standardize": False}
ACCURACY = 1e-4  # of solutions: these equations take many steps
TINY = 1e-9


class Given(NamedTuple):
    """All that a way is given but the labels.

    Attributes:
      train: Features of the training images, float [N, dim].
      test: Of the images that are measured on, [M, dim].
      graph: Weights between training images, [N, N], symmetric, >= 0.
      neighbors: Weights of training images for each of the others, [M, N]; rows sum
        to 1.
    """

    train: np.ndarray
    test: np.ndarray
    graph: sparse.csr_array
    neighbors: sparse.csr_array

    @classmethod
    def of(cls, train: np.ndarray, test: np.ndarray, num_neighbors: int) -> "Given":
        """With the graph of the nearest neighbors.

        Raises:
          InputError: where the graph is not connected, or there are too few images.
        """
        if num_neighbors >= len(train):
            raise InputError(
                f"--num_neighbors={num_neighbors}: there are {len(train)} images;"
                " choose fewer"
            )
        among = Neighbors(train, num_neighbors)
        graph = among.graph()
        if (parts := connected_components(graph)[0]) > 1:
            raise InputError(
                f"--num_neighbors={num_neighbors}: the graph falls into {parts} parts;"
                " choose more"
            )
        return cls(train, test, graph, among.of(test))


# What is given, the labeled images [n] and their classes as one-hot [n, K] -> by name,
# scores of the classes of the images that are measured on, [M, K].
Way = Callable[[Given, np.ndarray, np.ndarray], dict[str, np.ndarray]]
# Graph, labeled images and classes as one-hot -> values of all training images, [N, K].
Propagate = Callable[[sparse.csr_array, np.ndarray, np.ndarray], np.ndarray]


def laplace(
    graph: sparse.csr_array, known: np.ndarray, one_hot: np.ndarray
) -> np.ndarray:
    """The harmonic function that is `one_hot` at the labeled images, [N, K].

    Source: Zhu et al. 2003, "Semi-supervised learning using Gaussian fields and
    harmonic functions".
    """
    matrix = sparse.csr_array(laplacian(graph))
    others = np.setdiff1d(np.arange(graph.shape[0]), known)
    values = np.zeros([graph.shape[0], one_hot.shape[1]])
    values[known] = one_hot
    rows = matrix[others]
    values[others] = solve(
        rows[:, others], -rows[:, known] @ one_hot, accuracy=ACCURACY
    )
    return values


def poisson(
    graph: sparse.csr_array, known: np.ndarray, one_hot: np.ndarray
) -> np.ndarray:
    """The potential of a source at every labeled image, [N, K].

    What a class's images send out the others' take in, so it stays in balance; far from
    all labels it does not become the same for all, as it does in `laplace`.

    Source: Calder et al. 2020, arXiv:2006.11184, section 2.
    """
    sources = np.zeros([graph.shape[0], one_hot.shape[1]])
    sources[known] = one_hot - one_hot.mean(axis=0)
    return solve(sparse.csr_array(laplacian(graph)), sources, accuracy=ACCURACY)


def svms(given: Given, known: np.ndarray, one_hot: np.ndarray) -> dict[str, np.ndarray]:
    """The SVM alone, and what the unlabeled images can do to its probabilities."""
    labels = one_hot.argmax(axis=1)
    fitted = CalibratedSVM.fitted(given.train[known], labels, **SVM)
    alone = fitted.scores(given.test)
    fitted, of_train = fitted.aligned(given.train, one_hot.mean(axis=0))
    train, test = np.exp(of_train), np.exp(fitted.log_probs(given.test))
    values, smoother = (smoothed(given.graph, train, s) for s in (1, 3))
    return {
        "SVM": alone,
        "  classes in proportion": test,
        "  and smoothed over the graph": test + given.neighbors @ values,
        "  SVM of its labels": taught(given, values, known, one_hot),
        "  smoothed with strength 3": test + 3 * (given.neighbors @ smoother),
    }


def propagation(
    name: str,
    propagate: Propagate,
    given: Given,
    known: np.ndarray,
    one_hot: np.ndarray,
) -> dict[str, np.ndarray]:
    """Averages over neighbors of what propagates over the graph; and an SVM of it."""
    values = propagate(given.graph, known, one_hot)
    return {
        name: given.neighbors @ values,
        "  SVM of its labels": taught(given, values, known, one_hot),
    }


def taught(
    given: Given, values: np.ndarray, known: np.ndarray, one_hot: np.ndarray
) -> np.ndarray:
    """What an SVM says that is fitted to the known and the surer of values [N, K]."""
    rows = np.concatenate([known, surer(values, known)])
    guesses = values.argmax(axis=1)
    guesses[known] = one_hot.argmax(axis=1)
    fitted = fit_svm(given.train[rows], guesses[rows], **SVM)
    return one_hot_of(fitted.predict(given.test), one_hot.shape[1])


def surer(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Images to teach by the labels that values [N, K] give them, none of the known.

    As many of each class, NUM_TAUGHT in all at most, drawn from the half of them that
    has the larger margin between the first class and the second.
    """
    ranked, guesses = np.sort(values, axis=1), values.argmax(axis=1)
    margin = ranked[:, -1] - ranked[:, -2]
    rng = np.random.default_rng(0)
    chosen = []
    for k in range(values.shape[1]):
        mine = np.setdiff1d(np.flatnonzero(guesses == k), known)
        half = mine[np.argsort(-margin[mine])][: len(mine) // 2]
        size = min(len(half), NUM_TAUGHT // values.shape[1])
        chosen.append(rng.choice(half, size, replace=False))
    return np.concatenate(chosen)


def mixture(given: Given) -> Way:
    """Clusters of a Gaussian mixture, which the labeled images in them name."""
    found = GaussianMixture(NUM_CLUSTERS, random_state=0, max_iter=200).fit(given.train)
    train, test = (found.predict_proba(x) for x in (given.train, given.test))
    name = f"Gaussian mixture, {NUM_CLUSTERS} clusters"
    return lambda _, known, one_hot: {name: test @ names(train[known], one_hot)}


def names(shares: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
    """Probabilities of the classes in each cluster, [clusters, K].

    Args:
      shares: Of the labeled images in the clusters, [n, clusters].
      one_hot: Their classes, [n, K].
    """
    counts = shares.T @ one_hot + TINY  # a cluster without a label: any class
    return counts / counts.sum(axis=1, keepdims=True)


def one_hot_of(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """[n] -> float64 [n, K]."""
    return np.eye(num_classes)[classes]


def ways(given: Given) -> Iterator[Way]:
    """All of them; the first row of the first is what the others are compared with."""
    yield svms
    yield partial(propagation, "Laplace learning", laplace)
    yield partial(propagation, "Poisson learning", poisson)
    yield mixture(given)


def accuracies(
    data: Dataset, given: Given, way: Way, num_labels: int, num_splits: int
) -> dict[str, np.ndarray]:
    """Of a way, %, by name and label split."""

    def of_split(split_seed: int) -> dict[str, float]:
        known = choose_labeled(data.train_labels, num_labels, split_seed=split_seed)
        one_hot = one_hot_of(data.train_labels[known], data.num_classes)
        said = way(given, known, one_hot)
        return {
            name: 100 * np.mean(scores.argmax(axis=1) == data.test_labels)
            for name, scores in said.items()
        }

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(of_split, range(num_splits)))
    return {name: np.array([split[name] for split in found]) for name in found[0]}


def cell(scores: np.ndarray, of_svm: np.ndarray) -> str:
    """Mean, deviation, and a star for what is better than the SVM.

    Better is a mean gain above the 97.5 % quantile of Student's t for so many choices,
    in standard errors: 2.78 of them for five, 2.26 for ten.
    """
    gain = scores - of_svm
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    better = gain.mean() > stats.t.ppf(0.975, len(gain) - 1) * error
    return mean_and_deviation(scores) + ("*" if better else " ")


def held_out(workdir: Path, data: Dataset) -> Dataset:
    """The images that a run was trained and measured on.

    Raises:
      InputError: where it is no finished run, or one of other images.
    """
    found = without_validation(data)
    if Results.of_finished_run(workdir).dataset["sha256"] != found.sha256:
        raise InputError(
            f"--workdir={workdir}: was trained on other images; give a run of"
            " --config.evaluate_on=validation"
        )
    return found


def main() -> None:
    """Prints the table, a row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, type=Path, help="a finished run")
    parser.add_argument("--data_dir")
    parser.add_argument("--num_splits", type=at_least(2), default=5)
    parser.add_argument("--num_neighbors", type=at_least(1), default=NUM_NEIGHBORS)
    flags = parser.parse_args()
    try:
        data = datasets.load("fashion_mnist", flags.data_dir)
        data = held_out(flags.workdir, data)
        features_of = ssl_vae.load(flags.workdir).features
        given = Given.of(
            features_of(data.train_images),
            features_of(data.test_images),
            flags.num_neighbors,
        )
    except InputError as error:
        parser.error(str(error))
    counts = usual_labels(data)
    print(f"validation accuracy %, {flags.num_splits} label splits, inductive")
    print(" " * 30 + "".join(f"{count:>15} " for count in counts), flush=True)
    of_svm: list[np.ndarray] = []
    for way in ways(given):
        each = [accuracies(data, given, way, n, flags.num_splits) for n in counts]
        for name in each[0]:
            scores = [of_count[name] for of_count in each]
            of_svm = of_svm or scores
            cells = [cell(*both) for both in zip(scores, of_svm, strict=True)]
            print(f"{name:30}" + "".join(f"{text:>16}" for text in cells), flush=True)


if __name__ == "__main__":
    main()
