"""How sure a classifier is, and how far that can be trusted."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import scipy.special

from ssl_vae.classifiers.svm import with_moved

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FOLDS = 5
BINS = 15
ROWS = 4096  # features that an SVM is asked about at a time
# Large enough for the likeliest class to be nearly always the one that the SVM predicts
# by counting pairs; at 1, nearly a point of accuracy is lost (Fashion-MNIST, on
# validation images).
STEEPNESS = 8.0


def class_scores(pipeline: Pipeline, features: np.ndarray) -> np.ndarray:
    """One score a class, float [N, K], of a fitted pipeline of `svm.fit_svm`."""
    # In parts, for there are many more pairs of classes than classes.
    parts = np.array_split(features, range(ROWS, len(features), ROWS))
    values = (pipeline.decision_function(part) for part in parts)
    return np.concatenate([_scores_of_pairs(each) for each in values])


def held_out_scores(
    pipeline: Pipeline,
    features: np.ndarray,
    labels: np.ndarray,
    moved: np.ndarray | None = None,
) -> np.ndarray | None:
    """Scores [num_labels, K] of labeled images by SVMs that were fitted without them.

    And without their moves, see `svm.fit_svm`; but C and gamma are those of the
    pipeline, which may have been chosen with them. The only image of a class is never
    held out and has NaN. None where all are such.
    """
    from sklearn.base import clone  # late
    from sklearn.model_selection import StratifiedKFold

    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    lone = np.flatnonzero(sizes[classes] == 1)
    several = np.flatnonzero(sizes[classes] > 1)
    if not len(several):
        return None
    scores = np.full([len(labels), len(sizes)], np.nan)
    folds = min(FOLDS, int(sizes[sizes > 1].min()))
    cv = StratifiedKFold(folds, shuffle=True, random_state=0)
    for rest, held_out in cv.split(features[several], labels[several]):
        fitted = np.sort(np.concatenate([several[rest], lone]))
        mine = None if moved is None else moved[:, fitted]
        others = clone(pipeline)
        others.fit(*with_moved(features[fitted], labels[fitted], mine))
        scores[several[held_out]] = class_scores(others, features[several[held_out]])
    return scores


def _scores_of_pairs(values: np.ndarray) -> np.ndarray:
    """What an SVM says of every pair of classes, as one score a class, [N, K].

    A class's score is the sum, over the others, of the log of the logistic function of
    STEEPNESS times the pair's value: a lost pair counts by how clearly it is lost.
    scikit-learn's own scores count who wins how many pairs, which is nearly the same
    for most images and so tells little of how sure the SVM is.

    Args:
      values: float [N, K (K - 1) / 2], above 0 where the first of two classes is the
        likelier; [N] for two classes, above 0 where it is the second.
    """
    values = values if values.ndim == 2 else -values[:, None]
    num_classes = int((1 + np.sqrt(1 + 8 * values.shape[1])) / 2)
    scores = np.zeros([len(values), num_classes])
    pairs = itertools.combinations(range(num_classes), 2)
    for (first, second), value in zip(pairs, values.T, strict=True):
        scores[:, first] += scipy.special.log_expit(STEEPNESS * value)
        scores[:, second] += scipy.special.log_expit(-STEEPNESS * value)
    return scores


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which `class_probs` gives the labels most likelihood.

    1 where every label has the highest score: then no temperature has most, for the
    likelihood goes on growing as it falls to 0, and these images cannot tell how often
    others are wrong.

    Args:
      scores: float [N, K], of images that their classifier was not fitted on.
      labels: int [N], 0..K-1.

    Source: Guo et al. 2017, "On calibration of modern neural networks",
    arXiv:1706.04599, section 4.2.
    """
    if np.all(scores[np.arange(len(labels)), labels] == scores.max(axis=1)):
        return 1.0
    import scipy.optimize  # late: half a second

    def loss(log_temperature: float) -> float:
        log_probs = scipy.special.log_softmax(scores / np.exp(log_temperature), axis=1)
        return -float(np.mean(log_probs[np.arange(len(labels)), labels]))

    found = scipy.optimize.minimize_scalar(loss, bounds=(-7, 7), method="bounded")
    return float(np.exp(found.x))


def temperature_of(
    pipeline: Pipeline,
    features: np.ndarray,
    labels: np.ndarray,
    moved: np.ndarray | None = None,
) -> float:
    """The temperature of `fit_temperature` for a pipeline and what it was fitted on.

    1 where every class has a single label, so that nothing can be held out.
    """
    held_out = held_out_scores(pipeline, features, labels, moved)
    if held_out is None:
        return 1.0
    known = ~np.isnan(held_out).any(axis=1)
    return fit_temperature(held_out[known], labels[known])


def class_probs(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities of the classes, [N, K], of scores [N, K]: softmax(scores / T)."""
    return np.asarray(scipy.special.softmax(scores / temperature, axis=1))


def together(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    """Log of the normalized geometric mean of two classifiers' probabilities: [N, K].

    Args:
      teacher: Log probabilities of the one, or logits, [N, K].
      student: Those of the other.
    """
    return log_softmax((log_softmax(teacher) + log_softmax(student)) / 2)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log probabilities, float64 [N, K], of logits [N, K]."""
    return np.asarray(scipy.special.log_softmax(np.float64(logits), axis=1))


def calibration_error(probs: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error of the likeliest class, in [0, 1]; 0 is best.

    Args:
      probs: float [N, K], rows sum to 1.
      labels: int [N], 0..K-1.

    Source: Guo et al. 2017, arXiv:1706.04599, eq. 3, with 15 bins of equal width.
    """
    counts, confidence, accuracy = reliability(probs, labels)
    return float(np.sum(counts * np.abs(confidence - accuracy)) / len(labels))


def reliability(
    probs: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number, mean confidence and accuracy of the images in each bin of confidence.

    Args:
      probs: float [N, K], rows sum to 1.
      labels: int [N], 0..K-1.

    Returns:
      Three arrays [15]; means over no image are 0.
    """
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    some = np.maximum(counts, 1)
    return (
        counts,
        np.bincount(bins, confidence, BINS) / some,
        np.bincount(bins, right, BINS) / some,
    )


def figures(
    scores: np.ndarray, labels: np.ndarray, temperature: float = 1.0
) -> dict[str, float]:
    """The temperature, and the calibration error at 1 and at it, for results.json."""
    return {
        "temperature": temperature,
        "error_before": calibration_error(class_probs(scores), labels),
        "error": calibration_error(class_probs(scores, temperature), labels),
    }


def accuracy_of_surest(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Accuracy on the n images that the classifier is surest of, for n = 1..N: [N].

    The last is the accuracy on all; before it, that with abstention on the others.
    """
    order = np.argsort(-probs.max(axis=1), kind="stable")
    right = (probs.argmax(axis=1) == labels)[order]
    return np.cumsum(right) / np.arange(1, len(right) + 1)
