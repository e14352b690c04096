import jax.numpy as jnp
import numpy as np
import pytest

from ssl_vae.gradients import num_gradients, oriented_gradients


def by_hand(image):
    """The same of one image [H, W, C], by loops."""
    gray = image.mean(axis=-1)
    height, width = gray.shape
    rows, columns = -(-height // 4), -(-width // 4)
    cells = np.zeros([rows, columns, 9])
    for i in range(height):
        for j in range(width):
            dx = gray[i, j + 1] - gray[i, j - 1] if 0 < j < width - 1 else 0.0
            dy = gray[i + 1, j] - gray[i - 1, j] if 0 < i < height - 1 else 0.0
            for k in range(9):
                cosine = np.cos(np.arctan2(dy, dx) - k * np.pi / 9)
                cells[i // 4, j // 4, k] += np.hypot(dx, dy) * cosine**8
    result = np.zeros_like(cells)
    for i in range(rows):
        for j in range(columns):
            around = cells[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            energy = (around**2).sum() + 0.1
            result[i, j] = np.sqrt(cells[i, j] / np.sqrt(energy))
    return result.ravel()


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 14, 3), (3, 5, 1)])
def test_equals_loops_over_pixels_cells_and_orientations(shape):
    images = np.random.default_rng(0).random((4, *shape))
    expected = np.stack([by_hand(image) for image in images])
    x = jnp.asarray(images.reshape(4, -1), jnp.float32)
    found = oriented_gradients(x, shape)
    assert found.shape == (4, num_gradients(shape))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_lies_between_0_and_1_and_is_0_without_edges():
    x = jnp.asarray(np.random.default_rng(1).integers(0, 2, (50, 144)), jnp.float32)
    found = oriented_gradients(x, (12, 12, 1))
    assert found.min() >= 0
    assert 0.5 < found.max() <= 1
    flat = oriented_gradients(jnp.full([2, 144], 0.7), (12, 12, 1))
    np.testing.assert_array_equal(flat, 0)


def test_a_vertical_edge_answers_in_the_horizontal_direction():
    image = np.zeros([12, 12, 1], np.float32)
    image[:, 6:] = 1
    found = oriented_gradients(jnp.asarray(image.reshape(1, -1)), (12, 12, 1))
    middle = np.asarray(found).reshape(3, 3, 9)[1, 1]
    assert middle.argmax() == 0
    turned = oriented_gradients(
        jnp.asarray(image.swapaxes(0, 1).reshape(1, -1)), (12, 12, 1)
    )
    assert np.asarray(turned).reshape(3, 3, 9)[1, 1].argmax() in (4, 5)
