"""One way to use unlabeled images: a VAE of all of them, then an SVM on its features.

The VAE learns no labels, so one serves every number of labels and every label split.
There may be several, of as many seeds, and an SVM on the features of each: then the
accuracies are means over them, and of all else the first stands for all.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ssl_vae.classifiers import confidence
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.errors import Stopped
from ssl_vae.extractor import Extracted, extract, fitted_svm
from ssl_vae.job import Job, Keys, Outcome
from ssl_vae.results import Row
from ssl_vae.splits import first_measured


class Fitted(NamedTuple):
    """The SVMs of a VAE at a number of labels."""

    accuracy: list[float]  # one a label split
    calibration: list[dict[str, float]]
    kept: CalibratedSVM
    probs: np.ndarray  # [M, K], calibrated, of the test images


def train_and_measure(job: Job) -> Iterator[Outcome]:
    """Trains the VAEs, fits the SVMs that are missing, and keeps one.

    The SVM that is kept is that of the most labels of the run, first split or, in
    cross-validation, of all of them.
    """
    plan = job.plan
    first: Extracted | None = None
    figures = []
    fitted: dict[int, list[Fitted]] = {num_labels: [] for num_labels in plan.missing}
    for extracted in extract(job, Keys.of_seeds(plan.seeds)):
        first = first or extracted
        figures.append(extracted.vae)
        with job.clock.part("classifier"):
            for num_labels, of_seeds in fitted.items():
                of_seeds.append(_fit_svms(job, num_labels, extracted))
    if first is None:
        return
    rows = [_row(job, num_labels, of_seeds) for num_labels, of_seeds in fitted.items()]
    newest = fitted[plan.missing[-1]][0]
    if plan.is_newest(plan.missing[-1]):
        newest.kept.save(plan.workdir.path, num_labels=plan.missing[-1])
    vae = figures[0] | ({"of_seeds": figures} if len(figures) > 1 else {})
    model, params, _, _, test_features = first
    yield Outcome(rows, model, params, vae, test_features, newest.probs)


def _row(job: Job, num_labels: int, of_seeds: list[Fitted]) -> Row:
    """A row of results."""
    plan = job.plan
    each = [fitted.accuracy for fitted in of_seeds]
    means = np.mean(each, axis=0).tolist()
    return Row.measured(
        num_labels,
        plan.recipe.classifier.name,
        dict(zip(plan.split_seeds(num_labels), means, strict=True)),
        protocol=plan.splits(num_labels).protocol,
        calibration=of_seeds[0].calibration,
        of_seeds=dict(zip(plan.seeds, each, strict=True)) if len(each) > 1 else {},
    )


def _fit_svms(job: Job, num_labels: int, extracted: Extracted) -> Fitted:
    """The SVMs of all label splits on the features of one VAE.

    In cross-validation the one that is kept has all the labels, and every image's probs
    are those of one that was not given its label.
    """
    plan, labels = job.plan, job.plan.data.test_labels
    splits = plan.splits(num_labels)
    every_split, accuracy, svms, probs, calibration = [], [], [], [], []
    for split_seed in plan.split_seeds(num_labels):
        if job.stop():
            raise Stopped(f"in the classifiers for {num_labels} labels")
        split = splits.split(split_seed)
        classifier = fitted_svm(job, extracted, split.labeled)
        features = extracted.test_features[split.measured]
        scores, measured = classifier.scores(features), labels[split.measured]
        temperature = classifier.temperature
        accuracy.append(classifier.pipeline.score(features, measured))
        every_split.append(split)
        svms.append(classifier)
        probs.append(confidence.class_probs(scores, temperature))
        calibration.append(confidence.figures(scores, measured, temperature))
    kept = svms[0]
    if plan.data.cross_validated:
        kept = fitted_svm(job, extracted, splits.chosen)
    said = first_measured(every_split, probs, len(labels))
    return Fitted(accuracy, calibration, kept, said)
