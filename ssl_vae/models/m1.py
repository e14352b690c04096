"""M1: a variational autoencoder whose posterior mean is the feature vector.

    p(z) = N(0, I)   p(x|z) = Bernoulli(decoder(z))   q(z|x) = N(mean(x), diag(var(x)))

Source: Kingma et al. 2014, "Semi-supervised learning with deep generative models",
arXiv:1406.5298, section 2.1 and eq. 1. Differs from the authors' code: gray pixels are
used as they are instead of being drawn as Bernoulli at every step, and the weights have
no Gaussian prior.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssl_vae import distributions
from ssl_vae.networks import Decoder, Encoder

Params = dict[str, Any]


class ElboTerms(NamedTuple):
    """The two parts of the evidence lower bound, nats, one value per image."""

    log_likelihood: jax.Array  # E_q[log p(x|z)], one draw of z, [batch], <= 0
    kl: jax.Array  # KL(q(z|x) || p(z)), [batch], >= 0

    @property
    def elbo(self) -> jax.Array:
        """Lower bound on log p(x), [batch], nats; higher is better."""
        return self.log_likelihood - self.kl


@dataclass(frozen=True)
class M1:
    """The model's hyper-parameters; its methods are pure functions of `params`.

    It learns no labels: one training serves every choice of the labeled images.

    Attributes:
      pixels: Length of a flattened image.
      latent_dim: Length of z.
      hidden: Widths of the encoder's hidden layers; the decoder mirrors them.
      kl_weight: Factor of the KL term in the loss (not in the ELBO); below 1 it keeps
        more latent units active.
    """

    pixels: int
    latent_dim: int = 10
    hidden: tuple[int, ...] = (600, 600)
    kl_weight: float = 1.0

    @property
    def encoder(self) -> Encoder:
        """The network of q(z|x)."""
        return Encoder(self.hidden, self.latent_dim)

    @property
    def decoder(self) -> Decoder:
        """The network of p(x|z)."""
        return Decoder(self.hidden[::-1], self.pixels)

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters, {"encoder": ..., "decoder": ...}."""
        key_encoder, key_decoder = jax.random.split(key)
        x, z = jnp.zeros([1, self.pixels]), jnp.zeros([1, self.latent_dim])
        return {
            "encoder": self.encoder.init(key_encoder, x)["params"],
            "decoder": self.decoder.init(key_decoder, z)["params"],
        }

    def encode(self, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log variance of q(z|x), [batch, latent]; x is [batch, pixels]."""
        posterior: Any = self.encoder.apply({"params": params["encoder"]}, x)
        return posterior

    def decode(self, params: Params, z: jax.Array) -> jax.Array:
        """Logits of p(x|z), [batch, pixels], of z [batch, latent]."""
        return jnp.asarray(self.decoder.apply({"params": params["decoder"]}, z))

    def elbo(self, params: Params, x: jax.Array, *, key: jax.Array) -> ElboTerms:
        """Terms of the evidence lower bound on log p(x), with one draw of z per image.

        Args:
          params: As returned by `init`.
          x: Pixels in [0, 1], [batch, pixels].
          key: Consumed by the draw of z.

        Returns:
          Two terms of shape [batch], nats.
        """
        # q(z|x) = N(mean, diag(exp(logvar)))
        mean, logvar = self.encode(params, x)
        z = distributions.gaussian_sample(key, mean, logvar)
        # p(x|z) = Bernoulli(sigmoid(logits))
        logits = self.decode(params, z)
        return ElboTerms(
            log_likelihood=distributions.bernoulli_log_prob(logits, x),
            kl=distributions.gaussian_kl(mean, logvar),
        )

    def loss(
        self, params: Params, x: jax.Array, *, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What training minimizes: the batch mean of kl_weight * KL - log-likelihood.

        Args:
          params: As returned by `init`.
          x: Pixels in [0, 1], [batch, pixels].
          key: Consumed by the draw of z.
          step: Optimizer steps done; the loss is the same at all.

        Returns:
          The loss, a scalar in nats per image, and its parts by name for the log.
        """
        del step
        terms = self.elbo(params, x, key=key)
        log_likelihood, kl = jnp.mean(terms.log_likelihood), jnp.mean(terms.kl)
        loss = self.kl_weight * kl - log_likelihood
        return loss, {"loss": loss, "log_likelihood": log_likelihood, "kl": kl}

    def log_weight(self, params: Params, x: jax.Array, *, key: jax.Array) -> jax.Array:
        """Log p(x, z) - log q(z|x) at one draw of z from q(z|x), [batch], nats.

        The mean of its exponential over draws is p(x): see `evaluate.log_likelihood`.
        """
        mean, logvar = self.encode(params, x)
        z = distributions.gaussian_sample(key, mean, logvar)
        return (
            distributions.bernoulli_log_prob(self.decode(params, z), x)
            + distributions.standard_normal_log_prob(z)
            - distributions.gaussian_log_prob(z, mean, logvar)
        )

    def features(self, params: Params, x: jax.Array) -> jax.Array:
        """Posterior means, [batch, latent]: the deterministic features of images x."""
        return self.encode(params, x)[0]

    def reconstruct(self, params: Params, x: jax.Array) -> jax.Array:
        """Images from the posterior means of x: probs, [batch, pixels]."""
        return jax.nn.sigmoid(self.decode(params, self.features(params, x)))
