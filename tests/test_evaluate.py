import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_vae import evaluate
from ssl_vae.models.m1 import ElboTerms
from ssl_vae.splits import Split


@pytest.mark.parametrize("num_images", [1, 7, 8, 9, 24])
def test_map_images_is_the_function_of_all_images_at_once(num_images, monkeypatch):
    monkeypatch.setattr(evaluate, "EVALUATION_BATCH", 8)
    images = jax.random.normal(jax.random.key(0), (num_images, 3))
    weights = jax.random.normal(jax.random.key(1), (3, 2))
    np.testing.assert_allclose(
        evaluate.map_images(lambda w, x: jnp.tanh(x @ w), weights, images),
        jnp.tanh(images @ weights),
        rtol=1e-5,
        atol=1e-6,
    )


def test_map_images_copies_no_images_where_the_last_batch_is_smaller():
    images, weights = jnp.zeros([4 * evaluate.EVALUATION_BATCH + 1, 50]), jnp.ones(50)

    def function(w, x):
        return x @ w

    compiled = evaluate.map_images.lower(function, weights, images).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < images.nbytes / 3


def test_the_elbo_has_a_key_for_each_image():
    def noise(params, images, *, key):
        draws = jax.random.normal(key, (len(images),))
        return ElboTerms(params + images[:, 0], -draws)

    images, keys = jnp.zeros([4000, 1]), jax.random.split(jax.random.key(0), 4000)
    values = evaluate.elbos(noise, jnp.float32(5.0), images, keys)
    # Four standard errors; one shared draw would be off by about 1.
    assert abs(values.mean() - 5.0) < 4 / np.sqrt(4000)
    assert 0.9 < values.std() < 1.1


def test_folds_are_judged_by_what_each_is_measured_on():
    labels = np.array([0, 1, 0, 1])
    folds = [
        Split(7, np.arange(2), np.array([0, 1])),
        Split(8, [], np.array([1, 2, 3])),
    ]
    scores = [np.log([[4.0, 1], [9, 1]]), np.log([[1.0, 4], [4, 1], [2, 3]])]
    accuracy, calibration, probs = evaluate.judged(
        folds, scores, labels, temperatures=[2.0, 1.0]
    )
    assert accuracy == {7: 0.5, 8: 1.0}
    assert [each["temperature"] for each in calibration] == [2, 1]
    # Square roots of the odds: 2 : 1 is right, 3 : 1 is not.
    assert calibration[0]["error"] == pytest.approx((1 / 3 + 3 / 4) / 2)
    assert calibration[0]["error_before"] == pytest.approx((0.2 + 0.9) / 2)
    expected = [[2 / 3, 1 / 3], [3 / 4, 1 / 4], [0.8, 0.2], [0.4, 0.6]]
    np.testing.assert_allclose(probs, expected)


def test_the_log_likelihood_of_a_known_weight_is_its_log_mean_exp():
    """Weights exp(s * noise - s^2 / 2) have mean 1: the truth is the image itself."""

    def log_weight(params, x, *, key):
        return params + x[:, 0] + 0.5 * jax.random.normal(key, (len(x),)) - 0.125

    images = jnp.linspace(-300, -200, 4000)[:, None]
    keys = jax.random.split(jax.random.key(0), 4000)
    for num_samples, low, high in ((1, -0.155, -0.095), (200, -0.01, 0.01)):
        values = evaluate.log_likelihoods(
            log_weight, num_samples, jnp.float32(0), images, keys
        )
        assert low < values.mean() + 250 < high


def test_class_use_knows_certain_classes_from_collapse():
    def use(probs, num_images=1000):
        logits = np.log(np.maximum(probs, 1e-30))
        return evaluate.class_use(np.resize(logits, (num_images, 10)), np.full(10, 0.1))

    certain = use(np.eye(10))
    assert certain.entropy == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(certain.class_histogram, 0.1, rtol=1e-6)
    assert not certain.collapsed
    one_class = use(np.eye(10)[:1])
    assert one_class.class_histogram[0] == pytest.approx(1)
    assert one_class.collapsed
    # The likeliest class is right but hardly depends on the image.
    doubt = use(np.full((10, 10), 0.1) + 0.01 * np.eye(10))
    np.testing.assert_allclose(doubt.class_histogram, 0.1)
    assert doubt.entropy == pytest.approx(np.log(10), abs=1e-3)
    assert doubt.collapsed
    unsure = use(np.full((10, 10), 0.05) + 0.5 * np.eye(10))
    assert not unsure.collapsed
    assert use(np.eye(10)[:4]).collapsed
    assert not use(np.eye(10)[:6]).collapsed


@pytest.mark.parametrize("shares", [[0.7] + 9 * [1 / 30], 3 * [0.3] + 7 * [1 / 70]])
def test_classes_that_are_rare_are_no_collapse(shares):
    counts = np.round(np.array(shares) * 2100).astype(int)
    logits = 50 * np.repeat(np.eye(10), counts, axis=0)  # sure, and right
    assert not evaluate.class_use(logits, np.array(shares)).collapsed
    assert evaluate.class_use(0 * logits, np.array(shares)).collapsed
    largest = 50 * np.tile(np.eye(10)[0], (2100, 1))
    assert evaluate.class_use(largest, np.array(shares)).collapsed
