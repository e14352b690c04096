"""The classifiers on a run's features: SVMs, alone or smoothed over a graph."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple, Self, TypeVar

import numpy as np
from scipy import sparse

from ssl_vae import config as recipes
from ssl_vae import evaluate
from ssl_vae.augment import nudged
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.classifiers.graph import Neighbors, vertices_among
from ssl_vae.classifiers.smoothed import SmoothedSVM
from ssl_vae.extractor import Extracted
from ssl_vae.job import Job
from ssl_vae.workdir import Workdir


@dataclass(frozen=True)
class Alone:
    """An SVM, and the test images that it can be asked about.

    Attributes:
      classifier: The SVM.
      features: Of the test images, float32 [M, dim].
    """

    classifier: CalibratedSVM
    features: np.ndarray

    @property
    def temperature(self) -> float:
        """The softmax of scores over it are probabilities."""
        return self.classifier.temperature

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Scores of the classes for some test images, [n, K]."""
        return self.classifier.scores(self.features[rows])

    def save(self, run: Workdir, num_labels: int) -> None:
        """Writes the classifier into a run's folder, as that of so many labels."""
        self.classifier.save(run.path, num_labels=num_labels)


@dataclass(frozen=True)
class OverGraph:
    """The same of an SVM that is smoothed over the graph of the images.

    Attributes:
      classifier: It.
      features: Of the test images, float32 [M, dim].
      near: Weights of vertices for each of them, [M, V].
    """

    classifier: SmoothedSVM
    features: np.ndarray
    near: sparse.csr_array

    temperature: ClassVar[float] = 1.0

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """As of an SVM alone; they are log probabilities."""
        return self.classifier.given(self.features[rows], self.near[rows])

    def save(self, run: Workdir, num_labels: int) -> None:
        """As of an SVM alone; graphs of other numbers of labels go."""
        graph = run.graph(num_labels)
        self.classifier.save(run.path, graph, num_labels=num_labels)
        for other in run.path.glob("labels-*/graph.npy"):
            if other != graph:
                other.unlink()
                with contextlib.suppress(OSError):
                    other.parent.rmdir()  # unless somebody has put something there


Item = TypeVar("Item")
Found = TypeVar("Found")
Fitted = Alone | OverGraph
Fit = Callable[[np.ndarray], Fitted]  # of labeled training images, int [n]


def fitter(job: Job, extracted: Extracted) -> Fit:
    """What fits the recipe's classifier to a choice of labeled images."""
    if "graph" not in job.plan.recipe:
        return partial(_alone, job, extracted)
    graph = _Graph.of(extracted, job.plan.recipe.graph.num_neighbors)
    return partial(_over_graph, job, extracted, graph)


def side_by_side(
    function: Callable[[Item], Found], items: Sequence[Item]
) -> list[Found]:
    """What a function that fits SVMs makes of each of the items, in threads.

    For an SVM is fitted outside of Python. A single item has all threads for itself.
    """
    import joblib  # late: with what it serves, scikit-learn

    with joblib.parallel_config(backend="threading", n_jobs=-1):
        if len(items) == 1:
            return [function(items[0])]
        return list(joblib.Parallel()(joblib.delayed(function)(i) for i in items))


def name_of(job: Job) -> str:
    """The recipe's classifier, for results.json."""
    recipe = job.plan.recipe
    return "svm_graph" if "graph" in recipe else recipe.classifier.name


def aligned_svm(
    job: Job, extracted: Extracted, labeled: np.ndarray, features: np.ndarray
) -> tuple[CalibratedSVM, np.ndarray]:
    """The recipe's SVM, its guesses brought to the labels' class shares.

    Args:
      job: What it is part of.
      extracted: Features of all images.
      labeled: Training images with labels, int [n].
      features: Of training images that stand for all, [N, dim].

    Returns:
      The SVM, and its log probabilities of those that stand for all, float [N, K].
    """
    data = job.plan.data
    counts = np.bincount(data.train_labels[labeled], minlength=data.num_classes)
    classifier = _svm(job, extracted, labeled)
    return classifier.aligned(features, counts / len(labeled))


def _svm(job: Job, extracted: Extracted, labeled: np.ndarray) -> CalibratedSVM:
    recipe = job.plan.recipe
    names = "C", "standardize", "cross_validate"
    settings = {name: recipe.classifier[name] for name in names}
    shifted = recipes.value(recipe, "classifier.shifted")
    return CalibratedSVM.fitted(
        extracted.train_features[labeled],
        job.plan.data.train_labels[labeled],
        moved=_moved(job, extracted, labeled) if shifted else None,
        **settings,
    )


def _moved(job: Job, extracted: Extracted, labeled: np.ndarray) -> np.ndarray:
    """Features of labeled images a pixel higher, lower, ...: [4, n, latent]."""
    images = job.train_images.take(labeled)
    _, *moves = nudged(images, job.plan.data.image_shape)
    model, params = extracted.model, extracted.params
    return np.stack([evaluate.map_images(model.features, params, x) for x in moves])


def _alone(job: Job, extracted: Extracted, labeled: np.ndarray) -> Fitted:
    return Alone(_svm(job, extracted, labeled), extracted.test_features)


class _Graph(NamedTuple):
    """The graph of a run's images; one serves all numbers of labels and splits."""

    neighbors: Neighbors
    weights: sparse.csr_array  # between vertices, [V, V]
    of_test: sparse.csr_array  # of vertices for each test image, [M, V]

    @classmethod
    def of(cls, extracted: Extracted, num_neighbors: int) -> Self:
        """By the features of all images."""
        rows = vertices_among(len(extracted.train_features))
        neighbors = Neighbors(extracted.train_features[rows], num_neighbors)
        of_test = neighbors.of(extracted.test_features)
        return cls(neighbors, neighbors.graph(), of_test)


def _over_graph(
    job: Job, extracted: Extracted, graph: _Graph, labeled: np.ndarray
) -> Fitted:
    vertices = graph.neighbors.vertices
    svm, log_probs = aligned_svm(job, extracted, labeled, vertices)
    classifier = SmoothedSVM.fitted(
        svm,
        graph.neighbors,
        graph.weights,
        np.exp(log_probs),
        strength=job.plan.recipe.graph.strength,
    )
    return OverGraph(classifier, extracted.test_features, graph.of_test)
