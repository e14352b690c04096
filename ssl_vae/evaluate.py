"""What is measured on a trained model: features, ELBO, active units, error bars."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

EVALUATION_BATCH = 2_000  # bounds memory: hidden layers of this many images at a time
ACTIVE_VARIANCE = 0.01


class Summary(NamedTuple):
    """Mean and sample standard deviation (n - 1 below the line) over label splits."""

    mean: float
    std: float


def summarize(values: Sequence[float]) -> Summary:
    """Mean and standard deviation of at least one value; one value has deviation 0."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return Summary(float(np.mean(values)), spread)


def map_images(function: Callable[..., Any], *arrays: jax.Array) -> Any:
    """`function` of a batch over any number of images, a few thousand at a time.

    Args:
      function: From arrays [batch, ...] to arrays [batch, ...], row by row.
      *arrays: What it takes, [N, ...] each.

    Returns:
      What it returns, [N, ...] each.
    """

    def one(row: tuple[jax.Array, ...]) -> Any:
        return jax.tree.map(lambda a: a[0], function(*(a[None] for a in row)))

    mapped = partial(jax.lax.map, one, batch_size=EVALUATION_BATCH)
    return jax.jit(mapped)(arrays)


def mean_elbo(
    elbo_fn: Callable[..., jax.Array], images: jax.Array, *, key: jax.Array
) -> float:
    """The ELBO averaged over images, nats; one draw of z per image.

    Args:
      elbo_fn: `elbo_fn(images, key=key)` -> ELBO per image, [batch].
      images: [N, ...].
      key: Consumed; split into one key per image.
    """
    keys = jax.random.split(key, len(images))
    values = map_images(lambda x, k: elbo_fn(x, key=k[0]), images, keys)
    return float(jnp.mean(values))


def active_units(features: np.ndarray) -> int:
    """How many latent units carry information about the image.

    A unit is active when its posterior mean varies over images with a variance above
    0.01; a collapsed unit says the same for every image.

    Args:
      features: Posterior means, float [N, latent].

    Source: Burda et al. 2016, arXiv:1509.00519, section 5.2.
    """
    return int(np.sum(np.var(features, axis=0) > ACTIVE_VARIANCE))
