"""Probabilities smoothed over the graph of nearest neighbors."""

import numpy as np
import pytest
from scipy import spatial

from ssl_vae.classifiers import graph


@pytest.fixture(scope="module")
def features():
    """Forty points of two clouds that touch."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 3)) + np.repeat([[0], [2.5]], 20, axis=0)


@pytest.fixture(scope="module")
def weights(features):
    return graph.neighbor_graph(features, 4).toarray()


def test_the_graph_joins_each_with_its_nearest_in_both_directions(features, weights):
    assert (weights == weights.T).all()
    assert (weights >= 0).all() and (np.diag(weights) == 0).all()
    apart = spatial.distance_matrix(features, features)
    nearest = apart.argsort(axis=1)[:, 1:5]
    joined = np.zeros_like(weights, dtype=bool)
    joined[np.arange(40)[:, None], nearest] = True
    assert ((weights > 0) == (joined | joined.T)).all()


def test_weights_are_those_of_the_formula(features, weights):
    apart = spatial.distance_matrix(features, features)
    reach = np.sort(apart, axis=1)[:, 4]  # of the farthest neighbor
    one_way = np.exp(-4 * (apart / reach[:, None]) ** 2) * (apart <= reach[:, None])
    np.fill_diagonal(one_way, 0)
    np.testing.assert_allclose(weights, (one_way + one_way.T) / 2, rtol=1e-6)


@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_smoothing_solves_the_equations_of_its_source(features, weights, strength):
    """The minimum of sum_i d_i |u_i - p_i|^2 + s sum_{i<j} w_ij |u_i - u_j|^2."""
    probs = np.random.default_rng(1).dirichlet(np.ones(5), size=40)
    degrees = np.diag(weights.sum(axis=1))
    laplacian = degrees - weights
    matrix = degrees + strength * laplacian
    expected = np.linalg.solve(matrix, degrees @ probs)
    found = graph.smoothed(graph.neighbor_graph(features, 4), probs, strength)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found > 0).all()


def test_neighbors_outvote_a_single_mistake(features):
    truth = np.repeat([0, 1], 20)
    said = np.full([40, 2], 0.3)
    said[np.arange(40), truth] = 0.7
    said[3] = [0.4, 0.6]  # deep in the first cloud
    found = graph.smoothed(graph.neighbor_graph(features, 4), said)
    assert found[3].argmax() == 0


@pytest.mark.parametrize("num_images", [2, 3])
def test_few_images_are_each_others_neighbors(num_images):
    features = np.arange(num_images, dtype=np.float32)[:, None]
    weights = graph.neighbor_graph(features).toarray()
    assert (weights[~np.eye(num_images, dtype=bool)] > 0).all()


def test_copies_of_an_image_are_neighbors_at_no_distance():
    found = graph.neighbor_graph(np.zeros([5, 2]), 2)
    assert np.isfinite(found.toarray()).all()
    assert (found.sum(axis=1) > 0).all()


def test_smoothed_log_probs_keep_the_shares_of_the_classes(features):
    rng = np.random.default_rng(2)
    log_probs = np.log(rng.dirichlet(np.ones(3), size=40))
    shares = np.array([0.5, 0.3, 0.2])
    neighbors = graph.neighbor_graph(features, 4)
    found = graph.smoothed_log_probs(neighbors, log_probs, shares)
    np.testing.assert_allclose(np.exp(found).mean(axis=0), shares, atol=1e-4)
    moved = found - np.log(graph.smoothed(neighbors, np.exp(log_probs)))
    moved -= moved[:, :1]  # by the same bias for every image
    np.testing.assert_allclose(moved, np.tile(moved[:1], (40, 1)), atol=1e-5)
