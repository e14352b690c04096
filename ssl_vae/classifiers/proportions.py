"""What unlabeled images tell a classifier by how many of them there are of each class.

With few labels a classifier gives some classes far too many images. Where the shares of
the classes are known, as they are when the labeled images were drawn at random or in
equal numbers from balanced classes, that can be set right without a label.
"""

import numpy as np
import scipy.special


def aligning_bias(log_probs: np.ndarray, proportions: np.ndarray) -> np.ndarray:
    """What to add to log probabilities for their mean to be the given proportions: [K].

    The mean over images of softmax(log_probs + bias) is `proportions` then. It is the
    minimum of a convex function, whose gradient is the difference between the two.

    Args:
      log_probs: float [N, K], of images that stand for all.
      proportions: float [K], above 0, sum to 1.

    Source: Saerens et al. 2002, "Adjusting the outputs of a classifier to new a priori
    probabilities", Neural Computation 14; there the proportions are sought, here given.
    """
    import scipy.optimize  # late: half a second

    def convex(bias: np.ndarray) -> tuple[float, np.ndarray]:
        moved = log_probs + bias
        value = np.mean(scipy.special.logsumexp(moved, axis=1)) - proportions @ bias
        return float(value), scipy.special.softmax(moved, axis=1).mean(0) - proportions

    found = scipy.optimize.minimize(convex, np.zeros(len(proportions)), jac=True)
    return np.asarray(found.x - found.x.mean())


def aligned(log_probs: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Log probabilities of a bias of `aligning_bias`, [N, K]: log_softmax."""
    return np.asarray(scipy.special.log_softmax(log_probs + bias, axis=1))
