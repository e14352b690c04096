"""The graph of nearest neighbors among features, and values that spread over it.

Images that look alike are mostly of one class. A graph of the training images says
which do; an image that is not in it has neighbors there, and so gets an answer too.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import laplacian
from scipy.sparse.linalg import LinearOperator, cg

from ssl_vae.errors import RunError

MAX_VERTICES = 100_000  # at twice as many the search takes four times as long
LEAST_DISTANCE = 1e-9  # of the farthest neighbor: all may be alike
SAME = 1e-3  # nearer than so much of the farthest neighbor's distance: the image itself


def vertices_among(num_images: int) -> np.ndarray:
    """The images that are vertices, int [V]: all, or MAX_VERTICES that are drawn."""
    if num_images <= MAX_VERTICES:
        return np.arange(num_images)
    rng = np.random.default_rng(0)
    return np.sort(rng.choice(num_images, MAX_VERTICES, replace=False))


@dataclass(frozen=True)
class Neighbors:
    """Points whose neighbors are sought among them.

    Attributes:
      vertices: float [V, dim].
      num: How many neighbors a point has, below V; a vertex is none of its own.
    """

    vertices: np.ndarray
    num: int

    def graph(self) -> sparse.csr_array:
        """Weights between vertices, symmetric, float [V, V]."""
        between = self._weights(*self._search.kneighbors())
        return sparse.csr_array((between + between.T) / 2)

    def of(self, features: np.ndarray) -> sparse.csr_array:
        """Weights of vertices for features [M, dim]: float [M, V], rows sum to 1.

        What lies on a vertex, or all but, is taken for it.
        """
        distance, rows = self._search.kneighbors(features, self.num + 1)
        on_vertex = distance[:, :1] < SAME * distance[:, -1:]
        distance, rows = (
            np.where(on_vertex, each[:, 1:], each[:, :-1]) for each in (distance, rows)
        )
        weights = self._weights(distance, rows)
        return sparse.csr_array(sparse.diags_array(1 / weights.sum(axis=1)) @ weights)

    @functools.cached_property
    def _search(self) -> Any:
        from sklearn.neighbors import NearestNeighbors  # late: two seconds

        return NearestNeighbors(n_neighbors=self.num).fit(self.vertices)

    def _weights(self, distance: np.ndarray, rows: np.ndarray) -> sparse.csr_array:
        """exp(-4 d^2 / d_k^2) of the neighbors, the farthest at distance d_k: [n, V].

        Args:
          distance: Of the neighbors, ascending, [n, num].
          rows: Which vertices they are, [n, num].

        Source: Calder et al. 2020, "Poisson learning", arXiv:2006.11184, section 4.
        """
        farthest = np.maximum(distance[:, -1:], LEAST_DISTANCE)
        weights = np.exp(-4 * np.square(distance / farthest))
        starts = np.arange(0, rows.size + 1, rows.shape[1])
        return sparse.csr_array(
            (weights.ravel(), rows.ravel(), starts),
            shape=(len(rows), len(self.vertices)),
        )


def smoothed(graph: sparse.csr_array, probs: np.ndarray, strength: float) -> np.ndarray:
    """Values near `probs` [V, K] that differ little between neighbors, [V, K].

    The minimum of the squared distances from `probs`, weighted by degree, plus
    `strength` times those between neighbors. Rows that sum to 1 still do so.

    Args:
      graph: Weights between vertices, symmetric, >= 0, every vertex with a neighbor.
      probs: What is known of each vertex.
      strength: At 0 the values are `probs`.

    Source: Zhou et al. 2004, "Learning with local and global consistency", NIPS 16.
    There it starts from the labels, and from nothing where there is none; here from a
    classifier's probabilities, and the Laplacian is not normalized.
    """
    degrees = sparse.diags_array(graph.sum(axis=1))
    matrix = sparse.csr_array(degrees + strength * laplacian(graph))
    return solve(matrix, degrees @ probs, accuracy=1e-7)


def solve(
    matrix: sparse.csr_array, right: np.ndarray, *, accuracy: float
) -> np.ndarray:
    """`matrix` @ u = right for several right sides at once, [n, K].

    Args:
      matrix: Positive semidefinite, [n, n], with a diagonal above 0.
      right: In its range, [n, K].
      accuracy: How long the residual may be, in lengths of `right`.

    Raises:
      RunError: where no solution is found.
    """
    scale = np.repeat(matrix.diagonal(), right.shape[1])
    several = LinearOperator(
        (right.size, right.size),
        matvec=lambda u: (matrix @ u.reshape(right.shape)).ravel(),
        dtype=np.float64,
    )
    jacobi = LinearOperator(several.shape, matvec=lambda u: u / scale)
    found, failed = cg(several, right.ravel(), rtol=accuracy, maxiter=5_000, M=jacobi)
    if failed:
        raise RunError(f"the graph of the images: no solution within {failed} steps")
    return np.asarray(found.reshape(right.shape))
