"""A network that learns classes from a teacher's guesses about unlabeled images.

It sees every image changed (moved, partly erased, relit) and has to give it the class
that teacher and student agree on when they see it as it is. So it learns what the
teacher cannot know: that such changes do not change the class.

Source: Xie et al. 2020, "Self-training with noisy student", arXiv:1911.04252, with a
target that the student gives itself as in Sohn et al. 2020, "FixMatch",
arXiv:2001.07685. Differs: one network, whose trust in itself grows within one training;
the target is the product of both probabilities, not the one class of those that are
sure; no class may gain or lose images against the teacher ("distribution alignment",
Berthelot et al. 2020, arXiv:1911.09785).
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from ssl_vae import augment
from ssl_vae.copies import apply
from ssl_vae.models.m1 import Params
from ssl_vae.networks import ConvClassifier

# Shares of the training: the student trusts itself not at all up to the first, and as
# much as the teacher from the second on.
TRUST_FROM, TRUST_FULL = 0.1, 0.4
TINY = 1e-6  # a batch may be without any image of a class
ALIGNMENTS = 3  # one alone leaves half of what a class has gained


@dataclass(frozen=True)
class Student:
    """The model's hyper-parameters; its methods are pure functions of `params`.

    Attributes:
      image_shape: (H, W, C).
      num_classes: K.
      num_steps: Of the training.
      channels: Widths of the convolutional layers, each of which halves the image.
      hidden: Width of the fully connected layer behind them.
    """

    image_shape: tuple[int, ...]
    num_classes: int
    num_steps: int
    channels: tuple[int, ...] = (32, 64)
    hidden: int = 128

    @property
    def network(self) -> ConvClassifier:
        """Image to logits."""
        return ConvClassifier(self.channels, self.hidden, self.num_classes)

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters."""
        variables: Any = self.network.init(key, jnp.zeros([1, *self.image_shape]))
        return variables["params"]

    def class_logits(self, params: Params, x: jax.Array) -> jax.Array:
        """Logits of the classes of images x [batch, pixels], [batch, K].

        Means over what the network says of an image where it is and nudged either way:
        on validation images, 0.2 points more accurate than the first alone.
        """
        views = augment.nudged(x, self.image_shape)
        return reduce(jnp.add, (self.logits(params, v) for v in views)) / len(views)

    def logits(self, params: Params, x: jax.Array) -> jax.Array:
        """What the network says of images x [batch, pixels] as they are, [batch, K]."""
        images = x.reshape(-1, *self.image_shape) - 0.3  # about the mean of a pixel
        return jnp.asarray(apply(self.network, params, images))

    def loss(
        self,
        params: Params,
        unlabeled: tuple[jax.Array, jax.Array],
        labeled: tuple[jax.Array, jax.Array],
        *,
        key: jax.Array,
        step: jax.Array,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What training minimizes: the cross-entropies of both kinds of images.

        Args:
          params: As returned by `init`, or `Copies` of them.
          unlabeled: Images [batch, pixels] and the teacher's log probabilities,
            [batch, K], whose mean probabilities are the shares of the classes.
          labeled: Images [labeled_batch, pixels] and their classes, int32.
          key: Consumed by the changes of the images.
          step: int32 scalar, optimizer steps done.

        Returns:
          The loss, a scalar in nats, and its parts by name for the log.
        """
        key_weak, key_unlabeled, key_labeled = jax.random.split(key, 3)
        x, teacher = unlabeled
        x_labeled, classes = labeled
        targets = self.targets(params, x, teacher, key=key_weak, step=step)
        views = jnp.concatenate(
            [
                augment.strong(key_unlabeled, x, self.image_shape),
                augment.strong(key_labeled, x_labeled, self.image_shape),
            ]
        )
        log_probs = jax.nn.log_softmax(self.logits(params, views))
        one_hot = jax.nn.one_hot(classes, self.num_classes)
        targets = jnp.concatenate([targets, one_hot])
        cross_entropy = -jnp.sum(targets * log_probs, axis=1)
        of_unlabeled = jnp.mean(cross_entropy[: len(x)])
        of_labeled = jnp.mean(cross_entropy[len(x) :])
        loss = of_unlabeled + of_labeled
        return loss, {
            "loss": loss,
            "cross_entropy": of_labeled,
            "cross_entropy_unlabeled": of_unlabeled,
        }

    def targets(
        self,
        params: Params,
        x: jax.Array,
        teacher: jax.Array,
        *,
        key: jax.Array,
        step: jax.Array,
    ) -> jax.Array:
        """Probabilities that teacher and student give unlabeled images, [batch, K].

        Nothing is learned through them.
        """
        moved = augment.shift(key, x, self.image_shape)
        own = jax.nn.log_softmax(self.logits(params, moved))
        done = step / self.num_steps
        trust = jnp.clip((done - TRUST_FROM) / (TRUST_FULL - TRUST_FROM), 0, 1)
        probs = jax.nn.softmax(teacher + trust * own)
        # The same images on both sides: that a batch has more of a class cancels.
        due = jnp.mean(jax.nn.softmax(teacher), axis=0, keepdims=True) + TINY
        for _ in range(ALIGNMENTS):
            probs = probs * due / (jnp.mean(probs, axis=0, keepdims=True) + TINY)
            probs = probs / jnp.sum(probs, axis=1, keepdims=True)
        return jax.lax.stop_gradient(probs)
