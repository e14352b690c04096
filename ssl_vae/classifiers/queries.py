"""Which unlabeled images to label next."""

import numpy as np
from sklearn.cluster import KMeans

CANDIDATES = 10  # so many times as many as are asked for are looked at closely


def most_useful(log_probs: np.ndarray, features: np.ndarray, num: int) -> np.ndarray:
    """Images whose labels would help a classifier most: unsure, and unlike each other.

    An image counts by how close its two likeliest classes are. The most unsure are
    clustered by their features, weighted by that, and of each cluster the image nearest
    to its center is taken: near-copies of one doubtful image teach little.

    Args:
      log_probs: float [N, K], what the classifier thinks of the unlabeled images. Logs,
        since one that is sure of itself has probabilities that are 1 to all digits.
      features: float [N, dim], of the same images.
      num: How many are wanted; all if there are not as many.

    Returns:
      int [num], indices, the most unsure first.

    Source: Zhdanov 2019, "Diverse mini-batch active learning", arXiv:1901.05954.
    """
    two = np.sort(log_probs, axis=1)[:, -2:]
    sure = two[:, 1] - two[:, 0]
    candidates = np.argsort(sure, kind="stable")[: CANDIDATES * num]
    if len(candidates) <= num:
        return candidates
    clusters = KMeans(num, n_init=1, random_state=0).fit(
        features[candidates], sample_weight=np.exp(-sure[candidates]) + 1e-6
    )
    distance = clusters.transform(features[candidates])
    taken: list[int] = []
    for column in distance.T:  # one image each, also where clusters coincide
        order = np.argsort(column, kind="stable")
        taken.append(next(int(i) for i in order if int(i) not in taken))
    chosen = candidates[taken]
    return chosen[np.argsort(sure[chosen], kind="stable")]
