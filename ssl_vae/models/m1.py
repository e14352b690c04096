"""M1: a variational autoencoder whose posterior mean is the feature vector.

    p(z) = N(0, I)   p(x|z) = Bernoulli(decoder(z))   q(z|x) = N(mean(x), diag(var(x)))

Source: Kingma et al. 2014, "Semi-supervised learning with deep generative models",
arXiv:1406.5298, section 2.1 and eq. 1. Differs from the authors' code: gray pixels are
used as they are instead of being drawn as Bernoulli at every step, and the weights have
no Gaussian prior.

With a `gradient_weight` the encoder is also given the oriented gradients of the image,
and a second part of the decoder has to tell them from z. It keeps in z what pixels
count for little: where edges run. The ELBO stays that of the pixels.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_vae import distributions
from ssl_vae.copies import apply
from ssl_vae.gradients import num_gradients, oriented_gradients
from ssl_vae.networks import Decoder, Encoder

Params = dict[str, Any]

ACTIVE_VARIANCE = 0.01


def active_units(features: np.ndarray) -> np.ndarray:
    """Indices of the latent units that carry information about the image, ascending.

    A unit is active when its posterior mean varies over images with a variance above
    0.01; a collapsed unit says nearly the same for every image.

    Args:
      features: Posterior means, float [N, latent].

    Source: Burda et al. 2016, arXiv:1509.00519, section 5.2; the authors of M1+M2 have
    the same rule, as a standard deviation.
    """
    return np.flatnonzero(np.var(features, axis=0) > ACTIVE_VARIANCE)


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
      image_shape: (H, W, C).
      latent_dim: Length of z.
      hidden: Widths of the encoder's hidden layers; the decoder mirrors them.
      kl_weight: Factor of the KL term in the loss (not in the ELBO); below 1 it keeps
        more latent units active.
      gradient_weight: Factor, in the loss, of the negative log-likelihood of the
        image's oriented gradients; at 0 the model does not know of them.
      dtype: Of the matrix products in training, "float32" or "bfloat16". Parameters,
        sums and everything that is asked of a trained model stay float32.
      warmup_steps: For so many steps at first the factor of the KL term in the loss
        rises evenly from 0 to `kl_weight`. A decoder that has learned nothing yet has
        no use for z, so from the start on the KL term alone would be heard, and units
        that it silences then do not come back.
        Source: Sonderby et al. 2016, arXiv:1602.02282.
    """

    image_shape: tuple[int, ...]
    latent_dim: int = 10
    hidden: tuple[int, ...] = (600, 600)
    kl_weight: float = 1.0
    gradient_weight: float = 0.0
    dtype: str = "float32"
    warmup_steps: int = 0

    @property
    def pixels(self) -> int:
        """Length of a flattened image."""
        return math.prod(self.image_shape)

    @property
    def view_dim(self) -> int:
        """Length of what the encoder is given, see `view`."""
        extra = num_gradients(self.image_shape) if self.gradient_weight else 0
        return self.pixels + extra

    @property
    def encoder(self) -> Encoder:
        """The network of q(z|x)."""
        return Encoder(self.hidden, self.latent_dim)

    @property
    def decoder(self) -> Decoder:
        """The network of p(x|z), and of the gradients."""
        return Decoder(self.hidden[::-1], self.view_dim)

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters, {"encoder": ..., "decoder": ...}."""
        key_encoder, key_decoder = jax.random.split(key)
        view, z = jnp.zeros([1, self.view_dim]), jnp.zeros([1, self.latent_dim])
        return {
            "encoder": self.encoder.init(key_encoder, view)["params"],
            "decoder": self.decoder.init(key_decoder, z)["params"],
        }

    def view(self, x: jax.Array) -> jax.Array:
        """What `loss` takes in place of images x: [batch, view_dim], in [0, 1].

        The pixels, and behind them the gradients where the model knows of them.
        """
        if not self.gradient_weight:
            return x
        return jnp.concatenate([x, oriented_gradients(x, self.image_shape)], axis=1)

    def encode(self, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log variance of q(z|x), [batch, latent]; x is [batch, pixels]."""
        return self._posterior(params, self.view(x))

    def decode(self, params: Params, z: jax.Array) -> jax.Array:
        """Logits of p(x|z), [batch, pixels], of z [batch, latent]."""
        return self._view_logits(params, z)[..., : self.pixels]

    def elbo(self, params: Params, x: jax.Array, *, key: jax.Array) -> ElboTerms:
        """Terms of the evidence lower bound on log p(x), with one draw of z per image.

        Args:
          params: As returned by `init`.
          x: Pixels in [0, 1], [batch, pixels].
          key: Consumed by the draw of z.

        Returns:
          Two terms of shape [batch], nats.
        """
        return self._terms(params, self.view(x), key)[0]

    def loss(
        self, params: Params, view: jax.Array, *, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What training minimizes: the batch mean of kl_weight * KL - log-likelihood.

        During `warmup_steps` with a part of kl_weight. Where the model knows of
        gradients, less gradient_weight times the log-likelihood of those.

        Args:
          params: As returned by `init`, or `Copies` of them.
          view: Of the images, [batch, view_dim], see `view`.
          key: Consumed by the draw of z.
          step: Optimizer steps done; `warmup_steps` tells what it changes.

        Returns:
          The loss, a scalar in nats per image, and its parts by name for the log.
        """
        terms, of_gradients = self._terms(params, view, key, self.dtype)
        log_likelihood, kl = jnp.mean(terms.log_likelihood), jnp.mean(terms.kl)
        kl_weight = self.kl_weight * self._warmth(step)
        loss = kl_weight * kl - log_likelihood
        metrics = {"log_likelihood": log_likelihood, "kl": kl}
        if self.gradient_weight:
            metrics["gradients"] = jnp.mean(of_gradients)
            loss -= self.gradient_weight * metrics["gradients"]
        return loss, {"loss": loss} | metrics

    def _warmth(self, step: jax.Array) -> jax.Array | float:
        """How much of its weight the KL term has at a step, from 0 to 1."""
        if not self.warmup_steps:
            return 1.0
        return jnp.minimum(step.astype(jnp.float32) / self.warmup_steps, 1.0)

    def _posterior(
        self, params: Params, view: jax.Array, dtype: str = "float32"
    ) -> tuple[jax.Array, jax.Array]:
        encoder = self.encoder.clone(dtype=dtype)
        posterior: Any = apply(encoder, params["encoder"], view)
        return posterior

    def _view_logits(
        self, params: Params, z: jax.Array, dtype: str = "float32"
    ) -> jax.Array:
        decoder = self.decoder.clone(dtype=dtype)
        return jnp.asarray(apply(decoder, params["decoder"], z))

    def _terms(
        self, params: Params, view: jax.Array, key: jax.Array, dtype: str = "float32"
    ) -> tuple[ElboTerms, jax.Array]:
        """The bound's terms and the gradients' log-likelihood, [batch] each, nats."""
        # q(z|x) = N(mean, diag(exp(logvar)))
        mean, logvar = self._posterior(params, view, dtype)
        z = distributions.gaussian_sample(key, mean, logvar)
        # p(x|z) = Bernoulli(sigmoid(logits)), and the gradients likewise
        logits, pixels = self._view_logits(params, z, dtype), self.pixels
        log_prob = distributions.bernoulli_log_prob
        terms = ElboTerms(
            log_likelihood=log_prob(logits[:, :pixels], view[:, :pixels]),
            kl=distributions.gaussian_kl(mean, logvar),
        )
        return terms, log_prob(logits[:, pixels:], view[:, pixels:])

    def log_weight(self, params: Params, x: jax.Array, *, key: jax.Array) -> jax.Array:
        """Log p(x, z) - log q(z|x) at one draw of z from q(z|x), [batch], nats.

        The mean of its exponential over draws is p(x): see `evaluate.log_likelihoods`.
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
