"""A third way to use unlabeled images: an SVM's guesses about them teach a network.

M1 and the SVMs on its features are those of `features_first`. The guesses of each SVM
are set right by the shares of the classes, which the labels tell, and a convolutional
network learns from them what shifts and the like leave as it is (`models.Student`). The
answer is what both together think.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.pipeline import Pipeline

from ssl_vae import evaluate
from ssl_vae.batches import Examples
from ssl_vae.classifiers import confidence, proportions, svm
from ssl_vae.extractor import Extracted, extract
from ssl_vae.job import Job, Keys, Outcome, Stopped
from ssl_vae.labels import choose_labeled
from ssl_vae.loop import Training, trained_params
from ssl_vae.models import Params, Student
from ssl_vae.results import Row

STEPS_PER_SCAN = 20  # a step is several splits'


class Teacher(NamedTuple):
    """An SVM, and what it thinks of all images."""

    classifier: Pipeline
    labeled_rows: np.ndarray  # int [num_labels], of the training images
    train_log_probs: np.ndarray  # float32 [N, K]
    test_log_probs: np.ndarray  # float32 [M, K]


def train_and_measure(job: Job, key: jax.Array) -> Iterator[Outcome]:
    """Trains M1, then SVMs and students for every missing number of labels in turn."""
    keys = Keys.of(key)
    extracted = extract(job, keys)
    for num_labels in job.plan.missing:
        yield _outcome(job, extracted, num_labels, keys.rest)


def _outcome(
    job: Job, extracted: Extracted, num_labels: int, key: jax.Array
) -> Outcome:
    """A row of results at a number of labels, and what stands for it: split 0."""
    plan, labels = job.plan, job.plan.data.test_labels
    every: list[np.ndarray] = []
    for splits in plan.workdir.groups_of_splits(num_labels, plan.recipe.num_splits):
        teachers = [_teacher(job, extracted, num_labels, seed) for seed in splits]
        if splits[0] == 0 and plan.is_newest(num_labels):
            svm.save_svm(teachers[0].classifier, plan.workdir.classifier)
        student, params = _train(job, num_labels, splits, teachers, key)
        with job.clock.part("classifier"):
            for i, teacher in enumerate(teachers):
                mine: Params = jax.tree.map(lambda array, i=i: array[i], params)
                logits = evaluate.map_images(
                    student.class_logits, mine, job.test_images
                )
                every.append(together(teacher.test_log_probs, np.asarray(logits)))
    accuracy = {
        seed: float(np.mean(log_probs.argmax(axis=1) == labels))
        for seed, log_probs in enumerate(every)
    }
    calibration = [confidence.figures(log_probs, labels) for log_probs in every]
    row = Row.measured(num_labels, "svm_student", accuracy, calibration=calibration)
    return Outcome(
        [row],
        extracted.model,
        extracted.params,
        extracted.vae,
        extracted.test_features,
        np.exp(every[0]),
    )


def _teacher(
    job: Job, extracted: Extracted, num_labels: int, split_seed: int
) -> Teacher:
    """The SVM of a label split, its guesses brought to the labels' class shares."""
    if job.stop():
        raise Stopped(f"in the classifiers for {num_labels} labels")
    data, settings = job.plan.data, job.plan.recipe.classifier.to_dict()
    del settings["name"]
    chosen = choose_labeled(data.train_labels, num_labels, split_seed=split_seed)
    labeled = extracted.train_features[chosen], data.train_labels[chosen]
    with job.clock.part("classifier"):
        classifier = svm.fit_svm(*labeled, **settings)
        temperature = confidence.temperature_of(classifier, *labeled)
        train, test = (
            confidence.class_scores(classifier, features) / temperature
            for features in (extracted.train_features, extracted.test_features)
        )
        shares = np.bincount(labeled[1], minlength=data.num_classes) / num_labels
        bias = proportions.aligning_bias(train, shares)
    log_probs = (proportions.aligned(s, bias).astype(np.float32) for s in (train, test))
    return Teacher(classifier, chosen, *log_probs)


def _train(
    job: Job, num_labels: int, splits: range, teachers: list[Teacher], key: jax.Array
) -> tuple[Student, Params]:
    """The students of the splits, with a leading axis; trained side by side."""
    settings, labels = job.plan.recipe.student, jnp.asarray(job.plan.data.train_labels)
    keys = jax.vmap(lambda seed: Keys.of(jax.random.fold_in(key, seed)))(
        jnp.asarray(splits)
    )
    every = jnp.tile(jnp.arange(len(labels)), (len(splits), 1))
    guesses = jnp.asarray(np.stack([each.train_log_probs for each in teachers]))
    labeled = jnp.asarray(np.stack([each.labeled_rows for each in teachers]))
    examples = [
        Examples(job.train_images, every, guesses),
        Examples((job.train_images, labels), labeled),
    ]
    batch_sizes = job.plan.student_batch_sizes(num_labels)
    student = Student(
        job.plan.data.image_shape,
        job.plan.data.num_classes,
        num_steps=settings.num_epochs * (len(labels) // batch_sizes[0]),
    )
    training = Training(
        job.plan.workdir.stage_of_splits(num_labels, splits),
        student,
        settings,
        examples,
        batch_sizes,
        keys,
        title=f"{num_labels} labels, {len(splits)} splits from {splits[0]}",
        steps_per_scan=STEPS_PER_SCAN,
    )
    return student, trained_params(job, training)


def together(teacher: np.ndarray, student_logits: np.ndarray) -> np.ndarray:
    """Log of the geometric mean of two classifiers' probabilities, normalized: [N, K].

    Args:
      teacher: Log probabilities, [N, K].
      student_logits: [N, K].
    """
    mean = (teacher + np.asarray(jax.nn.log_softmax(student_logits))) / 2
    return np.asarray(jax.nn.log_softmax(mean), np.float64)
