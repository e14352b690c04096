"""The arithmetic behind the tables of docs/ablation.md."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from ssl_vae.models import M1

SHAPE = {"image_shape": (2, 3, 1), "latent_dim": 3, "hidden": (5, 4)}
STEP = jnp.int32(0)


@pytest.fixture(scope="module", autouse=True)
def _benchmarks():
    folder = Path(__file__).parent.parent / "benchmarks"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield
    for name in ("objectives", "unlabeled"):
        sys.modules.pop(name, None)


@pytest.fixture
def params():
    return M1(**SHAPE).init(jax.random.key(0))


@pytest.fixture
def x():
    return jax.random.uniform(jax.random.key(1), (7, 6))


@pytest.fixture
def posterior():
    mean = jax.random.normal(jax.random.key(2), (7, 3))
    return mean, 0.3 * jax.random.normal(jax.random.key(3), (7, 3))


def loss(model, params, x, key):
    return model.loss(params, model.view(x), key=key, step=STEP)[0]


def test_the_importance_weighted_loss_is_the_log_of_the_mean_weight(params, x):
    from objectives import ImportanceWeighted

    key, model = jax.random.key(4), M1(**SHAPE)
    weights = [model.log_weight(params, x, key=k) for k in jax.random.split(key, num=5)]
    bound = scipy.special.logsumexp(np.stack(weights), axis=0) - np.log(5)
    found = loss(ImportanceWeighted(**SHAPE, num_samples=5), params, x, key)
    np.testing.assert_allclose(found, -bound.mean(), rtol=1e-6)


def test_with_one_draw_it_is_the_elbo_on_average(params, x):
    from objectives import ImportanceWeighted

    keys = jax.random.split(jax.random.key(5), 2000)
    one = ImportanceWeighted(**SHAPE, num_samples=1)
    several = ImportanceWeighted(**SHAPE, num_samples=5)
    losses, of_m1, of_several = (
        jax.vmap(lambda key, model=model: loss(model, params, x, key))(keys)
        for model in (one, M1(**SHAPE), several)
    )
    error = np.std(losses - of_m1) / np.sqrt(len(keys))
    assert abs(np.mean(losses - of_m1)) < 4 * error
    assert np.mean(of_several) < np.mean(of_m1) - 10 * error  # and more are tighter


@pytest.mark.parametrize("gradient_weight", [0.0, 2.0])
def test_without_free_bits_the_loss_is_that_of_m1(x, gradient_weight):
    from objectives import Variant

    fields = SHAPE | {"gradient_weight": gradient_weight, "kl_weight": 0.7}
    params, key = M1(**fields).init(jax.random.key(0)), jax.random.key(4)
    found = loss(Variant(**fields), params, x, key)
    np.testing.assert_allclose(found, loss(M1(**fields), params, x, key), rtol=1e-6)


def test_free_bits_leave_the_units_above_the_floor_as_they_are(posterior):
    from objectives import floored_kl

    mean, logvar = posterior
    of_units = 0.5 * np.mean(mean**2 + np.exp(logvar) - logvar - 1, axis=0)
    floor = float(np.median(of_units))
    by_hand = sum(max(floor, unit) for unit in of_units)
    np.testing.assert_allclose(floored_kl(mean, logvar, floor), by_hand, rtol=1e-5)


def test_below_the_floor_the_kl_is_constant(posterior):
    from objectives import floored_kl

    value, gradients = jax.value_and_grad(floored_kl, argnums=(0, 1))(*posterior, 100.0)
    assert value == 3 * 100.0
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0)


def test_the_gaussian_has_the_likeliest_of_all_variances():
    from objectives import gaussian_of_best_variance

    logits = jax.random.normal(jax.random.key(6), (4, 5))
    x = jax.random.uniform(jax.random.key(7), (4, 5))
    mean = scipy.special.expit(np.asarray(logits, np.float64))
    scales = np.linspace(0.1, 1.0, 901)
    density = [scipy.stats.norm(mean, s).logpdf(x).sum(axis=1) for s in scales]
    best = max(density, key=np.mean)
    np.testing.assert_allclose(gaussian_of_best_variance(logits, x), best, atol=0.02)


def test_the_continuous_bernoulli_integrates_to_one():
    from objectives import continuous_bernoulli

    points, weights = np.polynomial.legendre.leggauss(60)
    x = jnp.asarray((points + 1) / 2, jnp.float32)[:, None]
    for logit in (-20.0, -1.0, -0.011, -0.009, 0.0, 1e-6, 0.02, 3.0, 40.0):
        density = jnp.exp(continuous_bernoulli(jnp.full_like(x, logit), x))
        assert density @ (weights / 2) == pytest.approx(1, abs=2e-4), logit


def test_its_slope_is_finite_where_its_formula_is_not():
    from objectives import continuous_bernoulli

    x = jnp.full([1, 1], 0.3)
    slope = jax.grad(lambda logit: continuous_bernoulli(logit, x).sum())
    # The mean of the density is 1/2 at logit 0.
    np.testing.assert_allclose(slope(jnp.zeros([1, 1])), 0.3 - 0.5, atol=1e-6)


def test_the_hidden_layer_is_what_the_heads_are_linear_in(params, x):
    from objectives import hidden_layer

    model = M1(**SHAPE)
    head = params["encoder"]["mean"]
    means = hidden_layer(model, params, x) @ head["kernel"] + head["bias"][None]
    np.testing.assert_allclose(means, model.features(params, x), atol=1e-6)


@pytest.fixture
def given():
    """Two clouds of points, one of them larger, and some points between the two."""
    from unlabeled import Given

    rng = np.random.default_rng(0)
    clouds = [rng.normal(center, 1, (n, 2)) for center, n in ((0, 25), (4, 15), (2, 6))]
    train = np.concatenate(clouds)
    return Given.of(train, np.array([[0.0, 0.0], [4.0, 4.0]]), num_neighbors=4)


KNOWN, ONE_HOT = np.array([0, 3, 30]), np.eye(2)[[0, 0, 1]]


def dense_laplacian(given):
    weights = given.graph.toarray()
    return np.diag(weights.sum(axis=1)) - weights


def test_laplace_learning_is_harmonic_between_the_labels(given):
    from unlabeled import laplace

    values = laplace(given.graph, KNOWN, ONE_HOT)
    matrix = dense_laplacian(given)
    others = np.setdiff1d(np.arange(len(matrix)), KNOWN)
    right = -matrix[np.ix_(others, KNOWN)] @ ONE_HOT
    expected = np.linalg.solve(matrix[np.ix_(others, others)], right)
    np.testing.assert_allclose(values[others], expected, atol=1e-4)
    np.testing.assert_array_equal(values[KNOWN], ONE_HOT)


def test_poisson_learning_is_the_balanced_potential_of_its_sources(given):
    from unlabeled import poisson

    values = poisson(given.graph, KNOWN, ONE_HOT)
    sources = np.zeros([len(values), 2])
    sources[KNOWN] = ONE_HOT - ONE_HOT.mean(axis=0)
    expected = np.linalg.pinv(dense_laplacian(given)) @ sources
    degrees = given.graph.sum(axis=1)
    expected -= degrees @ expected / degrees.sum()
    np.testing.assert_allclose(values, expected, rtol=1e-3)


@pytest.mark.parametrize("name", ["laplace", "poisson"])
def test_an_image_outside_the_graph_is_given_the_class_of_its_neighbors(given, name):
    import unlabeled

    propagate = getattr(unlabeled, name)
    for scores in unlabeled.propagation(
        name, propagate, given, KNOWN, ONE_HOT
    ).values():
        np.testing.assert_array_equal(scores.argmax(axis=1), [0, 1])


def test_the_surer_half_of_each_class_teaches():
    from unlabeled import surer

    first = np.array([0.9, 0.8, 0.7, 0.6, 0.51, 0.4, 0.3, 0.2, 0.1])
    values = np.stack([first, 1 - first], axis=1)
    assert sorted(surer(values, known=np.array([0]))) == [1, 2, 7, 8]


def test_a_graph_in_pieces_is_refused_with_the_remedy():
    from unlabeled import Given

    from ssl_vae.errors import InputError

    apart = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]])
    with pytest.raises(InputError, match="--num_neighbors=2: .* 2 parts; choose more"):
        Given.of(apart, apart, num_neighbors=2)
    with pytest.raises(InputError, match="--num_neighbors=6: .* 6 images; choose few"):
        Given.of(apart, apart, num_neighbors=6)


def test_clusters_are_named_by_the_labels_in_them():
    from unlabeled import names

    shares = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    named = names(shares, np.eye(2)[[0, 0, 1]])
    np.testing.assert_allclose(named, [[1, 0], [1 / 3, 2 / 3], [0.5, 0.5]], atol=1e-8)


def test_a_star_is_for_gains_that_hold_from_choice_to_choice():
    from unlabeled import cell

    svm = np.array([70.0, 75.0, 80.0])
    assert cell(svm + 1, svm) == "76.00 ± 5.00*"
    assert cell(svm + [9, -8, 2], svm).endswith(" ")


@pytest.mark.parametrize("name", ["objectives", "unlabeled"])
def test_mistakes_are_a_line(name, tmp_path, monkeypatch, capsys):
    module = __import__(name)
    flags = [f"--data_dir={tmp_path / 'nowhere'}", f"--workdir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", [name, *flags[: 1 + (name == "unlabeled")]])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 2
    assert "nowhere does not exist" in capsys.readouterr().err.splitlines()[-1]
