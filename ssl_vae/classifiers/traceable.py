"""A calibrated SVM as a pure function of arrays, for what cannot run scikit-learn."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.classifiers.confidence import STEEPNESS
from ssl_vae.classifiers.graph import LEAST_DISTANCE, SAME
from ssl_vae.classifiers.smoothed import LEAST_PROB


def arrays_of(classifier: CalibratedSVM) -> dict[str, np.ndarray]:
    """What `log_probs` needs to know of an SVM, float32, by name.

    Returns:
      Of S support vectors, K classes and Q = K (K - 1) pairs, each of them both ways:
      "shift" and "scale" of the features, [dim]; "support_vectors" [S, dim]; "gamma",
      a scalar; "coefs" [S, Q] and "intercepts" [Q], times the steepness; "votes"
      [Q, K], which sums the pairs of a class and divides by the temperature; "bias"
      [K].
    """
    svc = classifier.pipeline[-1]
    shift, scale = np.zeros(svc.n_features_in_), np.ones(svc.n_features_in_)
    if len(classifier.pipeline) > 1:
        shift, scale = classifier.pipeline[0].mean_, classifier.pipeline[0].scale_
    # Distances stay the same when all points move, and float32 keeps more of their
    # digits about 0.
    center = svc.support_vectors_.mean(axis=0)
    coefs, votes = _of_pairs(svc)
    arrays = {
        "shift": shift + scale * center,
        "scale": scale,
        "support_vectors": svc.support_vectors_ - center,
        "gamma": svc._gamma,  # as a number; `svc.gamma` may be the word "scale"
        "coefs": STEEPNESS * np.hstack([coefs[:-1], -coefs[:-1]]),
        "intercepts": STEEPNESS * np.hstack([coefs[-1], -coefs[-1]]),
        "votes": votes / classifier.temperature,
        "bias": classifier.bias,
    }
    return {name: np.asarray(a, np.float32) for name, a in arrays.items()}


def _of_pairs(svc: Any) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and, last, the intercept of each pair, [S + 1, Q / 2]; and votes.

    `dual_coef_` has K - 1 rows: a support vector's coefficients against the classes
    other than its own, in their order.
    """
    num_classes, num_vectors = len(svc.classes_), len(svc.support_vectors_)
    own = np.repeat(np.arange(num_classes), svc.n_support_)
    pairs = list(itertools.combinations(range(num_classes), 2))
    coefs, votes = np.zeros([num_vectors + 1, len(pairs)]), np.eye(num_classes)
    for column, (first, second) in enumerate(pairs):
        for mine, row in ((own == first, second - 1), (own == second, first)):
            coefs[:-1][mine, column] = svc.dual_coef_[row, mine]
    coefs[-1] = svc.intercept_
    # Of two classes scikit-learn turns the sign: above 0 is the second.
    sign = -1 if num_classes == 2 else 1
    firsts, seconds = zip(*pairs, strict=True)
    return sign * coefs, votes[[*firsts, *seconds]]


def log_probs(arrays: dict[str, Any], features: jax.Array) -> jax.Array:
    """Log probabilities of the classes, float32 [N, K]; see `CalibratedSVM.log_probs`.

    Args:
      arrays: Of `arrays_of`.
      features: float32 [N, dim].
    """
    arrays = {name: jnp.asarray(array) for name, array in arrays.items()}
    x = (features - arrays["shift"][None]) / arrays["scale"][None]
    kernel = _rbf(x, arrays["support_vectors"], arrays["gamma"])
    values = kernel @ arrays["coefs"] + arrays["intercepts"][None]
    scores = jax.nn.log_sigmoid(values) @ arrays["votes"]
    return jax.nn.log_softmax(scores + arrays["bias"][None])


def _rbf(x: jax.Array, y: jax.Array, gamma: jax.Array) -> jax.Array:
    """exp(-gamma |x - y|^2) of all rows x [N, dim] and y [S, dim]: [N, S]."""
    return jnp.exp(-gamma * _squares(x, y))


def _squares(x: jax.Array, y: jax.Array) -> jax.Array:
    """|x - y|^2 of all rows x [N, dim] and y [S, dim]: [N, S]."""
    squares = jnp.sum(x**2, axis=1)[:, None] + jnp.sum(y**2, axis=1)[None]
    return jnp.maximum(squares - 2 * x @ y.T, 0)


def smoothed(
    log_probs: jax.Array,
    features: jax.Array,
    graph: dict[str, np.ndarray],
    *,
    num_neighbors: int,
    strength: float,
) -> jax.Array:
    """What `SmoothedSVM.log_probs` makes of its SVM's, float32 [N, K].

    Args:
      log_probs: What the SVM says, [N, K].
      features: Of the same images, float32 [N, dim].
      graph: Features of its vertices, "vertices", float32 [V, dim], and what was found
        of them, "values", [V, K].
      num_neighbors: Of each image.
      strength: Of the smoothing.
    """
    vertices, values = (jnp.asarray(graph[name]) for name in ("vertices", "values"))
    center = vertices.mean(axis=0)[None]  # float32 keeps more digits about 0
    vertices, x = vertices - center, features - center
    _, rows = jax.lax.top_k(-_squares(x, vertices), num_neighbors + 1)
    # Anew, now that they are few: the products above have lost digits.
    squares = jnp.sum((x[:, None] - _rows(vertices, rows)) ** 2, axis=2)
    on_vertex = squares[:, :1] < SAME**2 * squares[:, -1:]
    squares = jnp.where(on_vertex, squares[:, 1:], squares[:, :-1])
    rows = jnp.where(on_vertex, rows[:, 1:], rows[:, :-1])
    weights = jnp.exp(-4 * squares / jnp.maximum(squares[:, -1:], LEAST_DISTANCE**2))
    weights = weights / jnp.sum(weights, axis=1)[:, None]
    near = jnp.sum(weights[:, :, None] * _rows(values, rows), axis=1)
    both = (jnp.exp(log_probs) + strength * near) / (1 + strength)
    return jnp.log(jnp.maximum(both, LEAST_PROB))


def _rows(array: jax.Array, rows: jax.Array) -> jax.Array:
    """array[rows], [*rows.shape, width], of an array [V, width]."""
    return array.at[rows].get(mode="promise_in_bounds")


def together(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """The traceable `confidence.together`: log of the normalized geometric mean."""
    # What `log_softmax` would take off either comes off the mean.
    return jax.nn.log_softmax((teacher + student) / 2)
