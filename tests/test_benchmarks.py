"""The arithmetic behind the tables of docs/ablation.md."""

import dataclasses
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from conftest import blobs

from ssl_vae import datasets
from ssl_vae.models import M1

SHAPE = {"image_shape": (2, 3, 1), "latent_dim": 3, "hidden": (5, 4)}
STEP = jnp.int32(0)


@pytest.fixture(scope="module", autouse=True)
def _benchmarks():
    folder = Path(__file__).parent.parent / "benchmarks"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


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


@pytest.mark.parametrize(
    "around, errors",  # t of 97.5 %, from a table
    [([-1, 1], 12.706), ([-2, -1, 0, 1, 2], 2.776), (range(-15, 15), 2.045)],
)
def test_fewer_choices_need_a_larger_gain_for_a_star(around, errors):
    from unlabeled import cell

    around = np.array(around) - np.mean(around)
    svm, error = np.full(len(around), 70.0), scipy.stats.sem(around)
    assert cell(svm + around + 1.01 * errors * error, svm).endswith("*")
    assert cell(svm + around + 0.99 * errors * error, svm).endswith(" ")


IMAGE = (8, 12, 1)  # 2 x 3 cells


@pytest.fixture
def pictures():
    return jax.random.uniform(jax.random.key(8), (5, 8 * 12))


def local(kind, **changes):
    """A small model of images of shape IMAGE."""
    return kind(IMAGE, latent_dim=3, hidden=(7, 5), **changes)


def test_mirrored_twice_is_the_image(pictures):
    from image_models import mirrored

    once = mirrored(pictures, IMAGE)
    np.testing.assert_array_equal(
        once[2].reshape(8, 12), pictures[2].reshape(8, 12)[:, ::-1]
    )
    np.testing.assert_array_equal(mirrored(once, IMAGE), pictures)


@pytest.mark.parametrize("shape", [IMAGE, (4, 8, 3)])
def test_patches_put_together_are_the_image(pictures, shape):
    from image_models import patches, put_together

    cells = patches(pictures, shape)
    x = pictures.reshape(5, *shape)
    np.testing.assert_array_equal(cells[3, 1], x[3, :4, 4:8].ravel())
    np.testing.assert_array_equal(cells[3, -1], x[3, -4:, -4:].ravel())
    np.testing.assert_array_equal(put_together(cells, shape), pictures)


def test_the_cells_of_gradients_are_those_of_patches():
    from image_models import num_cells, patches

    from ssl_vae.gradients import oriented_gradients

    edges = jax.jit(lambda x: oriented_gradients(x, IMAGE))
    for row, column in ((1, 2), (6, 1), (5, 9)):  # dots within a cell
        x = np.zeros([1, 8, 12], np.float32)
        x[0, row, column] = 1
        x = jnp.asarray(x.reshape(1, -1))
        gradients = edges(x).reshape(num_cells(IMAGE), -1)
        dotted = patches(x, IMAGE)[0].any(axis=1)
        np.testing.assert_array_equal(gradients.any(axis=1), dotted)
        assert dotted.sum() == 1


@pytest.mark.parametrize("mirrors", [False, True])
def test_a_moved_image_has_its_own_gradients(pictures, mirrors):
    from image_models import Moved

    model, plain = (
        local(kind, gradient_weight=2.0, **more)
        for kind, more in ((Moved, {"mirrors": mirrors}), (M1, {}))
    )
    params, key = jax.jit(plain.init)(jax.random.key(0)), jax.random.key(9)
    key_move, key_noise = jax.random.split(key)
    moved = jax.jit(model.moved)(key_move, pictures)
    assert not np.array_equal(moved, pictures)
    found, expected = (jax.jit(partial(loss, each)) for each in (model, plain))
    expected = expected(params, moved, key_noise)
    np.testing.assert_allclose(found(params, pictures, key), expected, rtol=1e-6)


def test_about_half_of_the_images_are_mirrored():
    from image_models import Moved, mirrored

    # One bright column in the middle of the right half: shifted it stays in that half.
    x = jnp.zeros([400, 8, 12]).at[:, :, 9].set(1.0).reshape(400, -1)
    right = jax.jit(local(Moved, mirrors=True).moved)(jax.random.key(0), x)
    right = right.reshape(400, 8, 12)[:, :, 6:].any(axis=(1, 2))
    assert 150 < right.sum() < 250
    assert not mirrored(x, IMAGE).reshape(400, 8, 12)[:, :, 6:].any()
    still = jax.jit(local(Moved).moved)(jax.random.key(0), x)
    assert still.reshape(400, 8, 12)[:, :, 6:].any(axis=(1, 2)).all()


def there_and_back(model, x):
    params = model.init(jax.random.key(0))
    return model.encode(params, x), model.reconstruct(params, x)


@pytest.mark.parametrize("gradient_weight", [0.0, 2.0])
@pytest.mark.parametrize("name", ["Patched", "Convolutional"])
def test_local_networks_take_and_give_what_those_of_m1_do(
    pictures, name, gradient_weight
):
    import image_models

    kind = getattr(image_models, name)
    model, plain = (local(k, gradient_weight=gradient_weight) for k in (kind, M1))
    found, expected = (
        jax.tree.map(jnp.shape, jax.eval_shape(partial(there_and_back, each), pictures))
        for each in (model, plain)
    )
    assert found == expected == (((5, 3), (5, 3)), (5, 96))
    params, key = jax.jit(model.init)(jax.random.key(0)), jax.random.key(1)
    slope = jax.jit(jax.grad(partial(loss, model)))(params, pictures, key)
    for path, array in jax.tree.leaves_with_path(slope):
        assert np.isfinite(array).all(), path
        assert np.any(array), path  # every weight takes part


def test_the_patches_share_their_weights():
    from image_models import Patched

    model = local(Patched, of_patch=(6, 2))
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(model.init, jax.random.key(0)))
    first = shapes["encoder"]["MLP_0"]["Dense_0"]["kernel"]
    last = shapes["decoder"]["Decoder_0"]["logits"]["kernel"]
    assert (first, last) == ((16, 6), (6, 16))


@pytest.fixture
def members():
    """What three VAEs say of 90 images of three classes; and those classes."""
    from images import Given

    rng, labels = np.random.default_rng(0), np.arange(90) % 3
    centers = rng.normal(0, 1.5, (3, 3, 2))
    clouds = [center[labels] + rng.normal(size=(90, 2)) for center in centers]
    return [Given([cloud], [cloud[::-1]]) for cloud in clouds], labels


CHOSEN = np.arange(45)


def test_an_ensemble_of_one_is_its_member(members):
    from images import said_of_classes

    (one, *_), labels = members
    alone = said_of_classes([one], CHOSEN, labels[CHOSEN])
    np.testing.assert_allclose(np.exp(alone).sum(axis=1), 1)
    twice = said_of_classes([one, one], CHOSEN, labels[CHOSEN])
    np.testing.assert_array_equal(twice.argmax(axis=1), alone.argmax(axis=1))


def test_an_ensemble_says_the_mean_of_what_its_members_say(members):
    from images import said_of_classes

    from ssl_vae.classifiers.calibrated import CalibratedSVM

    given, labels = members
    expected = [
        CalibratedSVM.fitted(
            each.train[0][CHOSEN], labels[CHOSEN], C=2.0, standardize=False
        ).log_probs(each.test[0])
        for each in given
    ]
    found = said_of_classes(given, CHOSEN, labels[CHOSEN])
    np.testing.assert_allclose(found, np.mean(expected, axis=0))


def test_looks_are_learnt_from_and_averaged(members):
    from images import Given, said_of_classes

    from ssl_vae.classifiers.calibrated import CalibratedSVM
    from ssl_vae.classifiers.svm import fit_svm

    (one, other, _), labels = members
    learnt, asked = [one.train[0], other.train[0]], [one.test[0], other.test[0]]
    found = said_of_classes([Given(learnt, asked)], CHOSEN, labels[CHOSEN])
    svm = fit_svm(
        np.concatenate([look[CHOSEN] for look in learnt]),
        np.concatenate([labels[CHOSEN]] * 2),
        C=2.0,
        standardize=False,
    )
    svm = CalibratedSVM(svm, 1.0, np.zeros(3))
    expected = (svm.log_probs(asked[0]) + svm.log_probs(asked[1])) / 2
    np.testing.assert_allclose(found, expected)


def test_features_of_several_are_laid_side_by_side(members):
    from images import side_by_side

    given, _ = members
    (train,), (test,) = side_by_side(given)
    np.testing.assert_array_equal(train[:, 2:4], given[1].train[0])
    np.testing.assert_array_equal(test[:, 4:], given[2].test[0])


def test_features_of_a_look_are_those_of_the_image_moved(pictures):
    from images import features, mirrored

    model = local(M1)
    params = model.init(jax.random.key(0))
    alone, turned = features(model, params, np.asarray(pictures), "mirrored")
    expected = model.features(params, mirrored(pictures, IMAGE))
    np.testing.assert_allclose(turned, expected, atol=1e-6)
    np.testing.assert_allclose(alone, model.features(params, pictures), atol=1e-6)
    assert len(features(model, params, np.asarray(pictures), "shifted")) == 5


def refused(name, monkeypatch, capsys, *flags):
    """The last line that a benchmark prints where it does not take its flags."""
    monkeypatch.setattr(sys, "argv", [name, *flags])
    with pytest.raises(SystemExit) as stopped:
        __import__(name).main()
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert not said.out
    return said.err.splitlines()[-1]


@pytest.mark.parametrize("name", ["images", "objectives", "unlabeled"])
def test_mistakes_are_a_line(name, tmp_path, monkeypatch, capsys):
    flags = [f"--data_dir={tmp_path / 'nowhere'}", f"--workdir={tmp_path}"]
    flags = flags[: 1 + (name == "unlabeled")]
    assert "nowhere does not exist" in refused(name, monkeypatch, capsys, *flags)


def test_speed_is_not_measured_without_what_it_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SSL_VAE_DATA_DIR", str(tmp_path / "nowhere"))
    assert "nowhere does not exist" in refused("throughput", monkeypatch, capsys)
    import throughput

    monkeypatch.setattr(throughput, "load_images", lambda: None)
    monkeypatch.setattr(throughput, "find_spec", lambda _: None)
    assert "torch is not installed" in refused("throughput", monkeypatch, capsys)


@pytest.mark.parametrize("name", ["images", "objectives", "suggest", "unlabeled"])
def test_a_deviation_of_a_single_label_split_is_refused(name, monkeypatch, capsys):
    line = refused(name, monkeypatch, capsys, "--num_splits=1")
    assert line == f"{name}: error: argument --num_splits: 1 is less than 2"


def test_a_cell_has_the_mean_and_the_sample_deviation():
    from shared import mean_and_deviation

    assert mean_and_deviation([70.0, 75.0, 80.0]) == "75.00 ± 5.00"
    assert mean_and_deviation(np.array([71.234])) == "71.23 ± 0.00"


def test_a_row_that_is_not_there_is_refused(monkeypatch, capsys):
    line = refused("baselines", monkeypatch, capsys, "--row=nosuch")
    assert "argument --row: invalid choice: 'nosuch' (choose from " in line
    assert "PCA-50, label spreading" in line


def test_a_baseline_of_every_kind_learns_from_what_it_is_given(
    small_data, monkeypatch, capsys
):
    import baselines

    flags = [f"--data_dir={small_data}", "--labels=40", "--num_splits=1"]
    monkeypatch.setattr(sys, "argv", ["baselines", *flags])
    baselines.main()
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row[:38].rstrip() for row in rows] == list(baselines.ROWS)
    assert all(float(row[38:].split()[0]) > 60 for row in rows)  # of four classes


@pytest.fixture
def without_test_images(tmp_path):
    """The flag that names a file of 60 images, all of them labeled."""
    images, labels = blobs(60, seed=0)
    np.savez(tmp_path / "cells.npz", images=images, labels=labels)
    return f"--dataset=npz:{tmp_path / 'cells.npz'}"


@pytest.mark.parametrize("name", ["baselines", "suggest"])
def test_training_images_are_no_test_images(
    name, without_test_images, monkeypatch, capsys
):
    flags = [without_test_images, "--workdir=none"][: 1 + (name == "suggest")]
    line = refused(name, monkeypatch, capsys, *flags)
    told = "--dataset: cells has no test images; this needs a data set with test images"
    assert line == f"{name}: error: {told}"


def test_held_out_images_may_stand_in_for_them(
    without_test_images, monkeypatch, capsys
):
    import baselines

    flags = [without_test_images, "--evaluate_on=validation", "--row=pixels, SVM"]
    monkeypatch.setattr(sys, "argv", ["baselines", *flags, "--labels=8"])
    baselines.main()
    title, _, row = capsys.readouterr().out.splitlines()
    assert title == "validation accuracy %, 10 label splits, inductive"
    assert row.startswith("pixels, SVM")


@pytest.mark.parametrize(
    "numbers, told",
    [
        (
            {"END": 401},
            "has 400 labels, 100 of the scarcest of 4 classes; this needs 401,",
        ),
        ({"START": 90}, "this needs 300, and 90 that the classes share evenly"),
        ({"START": 404, "END": 400}, "and 404 that the classes share evenly"),
    ],
)
def test_too_few_labels_to_hand_out_are_a_line(
    small_data, numbers, told, monkeypatch, capsys
):
    import suggest

    for name, number in numbers.items():
        monkeypatch.setattr(suggest, name, number)
    flags = [f"--data_dir={small_data}", "--workdir=none"]
    assert told in refused("suggest", monkeypatch, capsys, *flags)


@pytest.mark.parametrize("way", ["suggested", "at random"])
def test_only_images_with_a_label_are_given_theirs(small_data, way, monkeypatch):
    import suggest

    for name, number in {"START": 8, "BATCH": 4, "END": 20}.items():
        monkeypatch.setattr(suggest, name, number)
    fit, learnt = suggest.CalibratedSVM.fitted, []

    def watched(features, labels, **settings):
        learnt.append(labels)
        return fit(features, labels, **settings)

    monkeypatch.setattr(suggest.CalibratedSVM, "fitted", watched)
    data = datasets.load("corners", small_data)
    labels = np.where(np.arange(400) < 60, data.train_labels, -1)
    data = dataclasses.replace(data, train_labels=labels)
    flat = [x.reshape(len(x), -1) / 255 for x in (data.train_images, data.test_images)]
    found = suggest.accuracies(data, flat, seed=0, way=way)
    assert [len(labels) for labels in learnt] == [8, 12, 16, 20]
    assert np.concatenate(learnt).min() == 0
    assert len(found) == 4
