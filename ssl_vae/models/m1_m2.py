"""M1+M2: the generative model M2 of the latent variable of a trained M1.

    p(x, z1, z2, y) = p(y) p(z2) p(z1|y,z2) p(x|z1)
    q(z1, z2, y|x) = q(z1|x) q(y|z1) q(z2|z1,y)

M1 is trained first and stays as it is. Its p(z1) = N(0, I) gives way to the density
that M2 finds, with p(z1|y,z2) a diagonal Gaussian; units of z1 that say hardly anything
about the image keep N(0, I).

Source: Kingma et al. 2014, "Semi-supervised learning with deep generative models",
arXiv:1406.5298, section 2.3. Differs from the authors' code: as M1 and M2 do, and the
units of z1 are chosen on all training images (theirs: on 1000 unlabeled ones).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ssl_vae import distributions
from ssl_vae.models.m1 import M1, ElboTerms, Params
from ssl_vae.models.m2 import M2

Code = tuple[jax.Array, jax.Array]  # mean and log variance of q(z1|x), kept units only


@dataclass(frozen=True, eq=False)
class M1M2:
    """M2 on top of an M1; its methods are pure functions of M2's `params`.

    Attributes:
      m1: The first model.
      m1_params: Its trained parameters.
      kept: Indices of the units of z1 that M2 is about, at least one; as in the
        authors' code the active ones.
      m2: The second model, of x = z1[kept].
    """

    m1: M1
    m1_params: Params
    kept: np.ndarray
    m2: M2

    @property
    def latent_dim(self) -> int:
        """Length of z2."""
        return self.m2.latent_dim

    @property
    def num_classes(self) -> int:
        """K."""
        return self.m2.num_classes

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters of M2."""
        return self.m2.init(key)

    def code(self, x: jax.Array) -> Code:
        """What `loss` takes in place of images x, [batch, pixels]."""
        mean, logvar = self.m1.encode(self.m1_params, x)
        return mean[:, self.kept], logvar[:, self.kept]

    def loss(
        self,
        params: Params,
        code: Code,
        labeled: tuple[Code, jax.Array],
        *,
        key: jax.Array,
        step: jax.Array,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """M2's loss on fresh draws of z1, see `M2.loss`.

        Args:
          params: As returned by `init`, or `Copies` of them.
          code: Of unlabeled images, two arrays [batch, kept].
          labeled: Code [labeled_batch, kept] of images, and their classes, int32.
          key: Consumed by the draws of z1 and z2.
          step: int32 scalar, optimizer steps done.

        Returns:
          The loss, a scalar in nats per image, and its parts by name for the log.
        """
        key_unlabeled, key_labeled, key_m2 = jax.random.split(key, 3)
        code_labeled, classes = labeled
        z1 = distributions.gaussian_sample(key_unlabeled, *code)
        z1_labeled = distributions.gaussian_sample(key_labeled, *code_labeled)
        return self.m2.loss(params, z1, (z1_labeled, classes), key=key_m2, step=step)

    def class_logits(self, params: Params, code: Code) -> jax.Array:
        """Logits of q(y|z1) at the mean of z1, [batch, K]."""
        return self.m2.class_logits(params, code[0])

    def elbo(self, params: Params, x: jax.Array, *, key: jax.Array) -> ElboTerms:
        """Terms of the bound on log p(x), with one draw of z1 per image.

        Args:
          params: As returned by `init`.
          x: Pixels in [0, 1], [batch, pixels].
          key: Consumed by the draws.

        Returns:
          Two terms of shape [batch], nats. `kl` is that of all latent variables; as an
          estimate from one draw it can fall below 0.
        """
        key_z1, key_m2 = jax.random.split(key)
        z1, log_likelihood, log_q = self._draw(x, key_z1)
        rest = jnp.delete(z1, self.kept, axis=1)
        log_prior = self.m2.elbo(params, z1[:, self.kept], key=key_m2).elbo
        log_prior += distributions.standard_normal_log_prob(rest)
        return ElboTerms(log_likelihood, log_q - log_prior)

    def log_weight(self, params: Params, x: jax.Array, *, key: jax.Array) -> jax.Array:
        """Log p(x, z1, z2, y) - log q(z1, z2, y|x) at one draw, [batch], nats."""
        key_z1, key_m2 = jax.random.split(key)
        z1, log_likelihood, log_q = self._draw(x, key_z1)
        rest = jnp.delete(z1, self.kept, axis=1)
        log_prior = self.m2.log_weight(params, z1[:, self.kept], key=key_m2)
        log_prior += distributions.standard_normal_log_prob(rest)
        return log_likelihood - log_q + log_prior

    def features(self, params: Params, x: jax.Array) -> jax.Array:
        """Style of images x: mean of q(z2|z1,y) at the likeliest class, [batch, z2]."""
        return self.m2.features(params, self.code(x)[0])

    def decode_classes(self, params: Params, z: jax.Array) -> jax.Array:
        """Images of one style z2 in every class: probs, [batch, K, pixels].

        Decoded from the mean of p(z1|y,z2); z2 is [batch, latent].
        """
        return self._images(self.m2.decode_classes(params, z))

    def reconstruct(self, params: Params, x: jax.Array) -> jax.Array:
        """Images from the style and likeliest class of x: probs, [batch, pixels]."""
        return self._images(self.m2.reconstruct(params, self.code(x)[0]))

    def _images(self, kept: jax.Array) -> jax.Array:
        """Probs [..., pixels] of z1 with these units and 0, their mean, elsewhere."""
        z1 = jnp.zeros([*kept.shape[:-1], self.m1.latent_dim])
        z1 = z1.at[..., self.kept].set(kept)
        return jax.nn.sigmoid(self.m1.decode(self.m1_params, z1))

    def _draw(
        self, x: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """A draw of z1 [batch, latent] from q(z1|x), log p(x|z1) and log q(z1|x)."""
        mean, logvar = self.m1.encode(self.m1_params, x)
        z1 = distributions.gaussian_sample(key, mean, logvar)
        log_likelihood = distributions.bernoulli_log_prob(
            self.m1.decode(self.m1_params, z1), x
        )
        return z1, log_likelihood, distributions.gaussian_log_prob(z1, mean, logvar)
