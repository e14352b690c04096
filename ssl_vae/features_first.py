"""One way to use unlabeled images: a VAE of all of them, then an SVM on its features.

The VAE learns no labels, so one serves every number of labels and every label split.
"""

from collections.abc import Iterator

import jax
import numpy as np

from ssl_vae.classifiers import confidence
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.errors import Stopped
from ssl_vae.extractor import Extracted, extract, fitted_svm
from ssl_vae.job import Job, Keys, Outcome
from ssl_vae.results import Row
from ssl_vae.splits import first_measured


def train_and_measure(job: Job, key: jax.Array) -> Iterator[Outcome]:
    """Trains the VAE, fits the SVMs that are missing, and keeps one.

    The SVM that is kept is that of the most labels of the run, first split or, in
    cross-validation, of all of them.
    """
    plan, extracted = job.plan, extract(job, Keys.of(key))
    if extracted is None:
        return
    rows = []
    with job.clock.part("classifier"):
        for num_labels in plan.missing:
            new, kept, probs = _fit_svms(job, num_labels, extracted)
            rows.append(new)
    if plan.is_newest(rows[-1].labels):
        kept.save(plan.workdir.path, num_labels=rows[-1].labels)
    model, params, vae, _, test_features = extracted
    yield Outcome(rows, model, params, vae, test_features, probs)


def _fit_svms(
    job: Job, num_labels: int, extracted: Extracted
) -> tuple[Row, CalibratedSVM, np.ndarray]:
    """A row of results, the SVM that is kept, and calibrated probs of the test images.

    In cross-validation that SVM has all the labels, and every image's probs are those
    of one that was not given its label.
    """
    plan, labels = job.plan, job.plan.data.test_labels
    splits = plan.splits(num_labels)
    accuracy: dict[int, float] = {}
    every_split, svms, probs, calibration = [], [], [], []
    for split_seed in plan.split_seeds(num_labels):
        if job.stop():
            raise Stopped(f"in the classifiers for {num_labels} labels")
        split = splits.split(split_seed)
        classifier = fitted_svm(job, extracted, split.labeled)
        features = extracted.test_features[split.measured]
        scores, measured = classifier.scores(features), labels[split.measured]
        temperature = classifier.temperature
        accuracy[split_seed] = classifier.pipeline.score(features, measured)
        every_split.append(split)
        svms.append(classifier)
        probs.append(confidence.class_probs(scores, temperature))
        calibration.append(confidence.figures(scores, measured, temperature))
    kept = svms[0]
    if plan.data.cross_validated:
        kept = fitted_svm(job, extracted, splits.chosen)
    row = Row.measured(
        num_labels,
        plan.recipe.classifier.name,
        accuracy,
        protocol=splits.protocol,
        calibration=calibration,
    )
    return row, kept, first_measured(every_split, probs, len(labels))
