"""The SVM as a function that JAX can trace, against scikit-learn's."""

import jax
import numpy as np
import pytest

from ssl_vae.classifiers import confidence, traceable
from ssl_vae.classifiers.calibrated import CalibratedSVM


@pytest.fixture(params=[(2, True), (3, False), (5, True)])
def fitted(request):
    """A calibrated SVM with a bias, far from 0, and features to try it on."""
    num_classes, standardize = request.param
    rng = np.random.default_rng(num_classes)
    labels = np.arange(60) % num_classes
    features = rng.normal(size=(60, 4)) + 0.7 * labels[:, None] + [0, 5, -30, 2]
    features *= [1, 3, 0.5, 1]
    classifier = CalibratedSVM.fitted(features, labels, C=2.0, standardize=standardize)
    shares = np.arange(1, num_classes + 1) / sum(range(num_classes + 1))
    others = features[rng.permutation(60)] + rng.normal(size=(60, 4))
    return classifier.aligned(features, shares)[0], others.astype(np.float32)


def test_it_gives_the_log_probs_of_the_svm(fitted):
    classifier, features = fitted
    arrays = traceable.arrays_of(classifier)
    found = jax.jit(traceable.log_probs)(arrays, features)
    assert found.dtype == np.float32
    expected = classifier.log_probs(features)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def test_it_is_differentiable_at_a_support_vector(fitted):
    classifier, _ = fitted
    arrays = traceable.arrays_of(classifier)
    at = arrays["support_vectors"][:1] * arrays["scale"] + arrays["shift"]
    slope = jax.grad(lambda x: traceable.log_probs(arrays, x)[0, 0])(at)
    assert np.isfinite(slope).all() and np.any(slope != 0)


def test_two_classifiers_go_together_as_in_numpy():
    teacher, student = np.random.default_rng(0).normal(size=(2, 6, 3)) * 4
    found = traceable.together(np.float32(teacher), np.float32(student))
    expected = confidence.together(teacher, student)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
