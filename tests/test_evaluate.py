import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_vae import evaluate


@pytest.mark.parametrize("num_images", [1, 7, 8, 9, 24])
def test_map_images_is_the_function_of_all_images_at_once(num_images, monkeypatch):
    monkeypatch.setattr(evaluate, "EVALUATION_BATCH", 8)
    images = jax.random.normal(jax.random.key(0), (num_images, 3))
    weights = jax.random.normal(jax.random.key(1), (3, 2))
    np.testing.assert_allclose(
        evaluate.map_images(lambda x: jnp.tanh(x @ weights), images),
        jnp.tanh(images @ weights),
        rtol=1e-5,
        atol=1e-6,
    )


def test_mean_elbo_averages_over_images_with_a_key_each():
    def noise(images, *, key):
        return images[:, 0] + jax.random.normal(key, (len(images),))

    images = jnp.full([4000, 1], 5.0)
    mean = evaluate.mean_elbo(noise, images, key=jax.random.key(0))
    assert mean == evaluate.mean_elbo(noise, images, key=jax.random.key(0))
    # Four standard errors; one shared draw would be off by about 1.
    assert abs(mean - 5.0) < 4 / np.sqrt(4000)


def test_active_units_are_those_whose_mean_varies_over_images():
    rng = np.random.default_rng(0)
    spreads = np.array([0.0, 0.05, 0.2, 1.0])  # variances 0, 0.0025, 0.04, 1
    features = 3.0 + spreads * rng.normal(size=(10_000, 4))
    assert evaluate.active_units(features) == 2


def test_summarize_gives_mean_and_sample_deviation():
    assert evaluate.summarize([0.1, 0.2, 0.3]) == pytest.approx((0.2, 0.1))
    assert evaluate.summarize([0.7]) == (0.7, 0.0)
