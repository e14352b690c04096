from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from ssl_vae.models import M2

K, PIXELS = 3, 6
STEP = jnp.int32(7)
MODEL = M2(PIXELS, K, labeled_fraction=0.25, latent_dim=1, hidden=(5, 4), alpha=0.5)
GAUSSIAN = M2(PIXELS, K, 0.25, latent_dim=1, hidden=(5, 4), gaussian=True)
MODELS = pytest.mark.parametrize("model", [MODEL, GAUSSIAN], ids=["pixels", "reals"])


def init(model, seed=0):
    """Parameters that hear y, as those of a trained model do."""
    params = model.init(jax.random.key(seed))
    for part in ("encoder", "decoder"):
        kernel = params[part]["JointLayer_0"]["y"]["kernel"]
        noise = jax.random.normal(jax.random.key(9), kernel.shape)
        params[part]["JointLayer_0"]["y"]["kernel"] = noise
    return params


@pytest.fixture
def x():
    return jax.random.bernoulli(jax.random.key(1), 0.5, (7, PIXELS)).astype(jnp.float32)


def one_hot(k, batch):
    return jnp.broadcast_to(jax.nn.one_hot(k, K), (batch, 1, K))


def log_normal(x, mean, logvar):
    x, mean, logvar = (np.asarray(a, np.float64) for a in (x, mean, logvar))
    return scipy.stats.norm.logpdf(x, mean, np.exp(0.5 * logvar)).sum(-1)


def log_likelihood(model, params, x, z, k):
    """Log p(x|y=k,z) by scipy, for z [n, 1] and x [batch, pixels]: [batch, n]."""
    y = jnp.broadcast_to(jax.nn.one_hot(k, K), (len(z), K))
    likelihood = model.decode(params, jnp.asarray(z, jnp.float32), y)
    x = np.asarray(x)[:, None]
    if model.gaussian:
        return log_normal(x, *likelihood)
    probs = scipy.special.expit(np.asarray(likelihood, np.float64))
    return scipy.stats.bernoulli.logpmf(x, probs).sum(-1)


def log_joint(model, params, x):
    """Log p(x, y) by quadrature over the one latent dimension, [batch, K]."""
    z, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / np.sqrt(2 * np.pi)
    columns = [
        scipy.special.logsumexp(
            log_likelihood(model, params, x, z[:, None], k), b=weights, axis=-1
        )
        for k in range(K)
    ]
    return np.stack(columns, axis=-1) - np.log(K)


def mean_over_draws(function, draws=2000):
    values = jax.vmap(function)(jax.random.split(jax.random.key(3), draws))
    return values.mean(0), values.std(0) / np.sqrt(draws)


@MODELS
def test_the_labeled_bound_is_below_log_p_of_x_and_y(model, x):
    params = init(model)
    exact = log_joint(model, params, x)
    for k in range(K):
        bound, error = mean_over_draws(
            lambda key, k=k: (
                model.joint_elbo(params, x[:, None], one_hot(k, len(x)), key=key).elbo[
                    :, 0
                ]
                - jnp.log(K)
            )
        )
        assert (bound < exact[:, k] + 4 * error).all()


@MODELS
def test_the_unlabeled_bound_is_below_log_p_of_x(model, x):
    params = init(model)
    exact = scipy.special.logsumexp(log_joint(model, params, x), axis=-1)
    bound, error = mean_over_draws(lambda key: model.elbo(params, x, key=key).elbo)
    assert (bound < exact + 4 * error).all()


@MODELS
def test_the_unlabeled_bound_is_the_explicit_sum_over_classes(model, x):
    params, key = init(model), jax.random.key(4)
    probs = scipy.special.softmax(np.asarray(model.class_logits(params, x)), axis=-1)
    noise = np.asarray(jax.random.normal(key, (len(x), 1, 1)))  # for all classes
    expected = np.zeros(len(x))
    for k in range(K):
        mean, logvar = model.encode(params, x, one_hot(k, len(x))[:, 0])
        mean, logvar = np.asarray(mean), np.asarray(logvar)
        z = mean + np.exp(0.5 * logvar) * noise[:, 0]
        for i in range(len(x)):
            likelihood = log_likelihood(model, params, x[i : i + 1], z[i : i + 1], k)
            # KL of two Gaussians, with the prior N(0, 1)
            kl = 0.5 * (mean[i] ** 2 + np.exp(logvar[i]) - logvar[i] - 1).sum()
            joint = likelihood[0, 0] - kl - np.log(K)
            expected[i] += probs[i, k] * (joint - np.log(probs[i, k]))
    terms = model.elbo(params, x, key=key)
    np.testing.assert_allclose(terms.elbo, expected, rtol=1e-4, atol=1e-4)
    assert (terms.kl >= 0).all()


@MODELS
def test_importance_weights_average_to_p_of_x(model, x):
    params = init(model)
    exact = scipy.special.logsumexp(log_joint(model, params, x), axis=-1)
    weight, error = mean_over_draws(
        lambda key: jnp.exp(model.log_weight(params, x, key=key) - exact), draws=5_000
    )
    np.testing.assert_array_less(np.abs(weight - 1), 5 * error + 1e-3)


@MODELS
def test_the_mean_log_weight_is_the_unlabeled_bound(model, x):
    params = init(model)
    bound, error = mean_over_draws(lambda key: model.elbo(params, x, key=key).elbo)
    mean, error_mean = mean_over_draws(lambda key: model.log_weight(params, x, key=key))
    np.testing.assert_array_less(np.abs(mean - bound), 5 * (error + error_mean))


def test_alpha_weighs_the_labeled_sum_with_alpha_n_over_n_labeled(x):
    params, key = init(MODEL), jax.random.key(5)
    num_images, num_labeled, alpha = 28, 7, 0.5  # a fraction of 0.25
    classes = jnp.arange(7, dtype=jnp.int32) % K
    loss, metrics = MODEL.loss(params, x, (x, classes), key=key, step=STEP)
    logits = np.asarray(MODEL.class_logits(params, x), np.float64)
    log_probs = scipy.special.log_softmax(logits, axis=-1)
    cross_entropies = -log_probs[np.arange(7), np.asarray(classes)]
    without, _ = M2(PIXELS, K, 0.25, 0, 1, (5, 4), alpha=0.0).loss(
        params, x, (x, classes), key=key, step=STEP
    )
    # The whole objective, of which the loss is the share of one image.
    weighted_sum = alpha * num_images / num_labeled * cross_entropies.sum()
    np.testing.assert_allclose(loss - without, weighted_sum / num_images, rtol=1e-4)
    np.testing.assert_allclose(metrics["cross_entropy"], cross_entropies.mean(), 1e-5)


def test_the_classification_loss_of_two_labels_by_hand(x):
    params = init(MODEL)
    last = params["classifier"]["logits"]
    zero = jnp.zeros_like(last["kernel"])
    bias = jnp.log(jnp.array([1.0, 3.0, 1.0]))  # q(y|x) is 1/5, 3/5, 1/5 of every image
    params["classifier"]["logits"] = {"kernel": zero, "bias": bias}
    labeled = x[:2], jnp.array([0, 1], jnp.int32)
    loss, without = (
        M2(PIXELS, K, 0.25, 0, 1, (5, 4), alpha=alpha).loss(
            params, x, labeled, key=jax.random.key(5), step=STEP
        )[0]
        for alpha in (0.5, 0.0)
    )
    # Half of the mean of log 5 = 1.6094 and log 5/3 = 0.5108.
    assert float(loss - without) == pytest.approx(0.5301, abs=1e-4)


def test_without_alpha_the_loss_is_minus_the_bounds_weighted_by_their_images(x):
    model = M2(PIXELS, K, 0.25, 0, 1, (5, 4), alpha=0.0)
    params, key = init(model), jax.random.key(5)
    classes = jnp.arange(7, dtype=jnp.int32) % K
    key_unlabeled, key_labeled = jax.random.split(key)
    unlabeled = model.elbo(params, x, key=key_unlabeled).elbo
    joint = model.joint_elbo(
        params, x[:, None], jax.nn.one_hot(classes, K)[:, None], key=key_labeled
    ).elbo
    expected = -(0.75 * unlabeled.mean() + 0.25 * (joint.mean() - np.log(K)))
    loss, _ = model.loss(params, x, (x, classes), key=key, step=STEP)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@MODELS
def test_gradients_are_finite_when_the_logits_are_extreme(model, x):
    params = init(model)
    parts = ["classifier"] if model.gaussian else ["classifier", "decoder"]
    for part in parts:  # those with logits
        params[part] = jax.tree.map(lambda p: 30 * p, params[part])
    assert np.abs(model.class_logits(params, x)).min(axis=1).max() > 200
    labeled = x, jnp.arange(7, dtype=jnp.int32) % K
    loss = partial(model.loss, x=x, labeled=labeled, key=jax.random.key(2), step=STEP)
    grads = jax.jit(jax.grad(lambda p: loss(p)[0]))(params)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_the_product_with_x_is_taken_once_for_all_classes(x):
    """No product in the program has a row of pixels for every class."""
    params = init(MODEL)
    program = jax.make_jaxpr(
        lambda p: MODEL.elbo(p, x, key=jax.random.key(0)).elbo.sum()
    )(params)
    products = [e for e in program.eqns if e.primitive.name == "dot_general"]
    of_pixels = [
        e.invars[0].aval.shape for e in products if e.invars[1].aval.shape[0] == PIXELS
    ]
    assert of_pixels
    assert all(np.prod(shape) == x.size for shape in of_pixels)


def test_at_the_start_the_networks_hardly_hear_the_class(x):
    params = MODEL.init(jax.random.key(0))
    means = [MODEL.encode(params, x, one_hot(k, 7)[:, 0])[0] for k in range(K)]
    assert np.ptp(means, axis=0).max() < 0.01


@MODELS
def test_an_image_is_rebuilt_from_its_style_in_its_likeliest_class(model, x):
    params = init(model)
    classes = np.argmax(model.class_logits(params, x), axis=-1)
    styles = model.features(params, x)
    every = model.decode_classes(params, styles)
    assert every.shape == (7, K, PIXELS)
    np.testing.assert_allclose(
        model.reconstruct(params, x), every[np.arange(7), classes], rtol=1e-6
    )
    for i in range(7):
        mean, _ = model.encode(params, x[i : i + 1], one_hot(classes[i], 1)[0])
        np.testing.assert_allclose(styles[i], mean[0], rtol=1e-4, atol=1e-6)


def test_during_the_warmup_the_classifier_hears_the_labels_only(x):
    model = M2(PIXELS, K, 0.25, warmup_steps=3, latent_dim=1, hidden=(5, 4), alpha=0.5)
    params, key = init(model), jax.random.key(5)
    classes = jnp.arange(7, dtype=jnp.int32) % K

    def grads(step):
        return jax.grad(
            lambda p: model.loss(p, x, (x, classes), key=key, step=jnp.int32(step))[0]
        )(params)

    def cross_entropy(p):
        log_probs = jax.nn.log_softmax(model.class_logits(p, x))
        return -0.5 * jnp.mean(log_probs[jnp.arange(7), classes])

    of_labels = jax.grad(cross_entropy)(params)["classifier"]
    warm, after = grads(2), grads(3)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        warm["classifier"],
        of_labels,
    )
    assert not np.allclose(
        after["classifier"]["logits"]["bias"], of_labels["logits"]["bias"]
    )
    for part in ("encoder", "decoder"):
        jax.tree.map(np.testing.assert_array_equal, warm[part], after[part])
