"""What is measured on a trained model: features, ELBO, log-likelihood, active units."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from ssl_vae.classifiers import confidence
from ssl_vae.models import Model, Params, active_units
from ssl_vae.splits import Split, first_measured

EVALUATION_BATCH = 2_000  # bounds memory: hidden layers of this many images at a time


@partial(jax.jit, static_argnums=0)
def map_images(function: Callable[..., Any], params: Params, *arrays: Any) -> Any:
    """`function` of a batch over any number of images, a few thousand at a time.

    It is compiled once for all calls with one function, such as a method of one model.

    Args:
      function: `function(params, *arrays)`, from arrays [batch, ...] to arrays
        [batch, ...], row by row.
      params: Its first argument.
      *arrays: The others, arrays [N, ...] or trees of them.

    Returns:
      What it returns, [N, ...] each.
    """

    def one(row: Any) -> Any:
        batch = jax.tree.map(lambda a: a[None], row)
        return jax.tree.map(lambda a: a[0], function(params, *batch))

    def some(start: Any, size: int) -> Any:
        rows = partial(jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=size)
        return jax.vmap(one)(jax.tree.map(rows, arrays))

    # `jax.lax.map(..., batch_size=...)` copies all images if the last batch is smaller.
    whole, rest = divmod(len(jax.tree.leaves(arrays)[0]), EVALUATION_BATCH)
    if not whole:
        return some(0, rest)
    done = jax.lax.map(
        lambda i: some(i * EVALUATION_BATCH, EVALUATION_BATCH), jnp.arange(whole)
    )
    done = jax.tree.map(lambda a: jax.lax.collapse(a, 0, 2), done)
    if not rest:
        return done
    last = some(whole * EVALUATION_BATCH, rest)
    return jax.tree.map(lambda *each: jnp.concatenate(each), done, last)


@partial(jax.jit, static_argnums=0)
def elbos(elbo_fn: Callable[..., Any], params: Params, x: Any, keys: Any) -> jax.Array:
    """The ELBO of images x, [N], nats; one draw of the latents, and a key, per image.

    Args:
      elbo_fn: `elbo_fn(params, images, key=key)` -> `ElboTerms`.
      params: Its first argument.
      x: Images, [N, ...].
      keys: [N], consumed.
    """

    def of_batch(params: Params, x: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.asarray(elbo_fn(params, x, key=key[0]).elbo)

    return jnp.asarray(map_images(of_batch, params, x, keys))


@partial(jax.jit, static_argnums=(0, 1))
def log_likelihoods(
    log_weight_fn: Callable[..., jax.Array],
    num_samples: int,
    params: Params,
    x: jax.Array,
    keys: jax.Array,
) -> jax.Array:
    """The log-likelihood of images x by importance sampling, [N], nats.

    The log of the mean over samples of exp(log_weight): on average at most the
    log-likelihood, at least the ELBO, and closer with more samples.

    Args:
      log_weight_fn: `log_weight_fn(params, images, key=key)` -> log p(x, latents) -
        log q(latents|x) at one draw of the latents, [batch].
      num_samples: Draws per image.
      params: Its first argument.
      x: Images, [N, ...].
      keys: [N], consumed.

    Source: Burda et al. 2016, arXiv:1509.00519, eq. 8.
    """

    def of_batch(params: Params, x: jax.Array, key: jax.Array) -> jax.Array:
        def add(total: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
            return jnp.logaddexp(total, log_weight_fn(params, x, key=k)), None

        nothing = jnp.full([len(x)], -jnp.inf)
        total, _ = jax.lax.scan(add, nothing, jax.random.split(key[0], num_samples))
        return total - jnp.log(num_samples)

    return jnp.asarray(map_images(of_batch, params, x, keys))


class Judged(NamedTuple):
    """What the classifiers of some label splits are worth, and what they say."""

    accuracy: dict[int, float]  # of each split, by its seed; in [0, 1]
    calibration: list[dict[str, float]]  # of each, see `confidence.figures`
    probs: np.ndarray  # [M, K], of an image by the first split measured on it


def judged(
    splits: Sequence[Split],
    scores: Sequence[np.ndarray],
    labels: np.ndarray,
    *,
    temperatures: Sequence[float] | None = None,
) -> Judged:
    """Accuracy and calibration of one classifier a label split.

    Args:
      splits: That together are measured on all test images.
      scores: Of each split, of the images it is measured on, [n, K]; the highest is the
        answer, and the softmax over the temperature the probabilities.
      labels: Of all test images, int [M].
      temperatures: One a split; 1 where none are given.
    """
    accuracy, calibration, probs = {}, [], []
    for split, mine, temperature in zip(
        splits, scores, temperatures or [1.0] * len(splits), strict=True
    ):
        truth = labels[split.measured]
        accuracy[split.seed] = float(np.mean(mine.argmax(axis=1) == truth))
        calibration.append(confidence.figures(mine, truth, temperature))
        probs.append(confidence.class_probs(mine, temperature))
    return Judged(accuracy, calibration, first_measured(splits, probs, len(labels)))


class ClassUse(NamedTuple):
    """How q(y|x) uses the classes on unlabeled images."""

    entropy: float  # mean over images of the entropy of q(y|x), nats, 0 to log K
    class_histogram: list[float]  # share of the images whose likeliest class it is
    collapsed: bool


def class_use(class_logits: np.ndarray, shares: np.ndarray) -> ClassUse:
    """Whether a classifier tells classes apart, or has collapsed.

    It has collapsed when its likeliest classes are fewer than half of those there are,
    either counted as exp(entropy of their shares), or when q(y|x) hardly depends on x:
    the information between the two, entropy(mean of q) - mean of entropy(q), is below
    a tenth of the entropy of the classes.

    Args:
      class_logits: Of unlabeled images, [N, K].
      shares: Of the classes among the labeled ones, [K], which sum to 1.
    """
    log_probs = np.asarray(jax.nn.log_softmax(class_logits), np.float64)
    probs = np.exp(log_probs)
    num_classes = probs.shape[1]
    entropy = float(-np.mean(np.sum(probs * log_probs, axis=1)))
    information = _entropy(probs.mean(axis=0)) - entropy
    counts = np.bincount(np.argmax(probs, axis=1), minlength=num_classes)
    used, there_are = _entropy(counts / len(probs)), _entropy(shares)
    return ClassUse(
        entropy,
        (counts / len(probs)).tolist(),
        bool(used < there_are - np.log(2) or information < 0.1 * there_are),
    )


def _entropy(probs: np.ndarray) -> float:
    """Of a distribution, nats."""
    return float(np.sum(scipy.special.entr(probs)))


def vae_figures(
    model: Model,
    params: Params,
    images: jax.Array,
    *,
    key: jax.Array,
    num_samples: int,
) -> tuple[dict[str, Any], np.ndarray]:
    """Figures of a trained model for results.json, and its features of test images.

    Args:
      model: Any of `models`.
      params: Its weights.
      images: Test images, [M, pixels] in [0, 1].
      key: Consumed.
      num_samples: Of `log_likelihoods`.
    """
    keys_elbo, keys_weights = (
        jax.random.split(k, len(images)) for k in jax.random.split(key)
    )
    features = np.asarray(map_images(model.features, params, images))
    log_likelihood = log_likelihoods(
        model.log_weight, num_samples, params, images, keys_weights
    )
    figures = {
        "latent_dim": model.latent_dim,
        "active_units": len(active_units(features)),
        "test_elbo": float(jnp.mean(elbos(model.elbo, params, images, keys_elbo))),
        "test_log_likelihood": float(jnp.mean(log_likelihood)),
        "importance_samples": num_samples,
    }
    return figures, features
