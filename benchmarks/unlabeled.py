r"""Ways to use the unlabeled images on the features of a finished run of M1.

    python -m ssl_vae.main --config=configs/m1_features.py --workdir=RUN \
        --config.evaluate_on=validation --config.importance_samples=1 \
        --config.classifier.cross_validate=False
    python benchmarks/unlabeled.py --workdir=RUN

Labels spread over the graph of the training images' nearest neighbors, or name the
clusters of a Gaussian mixture. Held-out images stand in for the test images. They are
in no graph and no mixture: what they get is an average over their neighbors in the
training images, so that the figures are inductive. A star says: better than the SVM
alone by more than two standard errors of the differences, choice by choice.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components, laplacian
from scipy.sparse.linalg import LinearOperator, cg
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

import ssl_vae
from ssl_vae import datasets
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.classifiers.svm import fit_svm
from ssl_vae.datasets import Dataset
from ssl_vae.errors import InputError
from ssl_vae.labels import choose_labeled
from ssl_vae.plan import without_validation
from ssl_vae.results import Results
from ssl_vae.splits import usual_labels

NUM_NEIGHBORS = 10
NUM_TAUGHT = 4_000  # images whose propagated label an SVM is given
SVM = {"C": 2.0, "standardize": False}
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
          InputError: where the graph is not connected.
        """
        search = NearestNeighbors(n_neighbors=num_neighbors).fit(train)
        between = _weights(*search.kneighbors(), len(train))
        graph = sparse.csr_array((between + between.T) / 2)
        if (parts := connected_components(graph)[0]) > 1:
            raise InputError(
                f"--num_neighbors={num_neighbors}: the graph falls into {parts} parts;"
                " choose more"
            )
        out = _weights(*search.kneighbors(test), len(train))
        return cls(train, test, graph, sparse.diags_array(1 / out.sum(axis=1)) @ out)


# Features, graph, the labeled images, their classes as one-hot -> scores [M, K].
Way = Callable[[Given, np.ndarray, np.ndarray], np.ndarray]


def _weights(distance: np.ndarray, rows: np.ndarray, num: int) -> sparse.csr_array:
    """exp(-4 d^2 / d_k^2) for k neighbors, the farthest at distance d_k: [n, num]."""
    farthest = np.maximum(distance[:, -1:], TINY)
    weights = np.exp(-4 * np.square(distance / farthest))
    starts = np.arange(0, rows.size + 1, rows.shape[1])
    return sparse.csr_array(
        (weights.ravel(), rows.ravel(), starts), shape=(len(rows), num)
    )


def solve(matrix: sparse.csr_array, right: np.ndarray) -> np.ndarray:
    """`matrix` @ u = right for several right sides at once, [n, K].

    Args:
      matrix: Positive semidefinite, [n, n], with a diagonal above 0.
      right: In its range, [n, K].
    """
    scale = np.repeat(matrix.diagonal(), right.shape[1])
    several = LinearOperator(
        (right.size, right.size),
        matvec=lambda u: (matrix @ u.reshape(right.shape)).ravel(),
        dtype=np.float64,
    )
    jacobi = LinearOperator(several.shape, matvec=lambda u: u / scale)
    found, failed = cg(several, right.ravel(), rtol=1e-5, maxiter=5_000, M=jacobi)
    assert not failed
    return found.reshape(right.shape)


def laplace(graph: sparse.csr_array, known: np.ndarray, one_hot: np.ndarray):
    """The harmonic function that is `one_hot` at the labeled images, [N, K].

    Source: Zhu et al. 2003, "Semi-supervised learning using Gaussian fields and
    harmonic functions", eq. 5.
    """
    matrix = sparse.csr_array(laplacian(graph))
    others = np.setdiff1d(np.arange(graph.shape[0]), known)
    values = np.zeros([graph.shape[0], one_hot.shape[1]])
    values[known] = one_hot
    rows = matrix[others]
    values[others] = solve(rows[:, others], -rows[:, known] @ one_hot)
    return values


def poisson(graph: sparse.csr_array, known: np.ndarray, one_hot: np.ndarray):
    """The potential of a source at every labeled image, [N, K].

    What a class's images send out the others' take in, so it stays in balance; far from
    all labels it does not become the same for all, as it does in `laplace`.

    Source: Calder et al. 2020, arXiv:2006.11184, eq. 2.2.
    """
    sources = np.zeros([graph.shape[0], one_hot.shape[1]])
    sources[known] = one_hot - one_hot.mean(axis=0)
    return solve(sparse.csr_array(laplacian(graph)), sources)


def svm(given: Given, known: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
    """Knows nothing of the unlabeled."""
    return one_hot_of(
        fit_svm(given.train[known], one_hot.argmax(axis=1), **SVM).predict(given.test),
        one_hot.shape[1],
    )


def proportional_svm(given: Given, known: np.ndarray, one_hot: np.ndarray):
    """The SVM, its probabilities brought to the classes' shares."""
    labels = one_hot.argmax(axis=1)
    fitted = CalibratedSVM.fitted(given.train[known], labels, **SVM)
    shares = one_hot.mean(axis=0)
    return fitted.aligned(given.train, shares).log_probs(given.test)


def propagated(propagate: Callable, given: Given, known: np.ndarray, one_hot):
    """Averages over neighbors of what propagates over the graph."""
    return given.neighbors @ propagate(given.graph, known, one_hot)


def taught_svm(propagate: Callable, given: Given, known: np.ndarray, one_hot):
    """An SVM of propagated labels: as many of each class, drawn from its surer half."""
    values = propagate(given.graph, known, one_hot)
    guesses, ranked = values.argmax(axis=1), np.sort(values, axis=1)
    margin = ranked[:, -1] - ranked[:, -2]
    rng = np.random.default_rng(0)
    chosen = [known]
    for k in range(one_hot.shape[1]):
        mine = np.setdiff1d(np.flatnonzero(guesses == k), known)
        surer = mine[np.argsort(-margin[mine])][: len(mine) // 2]
        size = min(len(surer), NUM_TAUGHT // one_hot.shape[1])
        chosen.append(rng.choice(surer, size, replace=False))
    guesses[known] = one_hot.argmax(axis=1)
    rows = np.concatenate(chosen)
    fitted = fit_svm(given.train[rows], guesses[rows], **SVM)
    return one_hot_of(fitted.predict(given.test), one_hot.shape[1])


def clusters(train: np.ndarray, test: np.ndarray, num_clusters: int) -> Way:
    """Clusters of a Gaussian mixture, which the labeled images in them name."""
    mixture = GaussianMixture(num_clusters, random_state=0, max_iter=200).fit(train)
    of_train, of_test = mixture.predict_proba(train), mixture.predict_proba(test)
    return lambda _, known, one_hot: of_test @ names(of_train[known], one_hot)


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


def ways(given: Given) -> dict[str, Callable[[], Way]]:
    """By name; a call makes what serves all labels, such as a mixture."""
    mixture = partial(clusters, given.train, given.test)
    return {
        "SVM": lambda: svm,
        "SVM, classes in proportion": lambda: proportional_svm,
        "Laplace": lambda: partial(propagated, laplace),
        "Poisson": lambda: partial(propagated, poisson),
        "SVM taught by Laplace": lambda: partial(taught_svm, laplace),
        "SVM taught by Poisson": lambda: partial(taught_svm, poisson),
        "Gaussian mixture, 10 clusters": partial(mixture, 10),
        "Gaussian mixture, 50 clusters": partial(mixture, 50),
    }


def accuracies(
    data: Dataset, given: Given, way: Way, num_labels: int, num_splits: int
) -> np.ndarray:
    """Of a way, %, one a label split."""
    scores = []
    for split_seed in range(num_splits):
        known = choose_labeled(data.train_labels, num_labels, split_seed=split_seed)
        one_hot = one_hot_of(data.train_labels[known], data.num_classes)
        said = way(given, known, one_hot).argmax(axis=1)
        scores.append(100 * np.mean(said == data.test_labels))
    return np.array(scores)


def cell(scores: np.ndarray, of_svm: np.ndarray) -> str:
    """Mean, deviation, and a star for what is better than the SVM."""
    gain = scores - of_svm
    better = gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(len(gain))
    return f"{scores.mean():.2f} ± {scores.std(ddof=1):.2f}{'*' if better else ' '}"


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


def at_least(least: int, text: str) -> int:
    """For --num_splits=10."""
    if int(text) < least:
        raise argparse.ArgumentTypeError(f"{text} is less than {least}")
    return int(text)


def main() -> None:
    """Prints the table, a row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, type=Path, help="a finished run")
    parser.add_argument("--data_dir")
    parser.add_argument("--num_splits", type=partial(at_least, 2), default=10)
    parser.add_argument(
        "--num_neighbors", type=partial(at_least, 1), default=NUM_NEIGHBORS
    )
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
    for name, make in ways(given).items():
        way = make()
        scores = [accuracies(data, given, way, n, flags.num_splits) for n in counts]
        of_svm = of_svm or scores
        cells = [cell(*both) for both in zip(scores, of_svm, strict=True)]
        print(f"{name:30}" + "".join(f"{each:>16}" for each in cells), flush=True)


if __name__ == "__main__":
    main()
