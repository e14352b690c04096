import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from ssl_vae import distributions

EDGES = np.array([0.0, 1e-4, -1e-4, 1.0, -1.0, 20.0, -20.0, 200.0, -200.0], np.float32)


def test_softplus_equals_scipys_to_its_stated_precision():
    expected = np.logaddexp(0.0, EDGES.astype(np.float64))
    error = np.abs(distributions.softplus(EDGES) - expected)
    assert (error <= 2e-7 * (1 + np.abs(EDGES))).all()


def test_softplus_has_the_sigmoid_as_gradient():
    grads = jax.vmap(jax.grad(distributions.softplus))(EDGES)
    np.testing.assert_allclose(grads, scipy.special.expit(EDGES), atol=2e-7)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 2, 3)])
def test_bernoulli_log_prob_equals_scipys_on_binary_pixels(shape):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, shape).astype(np.float32)
    x = rng.integers(0, 2, shape).astype(np.float32)
    probs = scipy.special.expit(logits.astype(np.float64))
    expected = scipy.stats.bernoulli.logpmf(x, probs).sum(-1)
    actual = distributions.bernoulli_log_prob(logits, x)
    assert actual.shape == shape[:-1]
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_bernoulli_log_prob_of_a_gray_pixel_is_minus_the_cross_entropy():
    logit, x = 1.5, 0.3
    p = scipy.special.expit(logit)
    expected = x * np.log(p) + (1 - x) * np.log(1 - p)
    actual = distributions.bernoulli_log_prob(jnp.array([logit]), jnp.array([x]))
    np.testing.assert_allclose(actual, expected, rtol=2e-7, atol=2e-7)


@pytest.mark.parametrize("logit", [0.0, 20.0, -20.0, 200.0, -200.0])
@pytest.mark.parametrize("x", [0.0, 0.5, 1.0])
def test_bernoulli_log_prob_and_its_gradient_are_finite_at_extreme_logits(logit, x):
    value, grad = jax.value_and_grad(
        lambda logits: distributions.bernoulli_log_prob(logits, jnp.array([x]))
    )(jnp.array([logit]))
    np.testing.assert_allclose(
        value, x * logit - np.logaddexp(0, logit), rtol=1e-6, atol=1e-5
    )
    np.testing.assert_allclose(grad, [x - scipy.special.expit(logit)], atol=1e-6)


def test_gaussian_kl_equals_the_mean_log_ratio_of_many_draws():
    mean, logvar = np.array([0.5, -1.0]), np.array([-1.0, 0.7])
    posterior = scipy.stats.norm(mean, np.exp(logvar / 2))
    z = posterior.rvs((400_000, 2), random_state=np.random.default_rng(0))
    ratios = (posterior.logpdf(z) - scipy.stats.norm.logpdf(z)).sum(-1)
    standard_error = ratios.std() / np.sqrt(len(ratios))
    actual = distributions.gaussian_kl(
        jnp.asarray(mean, jnp.float32), jnp.asarray(logvar, jnp.float32)
    )
    assert abs(float(actual) - ratios.mean()) < 4 * standard_error


def test_gaussian_kl_is_zero_only_at_the_prior():
    zeros = jnp.zeros([3])
    assert distributions.gaussian_kl(zeros, zeros) == 0
    assert distributions.gaussian_kl(zeros, zeros + 0.1) > 0
    assert distributions.gaussian_kl(zeros + 0.1, zeros) > 0


def test_gaussian_sample_has_the_mean_and_the_log_variance_it_was_given():
    mean, logvar = jnp.array([2.0, -1.0]), jnp.array([-2.0, 1.0])
    shape = (100_000, 2)
    z = distributions.gaussian_sample(
        jax.random.key(0),
        jnp.broadcast_to(mean, shape),
        jnp.broadcast_to(logvar, shape),
    )
    np.testing.assert_allclose(z.mean(0), mean, atol=0.02)
    np.testing.assert_allclose(jnp.log(z.var(0)), logvar, atol=0.03)
