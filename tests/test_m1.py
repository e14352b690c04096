from dataclasses import replace

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from ssl_vae.gradients import oriented_gradients
from ssl_vae.models import M1

STEP = jnp.int32(0)
MODEL = M1(image_shape=(1, 6, 1), latent_dim=1, hidden=(5, 4))


@pytest.fixture
def params():
    return MODEL.init(jax.random.key(0))


@pytest.fixture
def x():
    return jax.random.bernoulli(jax.random.key(1), 0.5, (7, 6)).astype(jnp.float32)


def dense(params, x):
    return np.asarray(x) @ np.asarray(params["kernel"]) + np.asarray(params["bias"])


def mlp(params, x):
    for layer in sorted(params):
        x = np.logaddexp(0, dense(params[layer], x))
    return x


def test_the_networks_are_two_softplus_layers_with_linear_heads(params, x):
    h = mlp(params["encoder"]["MLP_0"], x)
    mean, logvar = MODEL.encode(params, x)
    np.testing.assert_allclose(mean, dense(params["encoder"]["mean"], h), atol=1e-5)
    np.testing.assert_allclose(logvar, dense(params["encoder"]["logvar"], h), atol=1e-5)
    h = mlp(params["decoder"]["MLP_0"], mean)
    expected = dense(params["decoder"]["logits"], h)
    np.testing.assert_allclose(MODEL.decode(params, mean), expected, atol=1e-5)


def test_the_decoder_mirrors_the_encoder(params):
    widths = [layer["kernel"].shape for layer in params["decoder"]["MLP_0"].values()]
    assert sorted(widths) == [(1, 4), (4, 5)]


def test_elbo_terms_are_one_per_image_with_their_signs(params, x):
    terms = MODEL.elbo(params, x, key=jax.random.key(2))
    assert terms.log_likelihood.shape == terms.kl.shape == (7,)
    assert (terms.log_likelihood <= 0).all()
    assert (terms.kl >= 0).all()
    np.testing.assert_array_equal(terms.elbo, terms.log_likelihood - terms.kl)


def log_evidence(params, x):
    """Log p(x) by quadrature over the one latent dimension."""
    z, weights = np.polynomial.hermite_e.hermegauss(200)
    logits = np.asarray(MODEL.decode(params, jnp.asarray(z[:, None], jnp.float32)))
    probs = scipy.special.expit(logits.astype(np.float64))
    likelihood = scipy.stats.bernoulli.logpmf(np.asarray(x)[:, None], probs).sum(-1)
    return scipy.special.logsumexp(likelihood, b=weights / np.sqrt(2 * np.pi), axis=-1)


def mean_elbo(params, x, draws):
    keys = jax.random.split(jax.random.key(3), draws)
    elbo = jax.vmap(lambda key: MODEL.elbo(params, x, key=key).elbo)(keys)
    return elbo.mean(0), elbo.std(0) / np.sqrt(draws)


def test_elbo_is_a_lower_bound_on_the_log_evidence(params, x):
    elbo, error = mean_elbo(params, x, draws=2000)
    assert (elbo < log_evidence(params, x) + 4 * error).all()


def test_elbo_is_the_log_evidence_when_the_decoder_ignores_z_and_q_is_the_prior(x):
    params = jax.tree.map(jnp.zeros_like, MODEL.init(jax.random.key(0)))
    terms = MODEL.elbo(params, x, key=jax.random.key(2))
    np.testing.assert_allclose(terms.elbo, log_evidence(params, x), rtol=1e-5)
    np.testing.assert_allclose(terms.elbo, -6 * np.log(2), rtol=1e-6)


def test_importance_weights_average_to_the_evidence(params, x):
    params = jax.tree.map(lambda p: 0.5 * p, params)
    exact = log_evidence(params, x)
    keys = jax.random.split(jax.random.key(3), 4000)
    weights = jax.vmap(
        lambda key: jnp.exp(MODEL.log_weight(params, x, key=key) - exact)
    )(keys)
    error = weights.std(0) / np.sqrt(len(keys))
    np.testing.assert_array_less(np.abs(weights.mean(0) - 1), 5 * error + 1e-3)


def test_images_are_rebuilt_from_the_posterior_means(params, x):
    logits = MODEL.decode(params, MODEL.features(params, x))
    expected = scipy.special.expit(logits)
    np.testing.assert_allclose(MODEL.reconstruct(params, x), expected, rtol=1e-5)


@pytest.mark.parametrize("kl_weight", [1.0, 0.1])
def test_loss_is_the_batch_mean_with_the_kl_weighted(params, x, kl_weight):
    model = M1(image_shape=(1, 6, 1), latent_dim=1, hidden=(5, 4), kl_weight=kl_weight)
    key = jax.random.key(2)
    terms = MODEL.elbo(params, x, key=key)
    loss, metrics = model.loss(params, x, key=key, step=STEP)
    expected = np.mean(kl_weight * terms.kl - terms.log_likelihood)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert metrics.keys() == {"loss", "log_likelihood", "kl"}


def test_the_kl_term_gets_its_weight_evenly_over_the_warmup(params, x):
    model = replace(MODEL, kl_weight=0.5, warmup_steps=4)
    for step, weight in [(0, 0.0), (1, 0.125), (3, 0.375), (4, 0.5), (9, 0.5)]:
        key = jax.random.key(2)
        loss, metrics = model.loss(params, x, key=key, step=jnp.int32(step))
        expected = weight * metrics["kl"] - metrics["log_likelihood"]
        np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_features_are_the_posterior_means(params, x):
    np.testing.assert_array_equal(MODEL.features(params, x), MODEL.encode(params, x)[0])


def test_gradients_are_finite_when_the_networks_are_extreme(params, x):
    params = jax.tree.map(lambda p: 30 * p, params)
    grads = jax.grad(lambda p: MODEL.loss(p, x, key=jax.random.key(2), step=STEP)[0])(
        params
    )
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


# Wide enough for roundings to average out, as in a real network.
WIDE = M1((8, 8, 1), latent_dim=4, hidden=(64, 48))


def value_and_grads(model, params, images):
    def loss(params):
        return model.loss(params, images, key=jax.random.key(2), step=STEP)[0]

    return jax.jit(jax.value_and_grad(loss))(params)


def test_training_in_bfloat16_is_that_in_float32_up_to_its_rounding():
    """The loss to 1 in 1000, the gradient of every array to 1 in 100 of its length."""
    params, images = (
        WIDE.init(jax.random.key(0)),
        jax.random.uniform(jax.random.key(4), (50, 64)),
    )
    loss, grads = value_and_grads(WIDE, params, images)
    half = replace(WIDE, dtype="bfloat16")
    rounded, rounded_grads = value_and_grads(half, params, images)
    loss, rounded = float(loss), float(rounded)
    assert rounded != loss
    assert rounded == pytest.approx(loss, rel=1e-3)
    for exact, found in zip(*map(jax.tree.leaves, (grads, rounded_grads)), strict=True):
        assert found.dtype == jnp.float32
        assert np.isfinite(found).all()
        assert np.linalg.norm(found - exact) < 0.01 * np.linalg.norm(exact)


def test_all_matrix_products_of_training_in_bfloat16_and_nothing_else_are():
    half, images = replace(WIDE, dtype="bfloat16"), jnp.zeros([50, 64])
    params = half.init(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    program = jax.make_jaxpr(lambda p: value_and_grads(half, p, images))(params)
    dtypes: dict[str, set[str]] = {"dot_general": set(), "else": set()}
    for each in equations(program.jaxpr):
        kind = each.primitive.name
        if kind in ("convert_element_type", "transpose", "jit"):
            continue
        group = dtypes["dot_general" if kind == "dot_general" else "else"]
        group |= {str(v.aval.dtype) for v in each.invars}
    assert dtypes["dot_general"] == {"bfloat16"}
    assert "bfloat16" not in dtypes["else"]


def equations(jaxpr):
    """Of a program and of all within it."""
    for each in jaxpr.eqns:
        yield each
        for inner in jax.extend.core.jaxprs_in_params(each.params):
            yield from equations(inner)


def test_what_is_asked_of_a_model_trained_in_bfloat16_is_float32():
    half, images = replace(WIDE, dtype="bfloat16"), jnp.zeros([5, 64])
    params, key = WIDE.init(jax.random.key(0)), jax.random.key(1)
    for one, other in (
        (WIDE.features(params, images), half.features(params, images)),
        (WIDE.reconstruct(params, images), half.reconstruct(params, images)),
        (
            WIDE.elbo(params, images, key=key).elbo,
            half.elbo(params, images, key=key).elbo,
        ),
    ):
        np.testing.assert_array_equal(one, other)


EDGES = M1((4, 4, 1), latent_dim=1, hidden=(5, 4), kl_weight=0.1, gradient_weight=3.0)


@pytest.fixture
def images():
    return jax.random.uniform(jax.random.key(4), (7, 16))


def test_the_view_is_the_image_and_behind_it_its_gradients(images):
    view = EDGES.view(images)
    assert view.shape == (7, EDGES.view_dim) == (7, 16 + 9)
    np.testing.assert_array_equal(view[:, :16], images)
    gradients = oriented_gradients(images, (4, 4, 1))
    np.testing.assert_array_equal(view[:, 16:], gradients)
    assert gradients.max() > 0.1
    plain = M1((4, 4, 1), latent_dim=1, hidden=(5, 4))
    np.testing.assert_array_equal(plain.view(images), images)


def test_the_likelihood_of_gradients_is_in_the_loss_and_not_in_the_elbo(images):
    params, key = EDGES.init(jax.random.key(0)), jax.random.key(2)
    params = jax.tree.map(lambda p: 2 * p, params)
    view = EDGES.view(images)
    h = mlp(params["encoder"]["MLP_0"], view)
    mean, logvar = (dense(params["encoder"][name], h) for name in ("mean", "logvar"))
    z = mean + np.exp(logvar / 2) * jax.random.normal(key, mean.shape)
    h = mlp(params["decoder"]["MLP_0"], z)
    logits = dense(params["decoder"]["logits"], h)
    each = view * logits - np.logaddexp(0, logits)
    terms = EDGES.elbo(params, images, key=key)
    np.testing.assert_allclose(terms.log_likelihood, each[:, :16].sum(1), rtol=1e-4)
    loss, metrics = EDGES.loss(params, view, key=key, step=STEP)
    expected = 0.1 * terms.kl - each[:, :16].sum(1) - 3 * each[:, 16:].sum(1)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-4)
    np.testing.assert_allclose(
        metrics["gradients"], each[:, 16:].sum(1).mean(), rtol=1e-4
    )


def test_images_are_rebuilt_without_the_gradients(images):
    params = EDGES.init(jax.random.key(0))
    assert EDGES.reconstruct(params, images).shape == images.shape
