import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_vae import augment

SHAPE = (18, 9, 2)


@pytest.fixture
def x():
    return jax.random.uniform(jax.random.key(0), (40, 18 * 9 * 2))


def pictures(x):
    return np.asarray(x).reshape(-1, *SHAPE)


def moved(picture, down, right):
    """By numpy: the picture `down` rows lower and `right` columns to the right."""
    out = np.zeros_like(picture)
    rows, columns = np.indices(picture.shape[:2])
    r, c = rows - down, columns - right
    inside = (r >= 0) & (r < SHAPE[0]) & (c >= 0) & (c < SHAPE[1])
    out[inside] = picture[r[inside], c[inside]]
    return out


def test_every_shift_is_one_of_those_promised_and_all_of_them_occur(x):
    steps = [(down, right) for down in (-2, -1, 0, 1, 2) for right in (-1, 0, 1)]
    keys = jax.random.split(jax.random.key(1), 10)
    found = set()
    for key in keys:
        shifted = pictures(augment.shift(key, x, SHAPE))
        for before, after in zip(pictures(x), shifted, strict=True):
            (which,) = [s for s in steps if np.array_equal(moved(before, *s), after)]
            found.add(which)
    assert found == set(steps)


@pytest.mark.parametrize("shape, most", [((18, 9, 2), (1, 1)), ((56, 30, 1), (2, 1))])
def test_nudged_images_are_the_image_and_its_four_neighbors(shape, most):
    x = jax.random.uniform(jax.random.key(0), (3, np.prod(shape)))
    down, right = most
    steps = [(0, 0), (down, 0), (-down, 0), (0, right), (0, -right)]
    views = augment.nudged(x, shape)
    for view, (rows, columns) in zip(views, steps, strict=True):
        expected = np.roll(np.asarray(x).reshape(3, *shape), (rows, columns), (1, 2))
        # What was rolled in from the other side is 0.
        expected[:, : max(rows, 0)] = expected[:, shape[0] + min(rows, 0) :] = 0
        expected[:, :, : max(columns, 0)] = 0
        expected[:, :, shape[1] + min(columns, 0) :] = 0
        np.testing.assert_array_equal(view, expected.reshape(3, -1))


def test_an_erased_part_is_one_rectangle_through_all_channels(x):
    erased = pictures(augment.erase(jax.random.key(1), x, SHAPE)) == 0
    assert (erased == erased[..., :1]).all()
    areas = set()
    for picture in erased[..., 0]:
        rows, columns = picture.any(axis=1), picture.any(axis=0)
        assert np.array_equal(picture, np.outer(rows, columns))
        for line, most in ((rows, 3 * 18 // 7), (columns, 3 * 9 // 7)):
            edges = np.diff(np.concatenate([[0], line, [0]]).astype(int))
            assert np.sum(edges == 1) == 1 and line.sum() <= most
        areas.add(int(picture.sum()))
    assert len(areas) > 1  # at the border less is lost
    assert max(areas) == (3 * 18 // 7) * (3 * 9 // 7)


def test_other_light_keeps_black_black_and_the_order_of_the_pixels(x):
    x = x.at[:, 0].set(0.0)
    relit = np.asarray(augment.relight(jax.random.key(1), x))
    assert (relit[:, 0] == 0).all()
    order = np.argsort(np.asarray(x), axis=1)
    assert (np.diff(np.take_along_axis(relit, order, axis=1), axis=1) >= 0).all()


def test_light_differs_by_a_power_and_a_factor_of_each_image():
    x = jax.random.uniform(jax.random.key(0), (4000, 5), minval=0.1)
    relit = np.log(np.asarray(augment.relight(jax.random.key(1), x)))
    log_x = np.log(np.asarray(x))
    power = (relit[:, 1] - relit[:, 0]) / (log_x[:, 1] - log_x[:, 0])
    factor = np.exp(relit[:, 0] - power * log_x[:, 0])
    for column in range(5):
        expected = np.log(factor) + power * log_x[:, column]
        np.testing.assert_allclose(relit[:, column], expected, atol=0.01)
    # Four standard errors of a deviation over 4000 images.
    assert np.log(power).std() == pytest.approx(0.4, rel=4 / np.sqrt(8000))
    assert factor.std() == pytest.approx(0.2, rel=4 / np.sqrt(8000))


def test_images_are_changed_each_in_its_own_way():
    same = jnp.tile(jax.random.uniform(jax.random.key(0), (1, 18 * 9 * 2)), (8, 1))
    changed = np.asarray(augment.strong(jax.random.key(1), same, SHAPE))
    assert len(np.unique(changed, axis=0)) == 8
    assert changed.dtype == np.float32


def test_an_image_of_two_by_two_pixels_can_be_changed():
    x = jnp.ones([5, 4])
    assert augment.strong(jax.random.key(1), x, (2, 2, 1)).shape == (5, 4)
