import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import StratifiedKFold

from ssl_vae.classifiers import confidence, svm


@pytest.fixture(params=[2, 4], ids=["two classes", "four"])
def fitted(request):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(request.param), 40)
    features = rng.normal(labels[:, None], 0.7, (len(labels), 3))
    return svm.fit_svm(features, labels, C=2.0, standardize=False), features, labels


def test_the_temperature_is_scikit_learns(fitted):
    pipeline, features, labels = fitted
    scores = confidence.held_out_decisions(pipeline, features, labels)
    ours = confidence.fit_temperature(scores, labels)
    theirs = CalibratedClassifierCV(
        pipeline,
        method="temperature",
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
        ensemble=False,
    ).fit(features, labels)
    probs = confidence.class_probs(confidence.decisions(pipeline, features), ours)
    np.testing.assert_allclose(probs, theirs.predict_proba(features), atol=2e-3)


def test_the_likeliest_class_is_that_of_the_highest_score(fitted):
    scores = confidence.decisions(*fitted[:2])
    for temperature in (0.1, 1.0, 10.0):
        probs = confidence.class_probs(scores, temperature)
        np.testing.assert_array_equal(probs.argmax(1), scores.argmax(1))
        np.testing.assert_allclose(probs.sum(1), 1)


def test_a_temperature_undoes_scores_that_are_too_large():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(20_000, 3))
    labels = (rng.random((20_000, 1)) > confidence.class_probs(scores).cumsum(1)).sum(1)
    assert confidence.fit_temperature(5 * scores, labels) == pytest.approx(5, rel=0.05)
    honest = confidence.class_probs(scores)
    boastful = confidence.class_probs(5 * scores)
    assert confidence.calibration_error(honest, labels) < 0.02
    assert confidence.calibration_error(boastful, labels) > 0.2


def test_the_calibration_error_by_hand():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.45, 0.55], [1.0, 0.0]])
    labels = np.array([0, 1, 1, 0])
    # Bins: two at 0.9, half of them right; one at 0.55, right; one at 1, right.
    expected = (2 * abs(0.9 - 0.5) + abs(0.55 - 1) + 0) / 4
    assert confidence.calibration_error(probs, labels) == pytest.approx(expected)


def test_those_it_is_surest_of_come_first():
    probs = np.array([[0.6, 0.4], [0.1, 0.9], [0.8, 0.2]])
    found = confidence.accuracy_of_surest(probs, np.array([1, 1, 0]))
    np.testing.assert_allclose(found, [1, 1, 2 / 3])


def test_one_label_a_class_has_no_held_out_scores(fitted):
    pipeline, features, labels = fitted
    one = np.unique(labels, return_index=True)[1]
    assert confidence.held_out_decisions(pipeline, features[one], labels[one]) is None
