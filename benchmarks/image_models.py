"""M1 with more knowledge of images: what `benchmarks/images.py` compares."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_vae.augment import shift
from ssl_vae.gradients import CELL
from ssl_vae.models import M1
from ssl_vae.networks import MLP, Convolution, Decoder, Encoder

Shape = tuple[int, ...]


def mirrored(x: jax.Array, shape: Shape) -> jax.Array:
    """Images x [batch, pixels] of a shape (H, W, C) with left and right exchanged."""
    return x.reshape(-1, *shape)[:, :, ::-1].reshape(x.shape)


@dataclass(frozen=True)
class Moved(M1):
    """M1 that is shown each image elsewhere at every step; as it is, once trained.

    Attributes:
      mirrors: Whether half of the images are mirrored, too.
    """

    mirrors: bool = False

    def moved(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """Images x [batch, pixels], each moved on its own by up to a ninth."""
        key_shift, key_mirror = jax.random.split(key)
        x = shift(key_shift, x, self.image_shape)
        if not self.mirrors:
            return x
        chosen = jax.random.bernoulli(key_mirror, shape=[len(x), 1])
        return jnp.where(chosen, mirrored(x, self.image_shape), x)

    def loss(
        self, params: dict, view: jax.Array, *, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """As `M1.loss`, of the moved images and the gradients that these have."""
        key_move, key_noise = jax.random.split(key)
        x = self.moved(key_move, view[:, : self.pixels])
        return super().loss(params, self.view(x), key=key_noise, step=step)


def patches(x: jax.Array, shape: Shape) -> jax.Array:
    """Images x [batch, pixels] cut into the cells of `gradients`, row by row.

    [batch, cells, CELL * CELL * C]; H and W of the shape (H, W, C) are multiples of
    CELL.
    """
    height, width, _ = shape
    cells = x.reshape(-1, height // CELL, CELL, width // CELL, CELL, shape[2])
    return cells.swapaxes(2, 3).reshape(len(x), num_cells(shape), -1)


def put_together(cells: jax.Array, shape: Shape) -> jax.Array:
    """Images [batch, pixels] of which these are the `patches`."""
    height, width, _ = shape
    x = cells.reshape(-1, height // CELL, width // CELL, CELL, CELL, shape[2])
    return x.swapaxes(2, 3).reshape(len(cells), -1)


def num_cells(shape: Shape) -> int:
    """Cells of an image (H, W, C)."""
    return shape[0] // CELL * (shape[1] // CELL)


class PatchEncoder(Encoder):
    """Layers of each patch and its gradients, with shared weights, and then of all."""

    image_shape: Shape = ()
    of_patch: Sequence[int] = ()

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Posterior mean and log variance, [batch, latent]; x is `M1.view`."""
        pixels = math.prod(self.image_shape)
        cells = patches(x[:, :pixels], self.image_shape)
        gradients = x[:, pixels:].reshape(*cells.shape[:2], -1)
        h = MLP(self.of_patch, self.dtype)(jnp.concatenate([cells, gradients], axis=-1))
        return Encoder(self.hidden, self.latent_dim, self.dtype)(h.reshape(len(x), -1))


class PatchDecoder(Decoder):
    """The reverse: layers of all, then those of a patch and its gradients."""

    image_shape: Shape = ()
    of_patch: Sequence[int] = ()  # in the order of the encoder

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Logits of `M1.view`, [batch, pixels] where it is `pixels` long."""
        *narrower, last = self.of_patch
        cells = num_cells(self.image_shape)
        h = MLP([*self.hidden, cells * last], self.dtype)(z).reshape(
            len(z), cells, last
        )
        logits = Decoder(narrower[::-1], self.pixels // cells, self.dtype)(h)
        in_patch = math.prod(self.image_shape) // cells
        x = put_together(logits[..., :in_patch], self.image_shape)
        of_gradients = logits[..., in_patch:].reshape(len(z), -1)
        return jnp.concatenate([x, of_gradients], axis=1)


@dataclass(frozen=True)
class Patched(M1):
    """M1 whose first hidden layer is replaced by layers of patches, on both sides.

    Attributes:
      of_patch: Widths of those layers.
    """

    of_patch: tuple[int, ...] = (48, 32)

    @property
    def encoder(self) -> Encoder:
        """The network of q(z|x)."""
        local: Any = {"image_shape": self.image_shape, "of_patch": self.of_patch}
        return PatchEncoder(self.hidden[1:], self.latent_dim, **local)

    @property
    def decoder(self) -> Decoder:
        """The network of p(x|z), and of the gradients."""
        local: Any = {"image_shape": self.image_shape, "of_patch": self.of_patch}
        return PatchDecoder(self.hidden[:0:-1], self.view_dim, **local)


class ConvEncoder(Encoder):
    """Convolutions that halve the sides, and layers of what they and the edges say."""

    image_shape: Shape = ()
    channels: Sequence[int] = ()

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Posterior mean and log variance, [batch, latent]; x is `M1.view`."""
        pixels = math.prod(self.image_shape)
        image, gradients = x[:, :pixels].reshape(-1, *self.image_shape), x[:, pixels:]
        for width in self.channels:
            image = Convolution(width, size=3, stride=2)(image)
        h = jnp.concatenate([image.reshape(len(x), -1), gradients], axis=1)
        return Encoder(self.hidden, self.latent_dim, self.dtype)(h)


@dataclass(frozen=True)
class Convolutional(M1):
    """M1 whose encoder has convolutions in place of its first hidden layer.

    Attributes:
      channels: Of the convolutions, whose products are float32 whatever `dtype` is.
    """

    channels: tuple[int, ...] = (32, 64)

    @property
    def encoder(self) -> Encoder:
        """The network of q(z|x)."""
        local: Any = {"image_shape": self.image_shape, "channels": self.channels}
        return ConvEncoder(self.hidden[1:], self.latent_dim, **local)
