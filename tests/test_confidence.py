import numpy as np
import pytest
import scipy.special
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

from ssl_vae.classifiers import confidence, svm


@pytest.fixture(params=[2, 4], ids=["two classes", "four"])
def fitted(request):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(request.param), 40)
    features = rng.normal(labels[:, None], 0.7, (len(labels), 3))
    return svm.fit_svm(features, labels, C=2.0, standardize=False), features, labels


def test_a_class_is_scored_by_its_pairs(fitted):
    """Against SVMs of two classes alone, which is what the pairs of one SVM are."""
    pipeline, features, labels = fitted
    num_classes = labels.max() + 1
    expected = np.zeros([len(features), num_classes])
    gamma = 1 / (features.shape[1] * features.var())
    for i in range(num_classes):
        for j in range(num_classes):
            if i == j:
                continue
            two = (labels == i) | (labels == j)
            svc = SVC(C=2.0, gamma=gamma).fit(features[two], labels[two] == i)
            value = svc.decision_function(features)
            expected[:, i] += np.log(scipy.special.expit(8 * value))
    found = confidence.class_scores(pipeline, features)
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=0.1)
    agree = found.argmax(axis=1) == pipeline.predict(features)
    assert agree.mean() > 0.97


def test_scores_do_not_depend_on_how_many_are_asked_for(fitted, monkeypatch):
    pipeline, features, _ = fitted
    whole = confidence.class_scores(pipeline, features)
    for rows in (1, 7, len(features)):
        monkeypatch.setattr(confidence, "ROWS", rows)
        assert np.array_equal(confidence.class_scores(pipeline, features), whole)
    assert np.array_equal(confidence.class_scores(pipeline, features[:3]), whole[:3])


def test_held_out_scores_are_of_svms_that_did_not_see_the_image(fitted):
    pipeline, features, labels = fitted
    found = confidence.held_out_scores(pipeline, features, labels)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for rest, held_out in folds.split(features, labels):
        other = svm.fit_svm(features[rest], labels[rest], C=2.0, standardize=False)
        expected = confidence.class_scores(other, features[held_out])
        np.testing.assert_allclose(found[held_out], expected)


def test_an_image_is_not_judged_by_an_svm_that_saw_it_moved(fitted):
    pipeline, features, labels = fitted
    moved = features[None] + np.array([[[0.3]], [[-0.3]]])
    found = confidence.held_out_scores(pipeline, features, labels, moved)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for rest, held_out in folds.split(features, labels):
        both = np.concatenate([features[rest], *moved[:, rest]])
        other = svm.fit_svm(both, np.tile(labels[rest], 3), C=2.0, standardize=False)
        expected = confidence.class_scores(other, features[held_out])
        np.testing.assert_allclose(found[held_out], expected)


def test_the_temperature_is_that_of_the_most_likelihood(fitted):
    pipeline, features, labels = fitted
    scores = confidence.held_out_scores(pipeline, features, labels)

    def likelihood(temperature):
        log_probs = scipy.special.log_softmax(scores / temperature, axis=1)
        return log_probs[np.arange(len(labels)), labels].sum()

    found = confidence.fit_temperature(scores, labels)
    assert (
        likelihood(found) >= max(map(likelihood, np.geomspace(0.01, 100, 500))) - 1e-4
    )


def test_a_temperature_undoes_scores_that_are_too_large():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(20_000, 3))
    labels = (rng.random((20_000, 1)) > confidence.class_probs(scores).cumsum(1)).sum(1)
    assert confidence.fit_temperature(5 * scores, labels) == pytest.approx(5, rel=0.05)
    honest = confidence.class_probs(scores)
    boastful = confidence.class_probs(5 * scores)
    assert confidence.calibration_error(honest, labels) < 0.02
    assert confidence.calibration_error(boastful, labels) > 0.2


def test_images_that_are_all_right_leave_the_temperature_alone():
    scores = np.array([[-0.1, -9.0], [-9.0, -0.2], [-0.3, -0.9]])
    assert confidence.fit_temperature(scores, np.array([0, 1, 0])) == 1
    assert confidence.fit_temperature(scores, np.array([0, 0, 0])) > 1


@pytest.mark.parametrize("num_classes", [2, 4])
def test_the_temperature_halves_the_error_where_classes_overlap(num_classes):
    rng = np.random.default_rng(0)

    def drawn(size):
        labels = np.repeat(np.arange(num_classes), size)
        return rng.normal(labels[:, None], 1.0, (len(labels), 3)), labels

    few, others = drawn(40), drawn(1000)
    pipeline = svm.fit_svm(*few, C=2.0, standardize=False)
    temperature = confidence.temperature_of(pipeline, *few)
    scores = confidence.class_scores(pipeline, others[0])
    trust = confidence.figures(scores, others[1], temperature)
    assert trust["error"] < trust["error_before"] / 2


def test_the_calibration_error_by_hand():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.45, 0.55], [1.0, 0.0]])
    labels = np.array([0, 1, 1, 0])
    # Bins: two at 0.9, half of them right; one at 0.55, right; one at 1, right.
    expected = (2 * abs(0.9 - 0.5) + abs(0.55 - 1) + 0) / 4
    assert confidence.calibration_error(probs, labels) == pytest.approx(expected)


def test_confidence_is_told_in_fifteen_bins_that_hold_their_upper_end():
    probs = np.array([[0.6, 0.4], [0.601, 0.399], [0.666, 0.334], [1.0, 0.0]])
    counts, confidences, accuracy = confidence.reliability(probs, np.zeros(4, int))
    np.testing.assert_array_equal(counts, [0] * 8 + [1, 2] + [0] * 4 + [1])
    np.testing.assert_allclose(confidences[[8, 9, 14]], [0.6, 0.6335, 1.0])
    assert accuracy[counts > 0].min() == 1


def test_those_it_is_surest_of_come_first():
    probs = np.array([[0.6, 0.4], [0.1, 0.9], [0.8, 0.2]])
    found = confidence.accuracy_of_surest(probs, np.array([1, 1, 0]))
    np.testing.assert_allclose(found, [1, 1, 2 / 3])


def test_one_label_a_class_has_no_held_out_scores(fitted):
    pipeline, features, labels = fitted
    one = np.unique(labels, return_index=True)[1]
    assert confidence.held_out_scores(pipeline, features[one], labels[one]) is None


def test_the_only_image_of_a_class_is_learned_from_and_never_held_out(fitted):
    pipeline, features, labels = fitted
    rows = np.flatnonzero(labels > 0)
    features, labels = features[[0, *rows]], labels[[0, *rows]]
    found = confidence.held_out_scores(pipeline, features, labels)
    assert np.isnan(found[0]).all()
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for rest, held_out in folds.split(features[1:], labels[1:]):
        fitted_on = [0, *(1 + rest)]
        other = svm.fit_svm(
            features[fitted_on], labels[fitted_on], C=2.0, standardize=False
        )
        expected = confidence.class_scores(other, features[1 + held_out])
        np.testing.assert_allclose(found[1 + held_out], expected)
    temperature = confidence.temperature_of(pipeline, features, labels)
    assert temperature == confidence.fit_temperature(found[1:], labels[1:])


def test_two_classifiers_together_are_their_normalized_geometric_mean():
    first = np.log([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    second = np.log([[0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    mean = np.sqrt(np.exp(first) * np.exp(second))
    expected = mean / mean.sum(axis=1, keepdims=True)
    found = np.exp(
        confidence.together(first, second + 3.0)
    )  # logits need not be normalized
    np.testing.assert_allclose(found, expected, rtol=1e-5)
