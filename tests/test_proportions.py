import numpy as np
import pytest
import scipy.special

from ssl_vae.classifiers.proportions import aligned, aligning_bias

SHARES = np.array([0.5, 0.3, 0.15, 0.05])


@pytest.fixture
def log_probs():
    scores = np.random.default_rng(0).normal(size=(500, 4)) * 3 + [2, 0, 0, -3]
    return scipy.special.log_softmax(scores, axis=1)


def test_the_mean_probabilities_become_the_proportions(log_probs):
    bias = aligning_bias(log_probs, SHARES)
    mean = np.exp(aligned(log_probs, bias)).mean(axis=0)
    np.testing.assert_allclose(mean, SHARES, atol=1e-4)
    assert abs(bias.mean()) < 1e-9


def test_what_has_the_proportions_already_stays_as_it_is(log_probs):
    bias = aligning_bias(log_probs, np.exp(log_probs).mean(axis=0))
    np.testing.assert_allclose(bias, 0, atol=1e-4)


def test_a_bias_that_was_put_in_is_found_again():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(1000, 3)) * 2
    shares = scipy.special.softmax(logits, axis=1).mean(axis=0)
    wrong = np.array([1.0, -2.0, 0.5])
    found = aligning_bias(logits + wrong, shares)
    np.testing.assert_allclose(found - found[0], -(wrong - wrong[0]), atol=1e-3)


def test_it_mends_a_classifier_that_was_told_of_other_shares():
    """Two Gaussians, met 1 : 9; the classifier was made for 1 : 1."""
    rng = np.random.default_rng(2)
    labels = (rng.random(20_000) < 0.9).astype(int)
    x = rng.normal(size=20_000) + 2 * labels
    log_odds = 2 * x - 2  # of the second class, for equal shares
    log_probs = scipy.special.log_softmax(np.stack([0 * x, log_odds], axis=1), axis=1)
    bias = aligning_bias(log_probs, np.array([0.1, 0.9]))
    exact = np.log(9)  # Bayes' rule
    assert bias[1] - bias[0] == pytest.approx(exact, abs=0.1)
    before = np.mean(log_probs.argmax(axis=1) == labels)
    assert np.mean(aligned(log_probs, bias).argmax(axis=1) == labels) > before + 0.05


def test_aligned_rows_are_log_probabilities(log_probs):
    rows = aligned(log_probs, np.array([3.0, 0.0, -1.0, 5.0]))
    np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1)
