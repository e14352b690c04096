import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import scipy.special

from ssl_vae import augment
from ssl_vae.models import Student
from ssl_vae.networks import Convolution

SHAPE, K = (8, 8, 1), 3
MODEL = Student(SHAPE, K, num_steps=100, channels=(4, 6), hidden=5)
LOGITS, TARGETS, LOSS = map(jax.jit, (MODEL.logits, MODEL.targets, MODEL.loss))
CHANGED = jax.jit(lambda key, x: augment.strong(key, x, SHAPE))


@pytest.fixture
def x():
    return jax.random.uniform(jax.random.key(0), (12, 64))


@pytest.fixture
def teacher():
    logits = 2 * jax.random.normal(jax.random.key(1), (12, K))
    return jax.nn.log_softmax(logits)


def params():
    return MODEL.init(jax.random.key(2))


def targets(x, teacher, step):
    key = jax.random.key(3)
    return np.asarray(MODEL.targets(params(), x, teacher, key=key, step=step))


@pytest.mark.parametrize("size, stride", [(3, 1), (3, 2), (5, 2)])
def test_a_convolution_of_patches_is_that_of_scipy(size, stride):
    x = jax.random.normal(jax.random.key(0), (2, 9, 7, 3))
    layer = Convolution(4, size, stride)
    weights = layer.init(jax.random.key(1), x)
    kernel = np.asarray(weights["params"]["Dense_0"]["kernel"])
    kernel = kernel.reshape(size, size, 3, 4)
    expected = np.zeros((2, 9, 7, 4))
    for image, out in zip(np.asarray(x), expected, strict=True):
        for i in range(3):
            for o in range(4):
                out[..., o] += scipy.signal.correlate2d(
                    image[..., i], kernel[..., i, o], mode="same"
                )
    expected = np.maximum(expected, 0)[:, ::stride, ::stride]
    np.testing.assert_allclose(layer.apply(weights, x), expected, atol=1e-5)


def test_an_answer_is_the_mean_over_an_image_and_its_neighbors(x):
    pictures = np.pad(np.asarray(x).reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    centers = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    views = [pictures[:, i : i + 8, j : j + 8].reshape(-1, 64) for i, j in centers]
    expected = np.mean([MODEL.logits(params(), view) for view in views], axis=0)
    found = MODEL.class_logits(params(), x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_at_first_the_targets_are_the_teachers(x, teacher):
    for step in (0, 10):
        found = targets(x, teacher, jnp.int32(step))
        np.testing.assert_allclose(found, np.exp(teacher), rtol=1e-4)


def opinionated():
    """Weights that say as much of an image as the teacher does."""
    weights = params()
    weights["logits"]["kernel"] *= 20
    return weights


def log_softmax(weights, x):
    return scipy.special.log_softmax(np.float64(LOGITS(weights, x)), axis=1)


def targets_by_hand(weights, x, teacher, trust, *, key):
    own = log_softmax(weights, augment.shift(key, x, SHAPE))
    probs = scipy.special.softmax(np.float64(teacher) + trust * own, axis=1)
    due = np.exp(np.float64(teacher)).mean(axis=0)
    for _ in range(3):
        probs *= (due + 1e-6) / (probs.mean(axis=0) + 1e-6)
        probs /= probs.sum(axis=1, keepdims=True)
    return probs


@pytest.mark.parametrize("step, trust", [(10, 0), (16, 0.2), (25, 0.5), (100, 1)])
def test_targets_are_the_aligned_product_of_both_with_trust_in_the_second(
    x, teacher, step, trust
):
    key, weights = jax.random.key(3), opinionated()
    assert log_softmax(weights, x).max(axis=1).std() > 0.2  # it has opinions
    found = TARGETS(weights, x, teacher, key=key, step=jnp.int32(step))
    expected = targets_by_hand(weights, x, teacher, trust, key=key)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_no_class_gains_against_the_teacher(x, teacher):
    weights = params()
    weights["logits"]["bias"] = jnp.array([3.0, 0.0, 0.0])  # it likes the first class
    found = MODEL.targets(
        weights, x, teacher, key=jax.random.key(3), step=jnp.int32(100)
    )
    free = scipy.special.softmax(
        np.asarray(teacher) + np.asarray(MODEL.logits(weights, x)), axis=1
    )
    share = np.exp(teacher).mean(axis=0)[0]
    drift, drift_of_free = found.mean(axis=0)[0] - share, free.mean(axis=0)[0] - share
    assert drift_of_free > 0.1
    assert abs(drift) < drift_of_free / 3


def test_a_batch_without_any_image_of_a_class_has_targets():
    x, sure = jnp.zeros([6, 64]), jnp.array([0.0, -400.0, -800.0])
    teacher = jax.nn.log_softmax(jnp.tile(sure, (6, 1)))
    for step in (0, 100):
        found = targets(x, teacher, jnp.int32(step))
        np.testing.assert_allclose(found, [[1, 0, 0]] * 6, atol=1e-4)


def test_nothing_is_learned_through_the_targets(x, teacher):
    def total(weights):
        key = jax.random.key(3)
        found = MODEL.targets(weights, x, teacher, key=key, step=jnp.int32(90))
        return jnp.sum(found**2)

    grads = jax.grad(total)(params())
    assert all((np.asarray(g) == 0).all() for g in jax.tree.leaves(grads))


def test_the_loss_is_two_cross_entropies_of_images_that_were_changed(x, teacher):
    key, weights = jax.random.key(4), opinionated()
    x_labeled, labels = x[:5][::-1] ** 2, np.array([2, 0, 1, 1, 2])
    loss, parts = LOSS(
        weights,
        (x, teacher),
        (x_labeled, jnp.asarray(labels)),
        key=key,
        step=jnp.int32(25),
    )
    of_targets, of_unlabeled, of_labeled = jax.random.split(key, 3)
    targets = targets_by_hand(weights, x, teacher, 0.5, key=of_targets)
    log_probs = log_softmax(weights, CHANGED(of_unlabeled, x))
    unlabeled = -(targets * log_probs).sum(axis=1).mean()
    log_probs = log_softmax(weights, CHANGED(of_labeled, x_labeled))
    labeled = -log_probs[np.arange(5), labels].mean()
    assert parts.pop("cross_entropy_unlabeled") == pytest.approx(unlabeled, rel=1e-5)
    assert parts.pop("cross_entropy") == pytest.approx(labeled, rel=1e-5)
    assert loss == pytest.approx(unlabeled + labeled, rel=1e-5)
    assert parts == {"loss": loss}


def test_fresh_weights_say_nothing_of_the_class(x, teacher):
    _, parts = LOSS(
        params(),
        (x, teacher),
        (x[:5], jnp.arange(5) % K),
        key=jax.random.key(4),
        step=jnp.int32(0),
    )
    assert parts["cross_entropy"] == pytest.approx(np.log(K), abs=0.4)
    assert parts["cross_entropy_unlabeled"] == pytest.approx(np.log(K), abs=0.4)
