import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import scipy.special

from ssl_vae.models import Student
from ssl_vae.networks import Convolution

SHAPE, K = (8, 8, 1), 3
MODEL = Student(SHAPE, K, num_steps=100, channels=(4, 6), hidden=5)


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


def test_in_the_end_a_target_is_the_product_of_both(x, teacher):
    still = jnp.full_like(x, 0.5)  # all alike: a shift changes it at the borders only
    found = targets(still, teacher, jnp.int32(100))
    own = np.asarray(jax.nn.log_softmax(MODEL.logits(params(), still)))
    # The network is hardly sure of anything yet: the order is the teacher's.
    order = np.argsort(np.asarray(teacher) + own, axis=1)
    agree = np.argsort(found, axis=1)[:, -1] == order[:, -1]
    assert agree.mean() > 0.8
    assert np.abs(found - np.exp(teacher)).max() > 1e-3


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


def test_the_loss_is_the_sum_of_two_cross_entropies(x, teacher):
    labels = jnp.arange(12) % K
    loss, parts = MODEL.loss(
        params(),
        (x, teacher),
        (x, labels),
        key=jax.random.key(4),
        step=jnp.int32(0),
    )
    assert loss == parts["cross_entropy"] + parts["cross_entropy_unlabeled"]
    # Fresh weights say nothing of the class: about log K either way.
    assert parts["cross_entropy"] == pytest.approx(np.log(K), abs=0.4)
    assert parts["cross_entropy_unlabeled"] == pytest.approx(np.log(K), abs=0.4)
