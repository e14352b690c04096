"""Densities and divergences of the model, per example and in nats.

Arrays are float32 with the event on the last axis; every function sums that axis away
and leaves the batch axes alone. The caller averages.
"""

import math

import jax
import jax.numpy as jnp


def softplus(x: jax.Array) -> jax.Array:
    """The function log(1 + exp(x)), elementwise, to an absolute 2e-7 * (1 + |x|)."""
    # A tenth of a training step goes to this function. `jax.nn.softplus` also guards
    # infinities and small values that no layer can tell from 0. (x + |x|) / 2 is the
    # positive part with the slope 1/2 at 0, which `maximum` would not have.
    magnitude = jnp.abs(x)
    return 0.5 * (x + magnitude) + jnp.log(1 + jnp.exp(-magnitude))


def bernoulli_log_prob(logits: jax.Array, x: jax.Array) -> jax.Array:
    """Log-probability of independent Bernoulli pixels, summed over the last axis.

    This is minus the binary cross-entropy. For `x` in {0, 1} it is a log probability;
    for gray values in between it is the usual surrogate, not a normalized density.

    Args:
      logits: Log odds of a pixel being 1, shape [..., pixels], any finite value.
      x: Pixels in [0, 1], shape [..., pixels].

    Returns:
      Nats, shape [...], at most 0.
    """
    # x log s(l) + (1 - x) log(1 - s(l)) with s the sigmoid, free of log(0).
    return jnp.sum(x * logits - softplus(logits), axis=-1)


def gaussian_log_prob(x: jax.Array, mean: jax.Array, logvar: jax.Array) -> jax.Array:
    """Log density of N(mean, diag(exp(logvar))) at x, summed over the last axis.

    Args:
      x: Shape [..., dim].
      mean: Shape [..., dim].
      logvar: Log variance, shape [..., dim].

    Returns:
      Nats, shape [...].
    """
    distance = jnp.square(x - mean) * jnp.exp(-logvar)
    return -0.5 * jnp.sum(distance + logvar + math.log(2 * math.pi), axis=-1)


def standard_normal_log_prob(z: jax.Array) -> jax.Array:
    """Log density of N(0, I) at z [..., dim], nats, shape [...]."""
    return gaussian_log_prob(z, jnp.zeros_like(z), jnp.zeros_like(z))


def gaussian_kl(mean: jax.Array, logvar: jax.Array) -> jax.Array:
    """KL(N(mean, diag(exp(logvar))) || N(0, I)), summed over the last axis.

    Args:
      mean: Shape [..., dim].
      logvar: Log variance (not the log standard deviation), shape [..., dim].

    Returns:
      Nats, shape [...], at least 0.

    Source: Kingma and Welling 2014, arXiv:1312.6114, appendix B.
    """
    return 0.5 * jnp.sum(jnp.square(mean) + jnp.exp(logvar) - logvar - 1.0, axis=-1)


def gaussian_sample(key: jax.Array, mean: jax.Array, logvar: jax.Array) -> jax.Array:
    """A reparameterized draw from N(mean, diag(exp(logvar))): mean + std * noise.

    Args:
      key: Consumed.
      mean: Shape [..., dim].
      logvar: Log variance, shape [..., dim].

    Returns:
      Shape [..., dim], differentiable in `mean` and `logvar`.
    """
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    return mean + jnp.exp(0.5 * logvar) * noise


def categorical_entropy(logits: jax.Array) -> jax.Array:
    """Entropy of the categorical distribution softmax(logits) over the last axis.

    Args:
      logits: Shape [..., K], any finite values.

    Returns:
      Nats, shape [...], from 0 to log K.
    """
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
