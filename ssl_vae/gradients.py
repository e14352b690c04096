"""Oriented gradients of an image: where its edges are, and which way they run.

A simple form of the histograms of Dalal and Triggs 2005, "Histograms of oriented
gradients for human detection". Differs: a gradient falls smoothly into the orientations
near its own instead of into two bins, every cell is normalized once, by itself and its
neighbors, and the square root is taken.
"""

import math

import jax
import jax.numpy as jnp

NUM_ORIENTATIONS = 9
CELL = 4  # pixels
SHARPNESS = 8  # even; how fast an orientation's share falls off with the angle
CONTRAST = 0.1  # edges whose energy is well below it count as none


def num_gradients(image_shape: tuple[int, ...]) -> int:
    """Length of `oriented_gradients` of an image [H, W, C]."""
    height, width, _ = image_shape
    return math.ceil(height / CELL) * math.ceil(width / CELL) * NUM_ORIENTATIONS


def oriented_gradients(x: jax.Array, image_shape: tuple[int, ...]) -> jax.Array:
    """How strongly the image changes in each of nine directions, cell by cell.

    Args:
      x: Pixels in [0, 1], [batch, H * W * C]. Colors are averaged.
      image_shape: (H, W, C). The last cells of a row or column are filled up with 0.

    Returns:
      In [0, 1], [batch, `num_gradients`]; row by row, then by orientation.
    """
    gray = jnp.mean(x.reshape(-1, *image_shape), axis=-1)
    # Central differences; none at the border.
    dx = jnp.pad(gray[:, :, 2:] - gray[:, :, :-2], ((0, 0), (0, 0), (1, 1)))
    dy = jnp.pad(gray[:, 2:] - gray[:, :-2], ((0, 0), (1, 1), (0, 0)))
    magnitude = jnp.hypot(dx, dy)
    angles = jnp.linspace(0.0, math.pi, NUM_ORIENTATIONS, endpoint=False)
    angles = angles.reshape(1, 1, 1, -1)
    along = dx[..., None] * jnp.cos(angles) + dy[..., None] * jnp.sin(angles)
    cosine = along / (magnitude[..., None] + 1e-6)
    cells = _sums_over_cells(magnitude[..., None] * cosine**SHARPNESS)
    energy = jnp.sum(jnp.square(cells), axis=-1)
    around = jax.lax.reduce_window(
        energy, 0.0, jax.lax.add, (1, 3, 3), (1, 1, 1), "SAME"
    )
    # Between 0 and 1: a cell is a part of what is around it.
    return jnp.sqrt(cells / jnp.sqrt(around + CONTRAST)[..., None]).reshape(len(x), -1)


def _sums_over_cells(values: jax.Array) -> jax.Array:
    """[batch, H, W, K] -> [batch, rows of cells, columns of cells, K]."""
    batch, height, width, count = values.shape
    rows, columns = math.ceil(height / CELL), math.ceil(width / CELL)
    fill = ((0, 0), (0, rows * CELL - height), (0, columns * CELL - width), (0, 0))
    cells = jnp.pad(values, fill).reshape(batch, rows, CELL, columns, CELL, count)
    return jnp.sum(cells, axis=(2, 4))
