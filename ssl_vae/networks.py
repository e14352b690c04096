"""Networks in Flax linen: deterministic, no key, no loss."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_vae.distributions import softplus


def _bfloat16_product(x: jax.Array, weights: jax.Array, *args: Any, **_: Any) -> Any:
    """`lax.dot_general` of float32 arrays rounded to bfloat16, as float32.

    So are the two products of its gradient.
    """
    x, weights = x.astype(jnp.bfloat16), weights.astype(jnp.bfloat16)
    return jax.lax.dot_general(x, weights, *args).astype(jnp.float32)


def _dense(dtype: str) -> Any:
    """A layer's class: its matrix products are of a dtype, all else is float32."""
    if dtype == "float32":
        return nn.Dense
    return partial(nn.Dense, dot_general=_bfloat16_product)


class MLP(nn.Module):
    """Fully connected hidden layers with softplus: [..., in] -> [..., hidden[-1]]."""

    hidden: Sequence[int]
    dtype: str = "float32"  # of the matrix products; or bfloat16

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Activations of the last hidden layer, at least 0."""
        for width in self.hidden:
            x = softplus(_dense(self.dtype)(width)(x))
        return x


class Encoder(nn.Module):
    """Image to Gaussian posterior: [..., pixels] -> mean and logvar, [..., latent]."""

    hidden: Sequence[int]
    latent_dim: int
    dtype: str = "float32"  # of the matrix products; or bfloat16

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Posterior mean and log variance; both heads are linear, so unbounded."""
        h = MLP(self.hidden, self.dtype)(x)
        mean = _dense(self.dtype)(self.latent_dim, name="mean")(h)
        logvar = _dense(self.dtype)(self.latent_dim, name="logvar")(h)
        return mean, logvar


class Decoder(nn.Module):
    """Latent to image: [..., latent] -> Bernoulli logits, [..., pixels]."""

    hidden: Sequence[int]
    pixels: int
    dtype: str = "float32"  # of the matrix products; or bfloat16

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Log odds per pixel, before the sigmoid."""
        h = MLP(self.hidden, self.dtype)(z)
        return _dense(self.dtype)(self.pixels, name="logits")(h)


class Classifier(nn.Module):
    """Image to class: [..., in] -> logits of q(y|x), [..., num_classes]."""

    hidden: Sequence[int]
    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Unnormalized log probabilities, before the softmax."""
        return nn.Dense(self.num_classes, name="logits")(MLP(self.hidden)(x))


class JointLayer(nn.Module):
    """First hidden layer of a network of input and class: -> [..., width].

    Input and class have weights of their own, and the two products are added with
    broadcasting: x of shape [batch, 1, in] meets every class of y, [1, K, K], and its
    product is taken once instead of K times.
    """

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Activations, at least 0, of x [..., in] and one-hot y [..., K]."""
        # Small, as in the authors' code: the classes grow out of the labels before they
        # can become clusters of another kind.
        small = nn.initializers.normal(1e-3)
        from_y = nn.Dense(self.width, use_bias=False, kernel_init=small, name="y")(y)
        return softplus(nn.Dense(self.width, name="x")(x) + from_y)


class JointGaussian(nn.Module):
    """Input and class to a Gaussian: [..., in], [..., K] -> two of [..., dim]."""

    hidden: Sequence[int]
    dim: int

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log variance; both heads are linear, so unbounded."""
        h = MLP(self.hidden[1:])(JointLayer(self.hidden[0])(x, y))
        return nn.Dense(self.dim, name="mean")(h), nn.Dense(self.dim, name="logvar")(h)


class JointDecoder(nn.Module):
    """Latent and class to image: [..., latent], [..., K] -> logits, [..., pixels]."""

    hidden: Sequence[int]
    pixels: int

    @nn.compact
    def __call__(self, z: jax.Array, y: jax.Array) -> jax.Array:
        """Log odds per pixel, before the sigmoid."""
        h = MLP(self.hidden[1:])(JointLayer(self.hidden[0])(z, y))
        return nn.Dense(self.pixels, name="logits")(h)


class Convolution(nn.Module):
    """Convolution with ReLU as a product with the patches of an image.

    [batch, H, W, C] -> [batch, ceil(H / stride), ceil(W / stride), width]. On a CPU,
    XLA's own convolution inside `lax.scan` takes far longer than this product.
    """

    width: int
    size: int  # of a patch, odd
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Activations, at least 0."""
        height, width = x.shape[1:3]
        margin = self.size // 2
        x = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
        patches = [
            x[:, i : i + height : self.stride, j : j + width : self.stride]
            for i in range(self.size)
            for j in range(self.size)
        ]
        dense = nn.Dense(self.width, kernel_init=nn.initializers.he_normal())
        return nn.relu(dense(jnp.concatenate(patches, axis=-1)))


class ConvClassifier(nn.Module):
    """Image to class: [batch, H, W, C] -> logits, [batch, num_classes]."""

    channels: Sequence[int]
    hidden: int
    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Unnormalized log probabilities, before the softmax."""
        for i, width in enumerate(self.channels):
            x = Convolution(width, size=3 if i else 5, stride=2)(x)
        x = x.reshape(len(x), -1)
        x = nn.relu(nn.Dense(self.hidden, kernel_init=nn.initializers.he_normal())(x))
        return nn.Dense(self.num_classes, name="logits")(x)
