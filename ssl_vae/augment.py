"""Random changes of an image that leave its class as it is: [batch, pixels] in [0, 1].

No image is mirrored: letters and digits would not be the same any more.
"""

import jax
import jax.numpy as jnp


def shift(key: jax.Array, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Images moved by up to a ninth of their sides, at least a pixel; 0 comes in.

    Args:
      key: Consumed; every image moves on its own.
      x: [batch, pixels].
      shape: (H, W, C) with H * W * C pixels.
    """
    height, width, _ = shape
    down, right = max(height // 9, 1), max(width // 9, 1)
    margins = ((0, 0), (down, down), (right, right), (0, 0))
    padded = jnp.pad(x.reshape(-1, *shape), margins)
    most = jnp.array([[2 * down + 1, 2 * right + 1]])
    corner = jax.random.randint(key, [len(x), 2], 0, most)
    rows = corner[:, :1] + jnp.arange(height)[None]
    columns = corner[:, 1:] + jnp.arange(width)[None]
    image = jnp.arange(len(x))[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].reshape(x.shape)


def nudged(x: jax.Array, shape: tuple[int, ...]) -> list[jax.Array]:
    """Images as they are, and a pixel lower, higher, further right and left.

    Of larger images, a 28th of their sides. Of the size of x [batch, pixels] each.
    """
    height, width, _ = shape
    down, right = max(height // 28, 1), max(width // 28, 1)
    margins = ((0, 0), (down, down), (right, right), (0, 0))
    padded = jnp.pad(x.reshape(-1, *shape), margins)
    corners = [(down, right), (0, right), (2 * down, right)]
    corners += [(down, 0), (down, 2 * right)]
    views = [padded[:, i : i + height, j : j + width] for i, j in corners]
    return [view.reshape(x.shape) for view in views]


def erase(key: jax.Array, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Images with a rectangle, 3/7 of their sides, set to 0; it may reach outside.

    Its first row and column are drawn from half its size before the image to the end of
    it, so it reaches outside at the bottom and on the right more often, where in the
    source its center is drawn.

    Source: DeVries and Taylor 2017, "Improved regularization of convolutional neural
    networks with cutout", arXiv:1708.04552.
    """

    def hit(key: jax.Array, side: int) -> jax.Array:
        """Which rows, or columns, the rectangle covers, bool [batch, side]."""
        size = max(3 * side // 7, 1)
        first = jax.random.randint(key, [len(x), 1], -(size // 2), side)
        place = jnp.arange(side)[None]
        return (place >= first) & (place < first + size)

    key_rows, key_columns = jax.random.split(key)
    rows, columns = hit(key_rows, shape[0]), hit(key_columns, shape[1])
    erased = rows[:, :, None] & columns[:, None, :]
    return jnp.where(erased[..., None], 0, x.reshape(-1, *shape)).reshape(x.shape)


def relight(key: jax.Array, x: jax.Array) -> jax.Array:
    """Images with another contrast (a power) and brightness (a factor), not clipped."""
    key_power, key_factor = jax.random.split(key)
    power = jnp.exp(0.4 * jax.random.normal(key_power, [len(x), 1]))
    factor = 1 + 0.2 * jax.random.normal(key_factor, [len(x), 1])
    return factor * x**power


def strong(key: jax.Array, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """All of these changes, one after the other."""
    key_shift, key_erase, key_relight = jax.random.split(key, 3)
    return relight(key_relight, erase(key_erase, shift(key_shift, x, shape), shape))
