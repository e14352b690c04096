"""A fourth way to use unlabeled images: an SVM's guesses are smoothed over their graph.

M1 and the SVMs on its features are those of `features_first`. The guesses of each SVM
are set right by the shares of the classes, which the labels tell, and drawn towards
those about the images whose features are nearest.
"""

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
from scipy import sparse

from ssl_vae.classifiers import confidence
from ssl_vae.classifiers.graph import Neighbors, vertices_among
from ssl_vae.classifiers.smoothed import SmoothedSVM
from ssl_vae.errors import Stopped
from ssl_vae.extractor import Extracted, aligned_svm, extract
from ssl_vae.job import Job, Keys, Outcome
from ssl_vae.results import Row
from ssl_vae.splits import first_measured


class Graph(NamedTuple):
    """The graph of a run's images; one serves all numbers of labels and splits."""

    rows: np.ndarray  # training images that are vertices, int [V]
    neighbors: Neighbors
    weights: sparse.csr_array  # between vertices, [V, V]
    of_test: sparse.csr_array  # of vertices for each test image, [M, V]

    @classmethod
    def of(cls, extracted: Extracted, num_neighbors: int) -> Self:
        """By the features of all images."""
        rows = vertices_among(len(extracted.train_features))
        neighbors = Neighbors(extracted.train_features[rows], num_neighbors)
        of_test = neighbors.of(extracted.test_features)
        return cls(rows, neighbors, neighbors.graph(), of_test)


def train_and_measure(job: Job) -> Iterator[Outcome]:
    """Trains M1, then fits and smooths SVMs for every missing number of labels.

    The one that is kept is that of the most labels of the run, first split or, in
    cross-validation, of all of them.
    """
    plan = job.plan
    extracted = next(extract(job, Keys.of_seeds(plan.seeds)), None)
    if not extracted:
        return
    with job.clock.part("classifier"):
        graph = Graph.of(extracted, plan.recipe.graph.num_neighbors)
    for num_labels in plan.missing:
        yield _outcome(job, extracted, graph, num_labels)


def _outcome(job: Job, extracted: Extracted, graph: Graph, num_labels: int) -> Outcome:
    """A row of results at a number of labels; the first split stands for all."""
    plan, labels = job.plan, job.plan.data.test_labels
    splits = plan.splits(num_labels)
    every_split, accuracy, classifiers, probs, calibration = [], {}, [], [], []
    for split_seed in plan.split_seeds(num_labels):
        if job.stop():
            raise Stopped(f"in the classifiers for {num_labels} labels")
        split = splits.split(split_seed)
        with job.clock.part("classifier"):
            classifier = _fitted(job, extracted, graph, split.labeled)
            said = classifier.given(extracted.test_features, graph.of_test)
            said, measured = said[split.measured], labels[split.measured]
        accuracy[split_seed] = float(np.mean(said.argmax(axis=1) == measured))
        every_split.append(split)
        classifiers.append(classifier)
        probs.append(np.exp(said))
        calibration.append(confidence.figures(said, measured))
    if plan.is_newest(num_labels):
        kept = classifiers[0]
        if plan.data.cross_validated:
            kept = _fitted(job, extracted, graph, splits.chosen)
        kept.save(plan.workdir.path, num_labels=num_labels)
    row = Row.measured(
        num_labels,
        "svm_graph",
        accuracy,
        protocol=splits.protocol,
        calibration=calibration,
    )
    model, params, vae, _, test_features = extracted
    said = first_measured(every_split, probs, len(labels))
    return Outcome([row], model, params, vae, test_features, said)


def _fitted(
    job: Job, extracted: Extracted, graph: Graph, labeled: np.ndarray
) -> SmoothedSVM:
    """The classifier of a choice of labeled training images, int [n]."""
    svm, log_probs = aligned_svm(job, extracted, labeled)
    return SmoothedSVM.fitted(
        svm,
        graph.neighbors,
        graph.weights,
        np.exp(log_probs[graph.rows]),
        strength=job.plan.recipe.graph.strength,
    )
