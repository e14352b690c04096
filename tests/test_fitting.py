import jax
import numpy as np
import pytest

from ssl_vae.batches import batches_of_steps
from ssl_vae.fitting import ExampleSet


@pytest.mark.parametrize(
    ("num_rows", "num_passes"), [(101, 1), (101, 3), (7, 1), (7, 5), (200, 2)]
)
def test_passes_fill_batches_and_prefer_no_class(num_rows, num_passes):
    rows = np.arange(1000, 1000 + num_rows)
    found = ExampleSet(np.zeros(2000), rows, 100).passes(num_passes).rows
    assert len(found) % 100 == 0
    times = np.bincount(found, minlength=1000 + num_rows)[1000:]
    assert times.min() >= num_passes
    assert times.max() - times.min() <= 1
    favored = np.flatnonzero(times > times.min())
    # As images are often sorted by class, the first rows would be one.
    assert len(favored) == 0 or favored.mean() > 0.25 * num_rows


@pytest.mark.parametrize("num_rows", [3, 30, 40, 70])
def test_labeled_images_are_seen_equally_often_however_few(num_rows):
    few = ExampleSet(np.zeros(100), np.arange(num_rows), 50).repeated()
    every = ExampleSet(np.zeros(100), np.arange(100), 50).passes(100)
    keys = list(jax.random.split(jax.random.key(0), 2))
    _, batches = batches_of_steps(
        every, [few], keys, jax.numpy.int32(0), num_steps=200, batch_sizes=[50, 50]
    )
    assert batches.shape == (200, 50)
    times = np.bincount(np.ravel(batches), minlength=num_rows) / (200 * 50 / num_rows)
    np.testing.assert_allclose(times, 1, atol=0.15)
