"""One way to use unlabeled images: a VAE of all of them, then an SVM on its features.

The VAE learns no labels, so one serves every number of labels and every label split.
"""

from collections.abc import Iterator

import jax
import numpy as np
from sklearn.pipeline import Pipeline

from ssl_vae import evaluate
from ssl_vae.classifiers import confidence, svm
from ssl_vae.extractor import trained_m1
from ssl_vae.job import Job, Keys, Outcome, Stopped
from ssl_vae.results import Row
from ssl_vae.splits import first_measured


def train_and_measure(job: Job, key: jax.Array) -> Iterator[Outcome]:
    """Trains the VAE, fits the SVMs that are missing, and keeps one.

    The SVM that is kept is that of the most labels of the run, first split or, in
    cross-validation, of all of them.
    """
    plan, keys = job.plan, Keys.of(key)
    recipe = plan.recipe
    model, params = trained_m1(
        job, plan.workdir.stage(), recipe.model, recipe.train, keys
    )
    with job.clock.part("features"):
        vae, test_features = evaluate.vae_figures(
            model,
            params,
            job.test_images,
            key=keys.rest,
            num_samples=recipe.importance_samples,
        )
        epochs = recipe.train.num_epochs
        vae |= {"epochs": epochs, "steps": epochs * plan.steps_per_epoch(0)}
        train_features = np.asarray(
            evaluate.map_images(model.features, params, job.train_images)
        )
    rows = []
    with job.clock.part("classifier"):
        for num_labels in plan.missing:
            new, classifier, probs = _fit_svms(
                job, num_labels, train_features, test_features
            )
            rows.append(new)
    if plan.is_newest(rows[-1].labels):
        svm.save_svm(classifier, plan.workdir.classifier)
    yield Outcome(rows, model, params, vae, test_features, probs)


def _fit_svms(
    job: Job, num_labels: int, train_features: np.ndarray, test_features: np.ndarray
) -> tuple[Row, Pipeline, np.ndarray]:
    """A row of results, the SVM that is kept, and calibrated probs of the test images.

    In cross-validation that SVM has all the labels, and every image's probs are those
    of one that was not given its label.
    """
    plan, data = job.plan, job.plan.data
    settings = plan.recipe.classifier.to_dict()
    name = settings.pop("name")
    splits = plan.splits(num_labels)
    accuracy: dict[int, float] = {}
    fitted = []
    for split_seed in plan.split_seeds(num_labels):
        if job.stop():
            raise Stopped(f"in the classifiers for {num_labels} labels")
        split = splits.split(split_seed)
        labeled = train_features[split.labeled], data.train_labels[split.labeled]
        measured = test_features[split.measured], data.test_labels[split.measured]
        classifier = svm.fit_svm(*labeled, **settings)
        accuracy[split_seed] = classifier.score(*measured)
        fitted.append((split, classifier, *_calibrate(classifier, labeled, *measured)))
    every_split, classifiers, probs, calibration = zip(*fitted, strict=True)
    kept = classifiers[0]
    if data.cross_validated:
        chosen = splits.chosen
        kept = svm.fit_svm(
            train_features[chosen], data.train_labels[chosen], **settings
        )
    row = Row.measured(
        num_labels,
        name,
        accuracy,
        protocol=splits.protocol,
        calibration=calibration,
    )
    return row, kept, first_measured(every_split, probs, len(test_features))


def _calibrate(
    classifier: Pipeline,
    labeled: tuple[np.ndarray, np.ndarray],
    test_features: np.ndarray,
    test_labels: np.ndarray,
) -> tuple[np.ndarray, dict[str, float]]:
    """Test probabilities, [M, K], and how good they are before and after."""
    scores = confidence.class_scores(classifier, test_features)
    held_out = confidence.held_out_scores(classifier, *labeled)
    temperature = 1.0
    if held_out is not None:
        temperature = confidence.fit_temperature(held_out, labeled[1])
    probs = confidence.class_probs(scores, temperature)
    return probs, confidence.figures(scores, test_labels, temperature)
