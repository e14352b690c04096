import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from ssl_vae.models import M1, M1M2, M2, active_units

K, PIXELS = 3, 6
STEP = jnp.int32(0)
M1_MODEL = M1((1, PIXELS, 1), latent_dim=2, hidden=(5, 4))


def build(kept):
    m2 = M2(len(kept), K, 0.25, latent_dim=1, hidden=(5,), gaussian=True)
    return M1M2(M1_MODEL, shrunk(M1_MODEL, 0), np.array(kept), m2)


def shrunk(model, seed):
    """Parameters whose posterior is near the prior, so that weights vary little."""
    return jax.tree.map(lambda p: 0.5 * p, model.init(jax.random.key(seed)))


BOTH, SECOND = build([0, 1]), build([1])
MODELS = pytest.mark.parametrize("model", [BOTH, SECOND], ids=["both", "second"])


@pytest.fixture
def x():
    return jax.random.bernoulli(jax.random.key(1), 0.5, (7, PIXELS)).astype(jnp.float32)


def log_evidence(model, params, x):
    """Log p(x) by quadrature over z1, [2], and M2's z2, [1]."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / np.sqrt(2 * np.pi)
    grid = np.linspace(-7, 7, 120)  # for z1, whose density is not a Gaussian
    z1 = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    kept = jnp.asarray(z1[:, model.kept], jnp.float32)
    parts = []
    for k in range(K):
        y = jnp.broadcast_to(jax.nn.one_hot(k, K), (len(nodes), K))
        mean, logvar = model.m2.decode(
            params, jnp.asarray(nodes[:, None], jnp.float32), y
        )
        density = -0.5 * jnp.sum(
            jnp.square(kept[:, None] - mean[None]) * jnp.exp(-logvar)[None]
            + logvar[None]
            + jnp.log(2 * jnp.pi),
            axis=-1,
        )
        parts.append(scipy.special.logsumexp(density, b=weights, axis=-1))
    log_prior = scipy.special.logsumexp(parts, axis=0) - np.log(K)
    rest = np.delete(z1, model.kept, axis=1)
    log_prior += -0.5 * np.sum(rest**2 + np.log(2 * np.pi), axis=-1)
    logits = M1_MODEL.decode(model.m1_params, jnp.asarray(z1, jnp.float32))
    logits = np.asarray(logits, np.float64)[None]
    likelihood = np.sum(
        np.asarray(x)[:, None] * logits - np.logaddexp(0, logits), axis=-1
    )
    area = (grid[1] - grid[0]) ** 2
    return scipy.special.logsumexp(likelihood + log_prior, axis=-1) + np.log(area)


def mean_over_draws(function, draws=4_000):
    values = jax.vmap(function)(jax.random.split(jax.random.key(3), draws))
    return values.mean(0), values.std(0) / np.sqrt(draws)


@MODELS
def test_importance_weights_average_to_p_of_x(model, x):
    params = shrunk(model, 2)
    exact = log_evidence(model, params, x)
    weight, error = mean_over_draws(
        lambda key: jnp.exp(model.log_weight(params, x, key=key) - exact)
    )
    np.testing.assert_array_less(np.abs(weight - 1), 5 * error + 0.01)


@MODELS
def test_the_elbo_is_the_mean_log_weight_and_below_the_evidence(model, x):
    params = shrunk(model, 2)
    elbo, error = mean_over_draws(lambda key: model.elbo(params, x, key=key).elbo)
    mean, error_mean = mean_over_draws(lambda key: model.log_weight(params, x, key=key))
    np.testing.assert_array_less(np.abs(mean - elbo), 5 * (error + error_mean))
    assert (elbo < log_evidence(model, params, x) + 5 * error).all()


def test_the_loss_is_that_of_m2_on_fresh_draws_of_z1(x):
    params, classes = SECOND.init(jax.random.key(2)), jnp.arange(7, dtype=jnp.int32) % K
    mean, logvar = SECOND.code(x)
    key = jax.random.key(4)
    keys = jax.random.split(key, 3)
    drawn = [
        np.asarray(mean)
        + np.exp(0.5 * np.asarray(logvar)) * np.asarray(jax.random.normal(k, (7, 1)))
        for k in keys[:2]
    ]
    expected, _ = SECOND.m2.loss(
        params,
        jnp.asarray(drawn[0]),
        (jnp.asarray(drawn[1]), classes),
        key=keys[2],
        step=STEP,
    )
    code = mean, logvar
    loss, _ = SECOND.loss(params, code, (code, classes), key=key, step=STEP)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    other, _ = SECOND.loss(
        params, code, (code, classes), key=jax.random.key(5), step=STEP
    )
    assert other != loss


def test_images_are_classified_at_the_mean_of_z1(x):
    params = SECOND.init(jax.random.key(2))
    mean, logvar = SECOND.code(x)
    logits = SECOND.class_logits(params, (mean, logvar))
    np.testing.assert_array_equal(logits, SECOND.m2.class_logits(params, mean))
    np.testing.assert_array_equal(mean, M1_MODEL.features(SECOND.m1_params, x)[:, 1:])


def test_the_units_that_are_left_out_are_decoded_at_their_mean(x):
    params = SECOND.init(jax.random.key(2))
    z2 = jnp.array([[0.3], [-1.0]])
    kept = SECOND.m2.decode_classes(params, z2)  # [2, K, 1]
    z1 = jnp.concatenate([jnp.zeros_like(kept), kept], axis=-1)
    expected = scipy.special.expit(M1_MODEL.decode(SECOND.m1_params, z1))
    images = SECOND.decode_classes(params, z2)
    assert images.shape == (2, K, PIXELS)
    np.testing.assert_allclose(images, expected, rtol=1e-5)
    assert SECOND.reconstruct(params, x).shape == x.shape


def test_active_units_are_those_whose_mean_varies_over_images():
    rng = np.random.default_rng(0)
    deviations = np.array([0.0, 0.09, 0.11, 1.0])
    means = 3.0 + deviations * rng.normal(size=(100_000, 4))
    assert active_units(means).tolist() == [2, 3]
