"""One way to use unlabeled images: a VAE of all of them, then an SVM on its features.

The VAE learns no labels, so one serves every number of labels and every label split.
"""

from collections.abc import Iterator

import jax
import numpy as np
from sklearn.pipeline import Pipeline

from ssl_vae.classifiers import confidence, svm
from ssl_vae.extractor import extract
from ssl_vae.job import Job, Keys, Outcome, Stopped
from ssl_vae.labels import choose_labeled
from ssl_vae.results import Row


def train_and_measure(job: Job, key: jax.Array) -> Iterator[Outcome]:
    """Trains the VAE, fits the SVMs that are missing, and keeps one.

    The SVM that is kept is that of the most labels of the run, first split.
    """
    plan, extracted = job.plan, extract(job, Keys.of(key))
    rows = []
    with job.clock.part("classifier"):
        for num_labels in plan.missing:
            new, classifier, probs = _fit_svms(
                job, num_labels, extracted.train_features, extracted.test_features
            )
            rows.append(new)
    if plan.is_newest(rows[-1].labels):
        svm.save_svm(classifier, plan.workdir.classifier)
    model, params, vae, _, test_features = extracted
    yield Outcome(rows, model, params, vae, test_features, probs)


def _fit_svms(
    job: Job, num_labels: int, train_features: np.ndarray, test_features: np.ndarray
) -> tuple[Row, Pipeline, np.ndarray]:
    """A row of results; the SVM of the first split, and its calibrated test probs."""
    data, settings = job.plan.data, job.plan.recipe.classifier.to_dict()
    name = settings.pop("name")
    accuracy: dict[int, float] = {}
    fitted, calibration = [], []
    for split_seed in range(job.plan.recipe.num_splits):
        if job.stop():
            raise Stopped(f"in the classifiers for {num_labels} labels")
        chosen = choose_labeled(data.train_labels, num_labels, split_seed=split_seed)
        labeled = train_features[chosen], data.train_labels[chosen]
        classifier = svm.fit_svm(*labeled, **settings)
        temperature = confidence.temperature_of(classifier, *labeled)
        accuracy[split_seed] = classifier.score(test_features, data.test_labels)
        scores = confidence.class_scores(classifier, test_features)
        fitted.append((classifier, confidence.class_probs(scores, temperature)))
        calibration.append(confidence.figures(scores, data.test_labels, temperature))
    row = Row.measured(num_labels, name, accuracy, calibration=calibration)
    return row, *fitted[0]
