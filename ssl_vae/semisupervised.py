"""The ways to a classifier of images of which few have labels, on arrays in memory.

What a way finds is a dict of numbers, strings and NumPy arrays, and a scikit-learn
pipeline where there is one: all of it data that skops and pickle can keep.
"""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.special
from sklearn.exceptions import ConvergenceWarning

from ssl_vae import evaluate, fitting
from ssl_vae.classifiers import confidence
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.classifiers.graph import Neighbors, vertices_among
from ssl_vae.classifiers.smoothed import SmoothedSVM
from ssl_vae.errors import InputError
from ssl_vae.fitting import ExampleSet, Schedule
from ssl_vae.models import M1, M2, JointModel, Params, active_units

WARMUP_EPOCHS = 2
NUM_NEIGHBORS, STRENGTH = 10, 1.0  # of the graph, as the recipe m1_graph has them

Found = dict[str, Any]


class Settings(NamedTuple):
    """Hyper-parameters: of M1, of M2 and its kin, of the SVM, and of all trainings."""

    m1: M1  # its widths and latent dimension are those of M2 too
    alpha: float
    C: float
    schedule: Schedule


class Way(NamedTuple):
    """One way to a classifier.

    Attributes:
      fit: `fit(x, labels, settings, key) -> found` of pixels [n, pixels] and labels
        int32 [n], 0..K-1, -1 where there is none.
      scores: `scores(found, x)`, log probabilities of the classes up to a constant a
        row, float [n, K].
    """

    fit: Callable[[np.ndarray, np.ndarray, Settings, jax.Array], Found]
    scores: Callable[[Found, np.ndarray], np.ndarray]


def train_m1(x: np.ndarray, model: M1, schedule: Schedule, key: jax.Array) -> Found:
    """M1 of all images x, [n, pixels]: its hyper-parameters and its weights."""
    images = ExampleSet(fitting.views(model, x), np.arange(len(x)), schedule.batch_size)
    params = fitting.train_params(model, [images], schedule, key=key)
    return {"m1": dataclasses.asdict(model), "m1_params": params}


def m1_of(found: Found) -> tuple[M1, Params]:
    """The model that `train_m1` has trained."""
    return fitting.m1(**found["m1"]), found["m1_params"]


def features(found: Found, x: np.ndarray) -> np.ndarray:
    """Posterior means of images x by the M1 that was found, float32 [n, latent]."""
    model, params = m1_of(found)
    return np.asarray(fitting.map_rows(model.features, params, x))


def decoded(found: Found, z: np.ndarray) -> np.ndarray:
    """Images with the features z [n, latent]: probs of their pixels, [n, pixels]."""
    model, params = m1_of(found)
    logits = fitting.map_rows(model.decode, params, z)
    return np.asarray(scipy.special.expit(logits))


def _fit_svm(
    x: np.ndarray, labels: np.ndarray, settings: Settings, key: jax.Array
) -> Found:
    """M1 of all images, then an SVM on its features of the labeled."""
    found = train_m1(x, settings.m1, settings.schedule, key)
    known = labels >= 0
    of_labeled = features(found, x[known]), labels[known]
    classifier = CalibratedSVM.fitted(*of_labeled, C=settings.C, standardize=False)
    return found | _parts(classifier)


def _parts(svm: CalibratedSVM) -> Found:
    return {
        "classifier": svm.pipeline,
        "temperature": svm.temperature,
        "bias": svm.bias,
    }


def _svm(found: Found) -> CalibratedSVM:
    bias = found.get("bias", np.zeros(1))  # of before: none without alignment
    return CalibratedSVM(found["classifier"], found["temperature"], bias)


def _svm_scores(found: Found, x: np.ndarray) -> np.ndarray:
    return _svm(found).log_probs(features(found, x))


def _fit_graph(
    x: np.ndarray, labels: np.ndarray, settings: Settings, key: jax.Array
) -> Found:
    """M1 and an SVM, whose guesses about all images are smoothed over their graph."""
    found, of_all, guesses = _fit_teacher(x, labels, settings, key)
    vertices = vertices_among(len(x))
    found["vertices"] = of_all[vertices]
    found["num_neighbors"] = min(NUM_NEIGHBORS, len(vertices) - 1)
    neighbors = _neighbors(found)
    classifier = SmoothedSVM.fitted(
        _svm(found),
        neighbors,
        neighbors.graph(),
        np.exp(guesses[vertices]),
        strength=STRENGTH,
    )
    return found | {"values": classifier.values, "strength": STRENGTH}


def _neighbors(found: Found) -> Neighbors:
    return Neighbors(found["vertices"], found["num_neighbors"])


def _graph_scores(found: Found, x: np.ndarray) -> np.ndarray:
    classifier = SmoothedSVM(
        _svm(found), _neighbors(found), found["values"], found["strength"]
    )
    return classifier.log_probs(features(found, x))


def _fit_best(
    x: np.ndarray, labels: np.ndarray, settings: Settings, key: jax.Array
) -> Found:
    """M1 and an SVM, whose guesses about all images teach a convolutional network."""
    known, schedule = np.flatnonzero(labels >= 0), settings.schedule
    labeled = _part_of_batch(schedule.batch_size, 4)
    key_m1, key_student = jax.random.split(key)
    found, _, guesses = _fit_teacher(x, labels, settings, key_m1)
    guesses = guesses.astype(np.float32)
    every = ExampleSet((x, guesses), np.arange(len(x)), schedule.batch_size - labeled)
    few = ExampleSet((x, labels), known, labeled)
    num_steps = schedule.num_epochs * every.num_batches
    model = fitting.student(settings.m1.image_shape, guesses.shape[1], num_steps)
    params = fitting.train_params(model, [every, few], schedule, key=key_student)
    return found | {"student": dataclasses.asdict(model), "student_params": params}


def _fit_teacher(
    x: np.ndarray, labels: np.ndarray, settings: Settings, key: jax.Array
) -> tuple[Found, np.ndarray, np.ndarray]:
    """M1 and an SVM that finds the labels' shares of the classes among all images.

    Returns:
      They, the features of the images, [n, latent], and what the SVM says of them: log
      probabilities, [n, K].
    """
    found = _fit_svm(x, labels, settings, key)
    of_all, counts = features(found, x), np.bincount(labels[labels >= 0])
    teacher, guesses = _svm(found).aligned(of_all, counts / counts.sum())
    return found | _parts(teacher), of_all, guesses


def _best_scores(found: Found, x: np.ndarray) -> np.ndarray:
    teacher = _svm(found).log_probs(features(found, x))
    model = fitting.student(**found["student"])
    logits = fitting.map_rows(model.class_logits, found["student_params"], x)
    return confidence.together(teacher, logits)


def _fit_m2(
    x: np.ndarray, labels: np.ndarray, settings: Settings, key: jax.Array
) -> Found:
    """M2 of images and classes."""
    model = _m2(x.shape[1], labels, settings)
    params = _train_joint(model, x, labels, settings.schedule, key)
    found = {"m2": dataclasses.asdict(model), "m2_params": params}
    _warn_of_collapse(_m2_scores(found, x), labels)
    return found


def _m2_scores(found: Found, x: np.ndarray) -> np.ndarray:
    model = fitting.m2(**found["m2"])
    logits = fitting.map_rows(model.class_logits, found["m2_params"], x)
    return np.asarray(logits, np.float64)


def _fit_m1_m2(
    x: np.ndarray, labels: np.ndarray, settings: Settings, key: jax.Array
) -> Found:
    """M1 of all images, then M2 of its latent variable and the classes."""
    _part_of_batch(settings.schedule.batch_size, 2)  # or raises, before M1 is trained
    key_m1, key_m2 = jax.random.split(key)
    found = train_m1(x, settings.m1, settings.schedule, key_m1)
    mean, logvar = _posterior(found, x)
    kept = active_units(mean)
    if not len(kept):
        warnings.warn(
            "no latent unit of M1 tells images apart, so all are kept; M1 needs a"
            " smaller kl_weight or more epochs",
            ConvergenceWarning,
            stacklevel=3,
        )
        kept = np.arange(settings.m1.latent_dim)
    found["kept"] = kept
    m2 = _m2(len(kept), labels, settings, gaussian=True)
    joint = fitting.m1_m2(settings.m1, m2)
    code = mean[:, kept], logvar[:, kept]
    params = _train_joint(joint, code, labels, settings.schedule, key_m2)
    found |= {"m2": dataclasses.asdict(m2), "m2_params": params}
    _warn_of_collapse(_m2_scores(found, code[0]), labels)
    return found


def _m1_m2_scores(found: Found, x: np.ndarray) -> np.ndarray:
    return _m2_scores(found, _posterior(found, x)[0][:, found["kept"]])


def _warn_of_collapse(scores: np.ndarray, labels: np.ndarray) -> None:
    """Warns where the unlabeled show that the classes are not told apart."""
    counts, unlabeled = np.bincount(labels[labels >= 0]), labels < 0
    if unlabeled.sum() < 10 * len(counts):  # some class may have none
        return
    if evaluate.class_use(scores[unlabeled], counts / counts.sum()).collapsed:
        warnings.warn(
            "collapsed: q(y|x) uses few classes, or hardly depends on the image; try a"
            " larger alpha, or more epochs",
            ConvergenceWarning,
            stacklevel=4,
        )


def _posterior(found: Found, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log variance of q(z1|x), [n, latent]."""
    model, params = m1_of(found)
    mean, logvar = fitting.map_rows(model.encode, params, x)
    return mean, logvar


def _m2(
    num_inputs: int, labels: np.ndarray, settings: Settings, *, gaussian: bool = False
) -> M2:
    schedule = settings.schedule
    warmup_epochs = min(WARMUP_EPOCHS, schedule.num_epochs - 1)
    unlabeled, _ = _sets(labels, labels, schedule.batch_size)
    return fitting.m2(
        num_inputs,
        num_classes=int(labels.max()) + 1,
        labeled_fraction=float(np.mean(labels >= 0)),
        warmup_steps=warmup_epochs * unlabeled.num_batches,
        latent_dim=settings.m1.latent_dim,
        hidden=settings.m1.hidden,
        alpha=settings.alpha,
        gaussian=gaussian,
    )


def _train_joint(
    model: JointModel,
    inputs: Any,
    labels: np.ndarray,
    schedule: Schedule,
    key: jax.Array,
) -> Params:
    sets = _sets(inputs, labels, schedule.batch_size)
    return fitting.train_params(model, sets, schedule, key=key)


def _sets(
    inputs: Any, labels: np.ndarray, batch_size: int
) -> tuple[ExampleSet, ExampleSet]:
    """The unlabeled and the labeled, one half of a batch each."""
    labeled = _part_of_batch(batch_size, 2)
    known = np.flatnonzero(labels >= 0)
    unknown = np.flatnonzero(labels < 0)
    if not len(unknown):  # all have a label; then M2's loss gives these no weight
        unknown = known
    return (
        ExampleSet(inputs, unknown, batch_size - labeled),
        ExampleSet((inputs, labels), known, labeled),
    )


def _part_of_batch(batch_size: int, part: int) -> int:
    """How many labeled images are in a batch: one part of so many, at least one."""
    if batch_size < 2:
        raise InputError(
            f"batch_size={batch_size}: needs room for a labeled and an unlabeled image"
        )
    return max(1, batch_size // part)


WAYS = {
    "m1": Way(_fit_svm, _svm_scores),
    "m1_graph": Way(_fit_graph, _graph_scores),
    "m2": Way(_fit_m2, _m2_scores),
    "m1_m2": Way(_fit_m1_m2, _m1_m2_scores),
    "best": Way(_fit_best, _best_scores),
}
