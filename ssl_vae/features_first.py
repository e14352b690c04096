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
from ssl_vae.labels import choose_labeled
from ssl_vae.results import Row


def train_and_measure(job: Job, key: jax.Array) -> Iterator[Outcome]:
    """Trains the VAE, fits the SVMs that are missing, and keeps one.

    The SVM that is kept is that of the most labels of the run, first split.
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
    """A row of results; the SVM of the first split, and its calibrated test probs."""
    data, settings = job.plan.data, job.plan.recipe.classifier.to_dict()
    name = settings.pop("name")
    accuracy: dict[int, float] = {}
    fitted = []
    for split_seed in range(job.plan.recipe.num_splits):
        if job.stop():
            raise Stopped(f"in the classifiers for {num_labels} labels")
        chosen = choose_labeled(data.train_labels, num_labels, split_seed=split_seed)
        labeled = train_features[chosen], data.train_labels[chosen]
        classifier = svm.fit_svm(*labeled, **settings)
        accuracy[split_seed] = classifier.score(test_features, data.test_labels)
        probs, trust = _calibrate(classifier, labeled, test_features, data.test_labels)
        fitted.append((classifier, probs, trust))
    classifier, probs, _ = fitted[0]
    calibration = [trust for *_, trust in fitted]
    row = Row.measured(num_labels, name, accuracy, calibration=calibration)
    return row, classifier, probs


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
