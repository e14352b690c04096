"""What its nearest neighbors say of an image: probabilities smoothed over a graph.

Images that are near each other in the features mostly are of one class, so a guess
about one is a guess about the others, and what a classifier has wrong is outvoted.
"""

import numpy as np
from scipy import sparse

from ssl_vae.classifiers import proportions

MOST_IMAGES = 100_000  # of which neighbors are found within minutes
NUM_NEIGHBORS = 10
# On validation images 3 gains more with 100 labels, and loses a little with 3000.
STRENGTH = 1.0
ROUNDS = 30  # each leaves half of what is still to change
TINY = 1e-9


def neighbor_graph(
    features: np.ndarray, num_neighbors: int = NUM_NEIGHBORS
) -> sparse.csr_array:
    """Weights between images: symmetric, >= 0, none from an image to itself, [N, N].

    An image gives each of its nearest neighbors exp(-4 d^2 / d_k^2), the farthest of
    them being at distance d_k; the weight of a pair is the mean of both ways.

    Args:
      features: float [N, dim]; the time it takes grows with N squared.
      num_neighbors: Of each image; fewer where there are not as many others.

    Source: Calder et al. 2020, "Poisson learning", arXiv:2006.11184, section 4.
    """
    from sklearn.neighbors import NearestNeighbors  # late: seconds to import

    num_neighbors = min(num_neighbors, len(features) - 1)
    search = NearestNeighbors(n_neighbors=num_neighbors).fit(features)
    distance, rows = search.kneighbors()
    one_way = neighbor_weights(distance, rows, len(features))
    return sparse.csr_array((one_way + one_way.T) / 2)


def neighbor_weights(
    distance: np.ndarray, rows: np.ndarray, num_images: int
) -> sparse.csr_array:
    """The weights that images give their neighbors, [n, num_images].

    Args:
      distance: To each image's neighbors, ascending, float [n, k].
      rows: Which images they are, int [n, k].
      num_images: How many there are.
    """
    farthest = np.maximum(distance[:, -1:], TINY)
    weights = np.exp(-4 * np.square(distance / farthest))
    starts = np.arange(0, rows.size + 1, rows.shape[1])
    shape = len(rows), num_images
    return sparse.csr_array((weights.ravel(), rows.ravel(), starts), shape=shape)


def smoothed(
    graph: sparse.csr_array, probs: np.ndarray, strength: float = STRENGTH
) -> np.ndarray:
    """Probabilities near those given that differ little between neighbors, [N, K].

    Each image's are a mean of what was given for it and of what its neighbors have.

    Args:
      graph: Of `neighbor_graph`.
      probs: float [N, K], rows sum to 1.
      strength: How much the neighbors count, what was given counting 1.

    Source: Zhou et al. 2004, "Learning with local and global consistency", NIPS 16.
    """
    of_neighbors = sparse.diags_array(1 / graph.sum(axis=1)) @ graph
    found = probs
    for _ in range(ROUNDS):
        found = (probs + strength * (of_neighbors @ found)) / (1 + strength)
    return found


def smoothed_log_probs(
    graph: sparse.csr_array, log_probs: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """The same of log probabilities, and the classes keep their shares, [N, K].

    Args:
      graph: Of `neighbor_graph`.
      log_probs: float [N, K].
      shares: Proportions of the classes, float [K], see `proportions.aligning_bias`.
    """
    found = np.log(smoothed(graph, np.exp(log_probs)) + TINY)
    return proportions.aligned(found, proportions.aligning_bias(found, shares))
