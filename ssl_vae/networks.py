"""Encoder and decoder networks in Flax linen: deterministic, no key, no loss."""

from collections.abc import Sequence

import jax
from flax import linen as nn

from ssl_vae.distributions import softplus


class MLP(nn.Module):
    """Fully connected hidden layers with softplus: [..., in] -> [..., hidden[-1]]."""

    hidden: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Activations of the last hidden layer, at least 0."""
        for width in self.hidden:
            x = softplus(nn.Dense(width)(x))
        return x


class Encoder(nn.Module):
    """Image to Gaussian posterior: [..., pixels] -> mean and logvar, [..., latent]."""

    hidden: Sequence[int]
    latent_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Posterior mean and log variance; both heads are linear, so unbounded."""
        h = MLP(self.hidden)(x)
        mean = nn.Dense(self.latent_dim, name="mean")(h)
        logvar = nn.Dense(self.latent_dim, name="logvar")(h)
        return mean, logvar


class Decoder(nn.Module):
    """Latent to image: [..., latent] -> Bernoulli logits, [..., pixels]."""

    hidden: Sequence[int]
    pixels: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Log odds per pixel, before the sigmoid."""
        return nn.Dense(self.pixels, name="logits")(MLP(self.hidden)(z))
