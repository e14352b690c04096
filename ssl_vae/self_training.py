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

from ssl_vae import evaluate
from ssl_vae.classifiers import confidence
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.errors import Stopped
from ssl_vae.extractor import Extracted, extract, fitted_svm
from ssl_vae.job import Job, Keys, Outcome
from ssl_vae.loop import Training, trained_params
from ssl_vae.models import Params, Student
from ssl_vae.placement import labeled_examples
from ssl_vae.results import Row
from ssl_vae.splits import Split, first_measured

FIGURES = 2**31  # above the seed of any split
STEPS_PER_SCAN = 20  # a step is several splits'


class Teacher(NamedTuple):
    """The SVM of a label split, and what it thinks of all images."""

    split: Split
    classifier: CalibratedSVM
    train_log_probs: np.ndarray  # float32 [N, K]
    test_log_probs: np.ndarray  # float [M, K]


def train_and_measure(job: Job) -> Iterator[Outcome]:
    """Trains M1, then SVMs and students for every missing number of labels in turn."""
    keys = Keys.of_seeds(job.plan.seeds)
    # Folded from `rest` are the students' keys, one a label split; not so these draws.
    of_figures = jax.random.fold_in(keys.rest, FIGURES)
    extracted = next(extract(job, keys._replace(rest=of_figures)), None)
    for num_labels in job.plan.missing:
        yield from _outcome(job, extracted, num_labels, keys.rest)


def _outcome(
    job: Job, extracted: Extracted | None, num_labels: int, key: jax.Array
) -> Iterator[Outcome]:
    """A row of results at a number of labels; the first split stands for all.

    Processes that follow another, for which nothing is extracted, only train.
    """
    plan, labels = job.plan, job.plan.data.test_labels
    accuracy: dict[int, float] = {}
    every_split, svms, probs, calibration = [], [], [], []
    for seeds in plan.workdir.groups_of_splits(
        num_labels, len(plan.split_seeds(num_labels))
    ):
        teachers = []
        if extracted:
            teachers = [_teacher(job, extracted, num_labels, seed) for seed in seeds]
        student, params = _train(job, num_labels, seeds, teachers, key)
        for i, (split, svm, _, teacher) in enumerate(teachers):
            if job.stop():
                raise Stopped(f"in the figures for {num_labels} labels")
            mine: Params = jax.tree.map(lambda array, i=i: array[i], params)
            with job.clock.part("classifier"):
                logits = evaluate.map_images(
                    student.class_logits, mine, job.test_images
                )
                both = confidence.together(teacher, np.asarray(logits))[split.measured]
                measured = labels[split.measured]
                accuracy[split.seed] = float(np.mean(both.argmax(axis=1) == measured))
                calibration.append(confidence.figures(both, measured))
            every_split.append(split)
            svms.append(svm)
            probs.append(np.exp(both))
    if not extracted:
        return
    row = Row.measured(
        num_labels,
        "svm_student",
        accuracy,
        protocol=plan.splits(num_labels).protocol,
        calibration=calibration,
    )
    if plan.is_newest(num_labels):
        svms[0].save(plan.workdir.path, num_labels=num_labels)
    model, m1_params, vae, _, test_features = extracted
    said = first_measured(every_split, probs, len(labels))
    yield Outcome([row], model, m1_params, vae, test_features, said)


def _teacher(
    job: Job, extracted: Extracted, num_labels: int, split_seed: int
) -> Teacher:
    """The SVM of a label split, its guesses brought to the labels' class shares."""
    if job.stop():
        raise Stopped(f"in the classifiers for {num_labels} labels")
    plan = job.plan
    split = plan.splits(num_labels).split(split_seed)
    labels = plan.data.train_labels[split.labeled]
    shares = np.bincount(labels, minlength=plan.data.num_classes) / len(labels)
    with job.clock.part("classifier"):
        classifier = fitted_svm(job, extracted, split.labeled)
        classifier = classifier.aligned(extracted.train_features, shares)
        train, test = (
            classifier.log_probs(features)
            for features in (extracted.train_features, extracted.test_features)
        )
    return Teacher(split, classifier, train.astype(np.float32), test)


def _train(
    job: Job, num_labels: int, seeds: range, teachers: list[Teacher], key: jax.Array
) -> tuple[Student, Params]:
    """The students of the splits, with a leading axis; trained side by side."""
    plan, settings = job.plan, job.plan.recipe.student
    labels = plan.data.train_labels
    keys = jax.vmap(lambda seed: Keys.of(jax.random.fold_in(key, seed)))(
        jnp.asarray(seeds)
    )
    every = np.tile(np.arange(len(labels)), (len(seeds), 1))
    guesses = np.zeros((len(seeds), len(labels), plan.data.num_classes), np.float32)
    for mine, teacher in zip(guesses, teachers, strict=False):
        mine[:] = teacher.train_log_probs
    guesses = job.team.share(guesses)
    splits = [plan.splits(num_labels).split(seed) for seed in seeds]
    labeled = np.stack([split.labeled for split in splits])
    examples = [
        job.train_images.examples(every, jnp.asarray(guesses)),
        labeled_examples(job.train_images, labels, labeled),
    ]
    batch_sizes = plan.batch_sizes(num_labels, "student")
    student = Student(
        plan.data.image_shape,
        plan.data.num_classes,
        num_steps=settings.num_epochs * (len(labels) // batch_sizes[0]),
    )
    training = Training(
        plan.workdir.stage_of_splits(num_labels, seeds),
        student,
        settings,
        examples,
        batch_sizes,
        keys,
        title=f"{num_labels} labels, {len(seeds)} splits from {seeds[0]}",
        steps_per_scan=STEPS_PER_SCAN,
    )
    return student, trained_params(job, training)
