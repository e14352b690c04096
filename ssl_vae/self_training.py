"""A third way to use unlabeled images: an SVM's guesses about them teach a network.

M1 and the SVMs on its features are those of `features_first`. The guesses of each SVM
are set right by the shares of the classes, which the labels tell, and a convolutional
network learns from them what shifts and the like leave as it is (`models.Student`). The
answer is what both together think.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_vae import evaluate
from ssl_vae.classifiers import confidence
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.errors import Stopped
from ssl_vae.extractor import Extracted, extract
from ssl_vae.job import Job, Keys, Outcome
from ssl_vae.loop import Training, trained_params
from ssl_vae.models import Params, Student
from ssl_vae.placement import labeled_examples
from ssl_vae.plan import Plan
from ssl_vae.results import Row
from ssl_vae.splits import Split
from ssl_vae.stage import Stage
from ssl_vae.svms import aligned_svm, side_by_side

FIGURES = 2**31  # above the seed of any split
STEPS_PER_SCAN = 20  # a step is several splits'


class Group(NamedTuple):
    """Label splits whose students are trained side by side."""

    num_labels: int
    splits: list[Split]
    stage: Stage


class Teacher(NamedTuple):
    """The SVM of a label split, and what it thinks of all images."""

    split: Split
    classifier: CalibratedSVM
    train_log_probs: np.ndarray  # float32 [N, K]
    test_log_probs: np.ndarray  # float [M, K]


def train_and_measure(job: Job) -> Iterator[Outcome]:
    """Trains M1, then SVMs and students for every missing number of labels in turn.

    The SVM and the student that are kept are those of the first split; or, in
    cross-validation, of all labels.
    """
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
    plan = job.plan
    every_split, svms, log_probs = [], [], []
    for group in _groups(plan, num_labels):
        teachers = _teachers(job, extracted, group)
        student, params = _train(job, group, teachers, key)
        for i, (split, svm, _, teacher) in enumerate(teachers):
            if job.stop():
                raise Stopped(f"in the figures for {num_labels} labels")
            mine: Params = jax.tree.map(lambda array, i=i: array[i], params)
            with job.clock.part("classifier"):
                logits = evaluate.map_images(
                    student.class_logits, mine, job.test_images
                )
                both = confidence.together(teacher, np.asarray(logits))
            every_split.append(split)
            svms.append(svm)
            log_probs.append(both[split.measured])
    kept = svms[:1]
    if plan.data.cross_validated and plan.is_newest(num_labels):
        group = _whole(plan, num_labels)
        teachers = _teachers(job, extracted, group)
        _train(job, group, teachers, key)
        kept = [teacher.classifier for teacher in teachers]
    if not extracted:
        return
    judged = evaluate.judged(every_split, log_probs, plan.data.test_labels)
    row = Row.measured(
        num_labels,
        "svm_student",
        judged.accuracy,
        protocol=plan.splits(num_labels).protocol,
        calibration=judged.calibration,
    )
    if plan.is_newest(num_labels):
        kept[0].save(plan.workdir.path, num_labels=num_labels)
    model, m1_params, vae, _, test_features = extracted
    yield Outcome([row], model, m1_params, vae, test_features, judged.probs)


def _groups(plan: Plan, num_labels: int) -> list[Group]:
    """All label splits that are measured."""
    splits, run = plan.splits(num_labels), plan.workdir
    return [
        Group(
            num_labels,
            [splits.split(seed) for seed in seeds],
            run.stage_of_splits(num_labels, seeds),
        )
        for seeds in run.groups_of_splits(num_labels, len(plan.split_seeds(num_labels)))
    ]


def _whole(plan: Plan, num_labels: int) -> Group:
    """The one that has all labels, for what a cross-validated run keeps."""
    whole = plan.splits(num_labels).whole
    stage = plan.workdir.stage_of_whole(num_labels)
    return Group(num_labels, [whole], stage)


def _teachers(job: Job, extracted: Extracted | None, group: Group) -> list[Teacher]:
    """One a label split, its guesses brought to the labels' class shares.

    An empty list where nothing is extracted.
    """
    if not extracted:
        return []
    with job.clock.part("classifier"):
        teacher = partial(_teacher, job, extracted, group.num_labels)
        return side_by_side(teacher, group.splits)


def _teacher(job: Job, extracted: Extracted, num_labels: int, split: Split) -> Teacher:
    if job.stop():
        raise Stopped(f"in the classifiers for {num_labels} labels")
    classifier, train = aligned_svm(
        job, extracted, split.labeled, extracted.train_features
    )
    test = classifier.log_probs(extracted.test_features)
    return Teacher(split, classifier, train.astype(np.float32), test)


def _train(
    job: Job, group: Group, teachers: list[Teacher], key: jax.Array
) -> tuple[Student, Params]:
    """The students of a group, their parameters with a leading axis."""
    plan, settings = job.plan, job.plan.recipe.student
    labels, size = plan.data.train_labels, len(group.splits)
    keys = jax.vmap(lambda seed: Keys.of(jax.random.fold_in(key, seed)))(
        jnp.asarray([split.seed for split in group.splits])
    )
    every = np.tile(np.arange(len(labels)), (size, 1))
    guesses = np.zeros((size, len(labels), plan.data.num_classes), np.float32)
    for mine, teacher in zip(guesses, teachers, strict=False):
        mine[:] = teacher.train_log_probs
    guesses = job.team.share(guesses)
    labeled = np.stack([split.labeled for split in group.splits])
    examples = [
        job.train_images.examples(every, guesses),
        labeled_examples(job.train_images, labels, labeled),
    ]
    batch_sizes = plan.batch_sizes(group.num_labels, "student")
    student = Student(
        plan.data.image_shape,
        plan.data.num_classes,
        num_steps=settings.num_epochs * (len(labels) // batch_sizes[0]),
    )
    training = Training(
        group.stage,
        student,
        settings,
        examples,
        batch_sizes,
        keys,
        title=f"{group.num_labels} labels, {group.stage.which}",
        steps_per_scan=STEPS_PER_SCAN,
    )
    return student, trained_params(job, training)
