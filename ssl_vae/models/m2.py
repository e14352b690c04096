"""M2: a generative model of images with a class y and a style z, and its classifier.

    p(y) = uniform    p(z) = N(0, I)    p(x|y,z) = Bernoulli(decoder(y, z))
    q(y|x) = Categorical(classifier(x))    q(z|x,y) = N(mean(x, y), diag(var(x, y)))

Source: Kingma et al. 2014, "Semi-supervised learning with deep generative models",
arXiv:1406.5298, section 2.2 and eq. 6 to 9. Differs from the authors' code: every batch
has many labeled images (theirs has one of 100 labels, or a few of more) and is drawn
anew (theirs are cut once); q(y|x) learns from the labels alone at first; all classes of
an image share one noise (theirs: one each); the learning rate is higher and falls to 0
within far fewer passes (theirs: Adam at 3e-4 for 3000, without bias correction); the
networks start from Flax's weights but for those of y (theirs: mostly normal with
deviation 1e-3); gray pixels are used as they are; the weights have no Gaussian prior.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ssl_vae import distributions
from ssl_vae.copies import apply
from ssl_vae.models.m1 import ElboTerms, Params
from ssl_vae.networks import Classifier, JointDecoder, JointGaussian


@dataclass(frozen=True)
class M2:
    """The model's hyper-parameters; its methods are pure functions of `params`.

    Attributes:
      pixels: Length of a flattened image, or of the vector that stands for it.
      num_classes: K.
      labeled_fraction: Labeled images among all training images, in [0, 1].
      latent_dim: Length of z.
      hidden: Widths of the hidden layers of every network.
      warmup_steps: For so many steps at first q(y|x) learns from the labels alone,
        while the bound teaches the rest of the model what the classes look like.
      alpha: Weight of the classification loss, nats per image on either side: with N
        images, N_l of them labeled, the labeled sum has weight alpha * N / N_l.
      gaussian: Whether x is real-valued and p(x|y,z) a diagonal Gaussian.
    """

    pixels: int
    num_classes: int
    labeled_fraction: float
    warmup_steps: int = 0
    latent_dim: int = 50
    hidden: tuple[int, ...] = (500,)
    alpha: float = 0.1
    gaussian: bool = False

    @property
    def classifier(self) -> Classifier:
        """The network of q(y|x)."""
        return Classifier(self.hidden, self.num_classes)

    @property
    def encoder(self) -> JointGaussian:
        """The network of q(z|x,y)."""
        return JointGaussian(self.hidden, self.latent_dim)

    @property
    def decoder(self) -> JointGaussian | JointDecoder:
        """The network of p(x|y,z)."""
        network = JointGaussian if self.gaussian else JointDecoder
        return network(self.hidden[::-1], self.pixels)

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters of classifier, encoder and decoder, by name."""
        keys = jax.random.split(key, 3)
        x, z = jnp.zeros([1, self.pixels]), jnp.zeros([1, self.latent_dim])
        y = jnp.zeros([1, self.num_classes])
        return {
            "classifier": self.classifier.init(keys[0], x)["params"],
            "encoder": self.encoder.init(keys[1], x, y)["params"],
            "decoder": self.decoder.init(keys[2], z, y)["params"],
        }

    def class_logits(self, params: Params, x: jax.Array) -> jax.Array:
        """Logits of q(y|x), [batch, K]; x is [batch, pixels]."""
        return jnp.asarray(apply(self.classifier, params["classifier"], x))

    def encode(
        self, params: Params, x: jax.Array, y: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and log variance of q(z|x,y), [..., latent]; y is one-hot, [..., K]."""
        posterior: Any = apply(self.encoder, params["encoder"], x, y)
        return posterior

    def decode(self, params: Params, z: jax.Array, y: jax.Array) -> Any:
        """Parameters of p(x|y,z): logits, or mean and log variance, [..., pixels]."""
        return apply(self.decoder, params["decoder"], z, y)

    def joint_elbo(
        self, params: Params, x: jax.Array, y: jax.Array, *, key: jax.Array
    ) -> ElboTerms:
        """Bound on log p(x|y), with one draw of z; log p(y) = -log K is left out.

        Args:
          params: As returned by `init`.
          x: [batch, 1, pixels].
          y: One-hot classes, [batch, C, K] or [1, C, K].
          key: Consumed by one draw of noise per image.

        Returns:
          Two terms of shape [batch, C], nats.

        Source: eq. 6.
        """
        mean, logvar = self.encode(params, x, y)
        # One noise for all classes of an image: what then differs between them is the
        # class, and the gradient of q(y|x) is far less noisy.
        noise = jax.random.normal(key, [len(x), 1, self.latent_dim])
        z = mean + jnp.exp(0.5 * logvar) * noise
        return ElboTerms(
            log_likelihood=self._log_prob(params, x, z, y),
            kl=distributions.gaussian_kl(mean, logvar),
        )

    def elbo(self, params: Params, x: jax.Array, *, key: jax.Array) -> ElboTerms:
        """Terms of the bound on log p(x): all classes, each weighted with q(y|x).

        Args:
          params: As returned by `init`.
          x: [batch, pixels].
          key: Consumed by one draw of noise per image, for all its z.

        Returns:
          Two terms of shape [batch], nats. `kl` is that of the pair y, z.

        Source: eq. 7.
        """
        return self._elbo(params, x, self.class_logits(params, x), key)

    def _elbo(
        self, params: Params, x: jax.Array, logits: jax.Array, key: jax.Array
    ) -> ElboTerms:
        """`elbo` with the logits of q(y|x) given, [batch, K]."""
        every_class = jnp.eye(self.num_classes)[None]
        joint = self.joint_elbo(params, x[:, None], every_class, key=key)
        probs = jax.nn.softmax(logits)
        # KL(q(y|x) || uniform) = log K - entropy
        kl_class = jnp.log(self.num_classes) - distributions.categorical_entropy(logits)
        return ElboTerms(
            log_likelihood=jnp.sum(probs * joint.log_likelihood, axis=-1),
            kl=jnp.sum(probs * joint.kl, axis=-1) + kl_class,
        )

    def loss(
        self,
        params: Params,
        x: jax.Array,
        labeled: tuple[jax.Array, jax.Array],
        *,
        key: jax.Array,
        step: jax.Array,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What training minimizes, the bounds on both kinds of images and the labels.

        Args:
          params: As returned by `init`, or `Copies` of them.
          x: Unlabeled images, [batch, pixels].
          labeled: Images [labeled_batch, pixels] and their classes, int32.
          key: Consumed by the draws of z.
          step: int32 scalar, optimizer steps done.

        Returns:
          The loss, a scalar in nats per image, and its parts by name for the log.

        Source: eq. 9, divided by the number of images.
        """
        key_unlabeled, key_labeled = jax.random.split(key)
        x_labeled, classes = labeled
        logits = self.class_logits(params, x)
        warm = step < self.warmup_steps
        logits = jnp.where(warm, jax.lax.stop_gradient(logits), logits)
        unlabeled = self._elbo(params, x, logits, key_unlabeled)
        one_hot = jax.nn.one_hot(classes, self.num_classes)[:, None]
        joint = self.joint_elbo(
            params, x_labeled[:, None], one_hot, key=key_labeled
        ).elbo - jnp.log(self.num_classes)
        log_probs = jax.nn.log_softmax(self.class_logits(params, x_labeled))
        cross_entropy = -jnp.mean(jnp.sum(one_hot[:, 0] * log_probs, axis=-1))
        f = self.labeled_fraction
        bound = (1 - f) * jnp.mean(unlabeled.elbo) + f * jnp.mean(joint)
        loss = self.alpha * cross_entropy - bound
        return loss, {
            "loss": loss,
            "log_likelihood": jnp.mean(unlabeled.log_likelihood),
            "kl": jnp.mean(unlabeled.kl),
            "cross_entropy": cross_entropy,
            "entropy": jnp.mean(distributions.categorical_entropy(logits)),
            "classes": _classes_in_use(logits),
        }

    def log_weight(self, params: Params, x: jax.Array, *, key: jax.Array) -> jax.Array:
        """Log p(x, y, z) - log q(y, z|x) at one draw of y and z, [batch], nats.

        The mean of its exponential over draws is p(x): see `evaluate.log_likelihoods`.
        """
        key_y, key_z = jax.random.split(key)
        log_probs = jax.nn.log_softmax(self.class_logits(params, x))
        y = jax.nn.one_hot(jax.random.categorical(key_y, log_probs), self.num_classes)
        mean, logvar = self.encode(params, x, y)
        z = distributions.gaussian_sample(key_z, mean, logvar)
        return (
            self._log_prob(params, x, z, y)
            + distributions.standard_normal_log_prob(z)
            - distributions.gaussian_log_prob(z, mean, logvar)
            - jnp.log(self.num_classes)
            - jnp.sum(y * log_probs, axis=-1)
        )

    def features(self, params: Params, x: jax.Array) -> jax.Array:
        """Style of images x: mean of q(z|x,y) at their likeliest class, [batch, z]."""
        return self.encode(params, x, self._likeliest(params, x))[0]

    def decode_classes(self, params: Params, z: jax.Array) -> jax.Array:
        """Images of one style in every class: [batch, latent] -> [batch, K, pixels].

        Probs of the pixels, or the mean of a Gaussian x.
        """
        likelihood = self.decode(params, z[:, None], jnp.eye(self.num_classes)[None])
        return likelihood[0] if self.gaussian else jax.nn.sigmoid(likelihood)

    def reconstruct(self, params: Params, x: jax.Array) -> jax.Array:
        """Images from the style and the likeliest class of x, [batch, pixels]."""
        images = self.decode_classes(params, self.features(params, x))
        y = self._likeliest(params, x)
        return jnp.sum(y[..., None] * images, axis=1)

    def _likeliest(self, params: Params, x: jax.Array) -> jax.Array:
        """One-hot, [batch, K]."""
        classes = jnp.argmax(self.class_logits(params, x), axis=-1)
        return jax.nn.one_hot(classes, self.num_classes)

    def _log_prob(
        self, params: Params, x: jax.Array, z: jax.Array, y: jax.Array
    ) -> jax.Array:
        """Log p(x|y,z), nats, summed over the last axis."""
        likelihood = self.decode(params, z, y)
        if self.gaussian:
            return distributions.gaussian_log_prob(x, *likelihood)
        return distributions.bernoulli_log_prob(likelihood, x)


def _classes_in_use(logits: jax.Array) -> jax.Array:
    """Exp of the entropy of q(y|x) averaged over a batch: from 1, collapsed, to K."""
    mean = jnp.mean(jax.nn.softmax(logits), axis=0)
    return jnp.exp(distributions.categorical_entropy(jnp.log(mean + 1e-30)))
