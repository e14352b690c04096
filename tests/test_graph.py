"""The graph of nearest neighbors, and an SVM that is smoothed over it."""

import functools
import io

import jax
import numpy as np
import pytest
from scipy import sparse

from ssl_vae.classifiers import graph as graphs
from ssl_vae.classifiers import traceable
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.classifiers.graph import Neighbors, smoothed, solve, vertices_among
from ssl_vae.classifiers.smoothed import SmoothedSVM
from ssl_vae.errors import RunError


@pytest.fixture(scope="module")
def clouds():
    """Points of two classes around 0 and 4, float32 [50, 2], and their classes."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [30, 20])
    points = rng.normal(4 * labels[:, None], 1, (50, 2))
    return points.astype(np.float32), labels


def dense_laplacian(graph):
    weights = graph.toarray()
    return np.diag(weights.sum(axis=1)) - weights


def test_the_graph_is_symmetric_without_loops_and_joins_the_nearest(clouds):
    points, _ = clouds
    weights = Neighbors(points, 4).graph().toarray()
    np.testing.assert_array_equal(weights, weights.T)
    assert not weights.diagonal().any()
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert (weights[7, np.argsort(distance[7])[1:5]] > 0).all()


def test_a_neighbor_counts_by_its_distance_over_that_of_the_farthest():
    vertices = np.array([[0.0], [1.0], [3.0], [100.0]], np.float32)
    near = Neighbors(vertices, 3).of(np.array([[-1.0], [1.5]])).toarray()
    distance = np.array([[1, 2, 4, np.inf], [1.5, 0.5, 1.5, np.inf]])
    raw = np.exp(-4 * (distance / [[4], [1.5]]) ** 2)
    np.testing.assert_allclose(near, raw / raw.sum(axis=1, keepdims=True), rtol=1e-6)


def test_a_vertex_is_no_neighbor_of_its_own(clouds):
    points, _ = clouds
    near = Neighbors(points, 4).of(points).toarray()
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    for i in range(50):
        others = np.argsort(distance[i])[1:5]
        raw = np.exp(-4 * (distance[i, others] / distance[i, others[-1]]) ** 2)
        np.testing.assert_allclose(near[i, others], raw / raw.sum(), rtol=1e-4)
        assert np.count_nonzero(near[i]) == 4


def test_images_that_are_all_alike_have_a_graph_too():
    points = np.ones([6, 2], np.float32)
    among = Neighbors(points, 3)
    values = smoothed(among.graph(), np.eye(6)[:, :2], 1.0)
    assert np.isfinite(values).all()
    np.testing.assert_allclose(among.of(points).sum(axis=1), 1)


def test_smoothing_weighs_what_is_said_of_an_image_and_of_its_neighbors(clouds):
    graph = Neighbors(clouds[0], 4).graph()
    probs = np.random.default_rng(1).dirichlet([1, 1, 1], size=50)
    degrees = np.diag(graph.sum(axis=1))
    expected = np.linalg.solve(degrees + 3 * dense_laplacian(graph), degrees @ probs)
    found = smoothed(graph, probs, 3)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_the_value_of_a_vertex_is_what_its_neighbors_and_itself_ask_for(clouds):
    """The rule for an image outside the graph is the one inside it."""
    graph = Neighbors(clouds[0], 4).graph()
    probs = np.random.default_rng(1).dirichlet([1, 1], size=50)
    values = smoothed(graph, probs, 2.0)
    mean = (graph @ values) / graph.sum(axis=1)[:, None]
    np.testing.assert_allclose(values, (probs + 2 * mean) / 3, atol=1e-6)


def test_without_a_solution_it_says_so():
    with pytest.raises(RunError, match="no solution"):
        solve(sparse.csr_array(np.diag([np.nan, 1.0])), np.ones([2, 1]), accuracy=1e-4)


def test_of_too_many_images_some_are_vertices_always_the_same(monkeypatch):
    assert vertices_among(5).tolist() == [0, 1, 2, 3, 4]
    monkeypatch.setattr(graphs, "MAX_VERTICES", 10)
    rows = vertices_among(1000)
    assert len(set(rows)) == 10 and (np.diff(rows) > 0).all() and rows[-1] < 1000
    np.testing.assert_array_equal(rows, vertices_among(1000))


@pytest.fixture(scope="module")
def classifier(clouds):
    """Smoothed, from two labels a class."""
    points, labels = clouds
    known = np.array([0, 1, 30, 31])
    svm = CalibratedSVM.fitted(points[known], labels[known], C=2.0, standardize=False)
    svm, log_probs = svm.aligned(points, np.array([0.6, 0.4]))
    among = Neighbors(points, 5)
    return SmoothedSVM.fitted(
        svm, among, among.graph(), np.exp(log_probs), strength=3.0
    )


def test_its_probabilities_are_a_mean_of_the_svms_and_the_neighbors(classifier):
    others = np.array([[1.0, 3.0], [2.0, 2.0]], np.float32)
    found = np.exp(classifier.log_probs(others))
    alone = np.exp(classifier.svm.log_probs(others))
    near = classifier.neighbors.of(others).toarray() @ classifier.values
    np.testing.assert_allclose(found, alone / 4 + 3 * near / 4, rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_in_jax_it_says_the_same(classifier, clouds):
    """Far from 0, on vertices and off them, and where two of them coincide."""
    points = clouds[0]
    among = Neighbors(np.concatenate([points, points[:3]]) + np.float32(1000), 5)
    values = np.concatenate([classifier.values, classifier.values[:3]])
    others = np.concatenate([points[3:], points + np.float32(0.25)]) + np.float32(1000)
    alone = np.log(np.random.default_rng(2).dirichlet([1, 1], len(others)))
    near = among.of(others) @ values
    expected = (np.exp(alone) + 3 * near) / 4
    found = jax.jit(
        functools.partial(traceable.smoothed, num_neighbors=5, strength=3.0)
    )(
        alone.astype(np.float32),
        others,
        {"vertices": among.vertices, "values": values},
    )
    np.testing.assert_allclose(np.exp(found), expected, atol=2e-5)


def load(folder, **changes):
    of_run = {"num_labels": 4, "num_neighbors": 5, "strength": 3.0}
    return SmoothedSVM.load(folder, folder / "graph.npy", **(of_run | changes))


@pytest.fixture
def saved(classifier, tmp_path):
    classifier.save(tmp_path, tmp_path / "graph.npy", num_labels=4)
    return tmp_path


def test_what_is_loaded_says_the_same_to_the_last_bit(classifier, clouds, saved):
    np.testing.assert_array_equal(
        load(saved).log_probs(clouds[0]), classifier.log_probs(clouds[0])
    )
    names = {path.name for path in saved.iterdir()}
    assert names == {"classifier.json", "classifier.skops", "graph.npy"}


def test_a_graph_of_another_save_is_refused(saved, classifier):
    flip_last(saved / "graph.npy")
    with pytest.raises(ValueError, match=r"graph\.npy is damaged"):
        load(saved)
    classifier.svm.save(saved, num_labels=4)  # as of a recipe without a graph
    with pytest.raises(KeyError):
        load(saved)


def flip_last(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros([9, 4]),
        np.zeros(9, np.float32),
        np.zeros([9, 5], np.float32),
        np.zeros([5, 4], np.float32),  # no more than it has neighbors
        np.full([9, 4], np.nan, np.float32),
        np.array([{}, {}], object),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_an_array_of_another_kind_is_refused(saved, classifier, array):
    file = saved / "graph.npy"
    np.save(file, array, allow_pickle=True)
    classifier.svm.save(saved, num_labels=4, beside=file)
    with pytest.raises(ValueError, match=r"graph\.npy holds"):
        load(saved)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x93NUMPY\1\0\5\0{{{{{"])
def test_a_file_that_is_no_array_is_refused(saved, classifier, content):
    (saved / "graph.npy").write_bytes(content)
    classifier.svm.save(saved, num_labels=4, beside=saved / "graph.npy")
    with pytest.raises(ValueError, match=r"graph\.npy holds no array"):
        load(saved)


def test_a_file_that_claims_more_than_it_has_takes_no_memory(saved, classifier):
    head = io.BytesIO()
    kind = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 4)}
    np.lib.format.write_array_header_1_0(head, kind)
    (saved / "graph.npy").write_bytes(head.getvalue())
    classifier.svm.save(saved, num_labels=4, beside=saved / "graph.npy")
    with pytest.raises(ValueError, match=r"graph\.npy holds no array"):
        load(saved)
