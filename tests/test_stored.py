"""Images that are left in their file are those that would be read from it."""

import numpy as np
import pytest
from conftest import blobs

from ssl_vae import datasets
from ssl_vae.datasets import npz
from ssl_vae.datasets.stored import StoredImages
from ssl_vae.errors import InputError


@pytest.fixture
def stored(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 2, 1)).astype(np.uint8)
    path = tmp_path / "images"
    path.write_bytes(b"head" + images.tobytes())
    return images, StoredImages(path, 4, images.shape)


@pytest.mark.parametrize(
    "which",
    [
        slice(None),
        slice(2, 7),
        slice(7, 2),
        np.array([3, 4, 5, 1, 8, 8, 0]),
        np.array([[3, 4], [4, 3]]),
        np.arange(9) % 2 == 0,
        4,
    ],
    ids=str,
)
def test_any_choice_of_rows_is_read_as_from_an_array(stored, which):
    array, images = stored
    np.testing.assert_array_equal(images[which], array[which])
    order = np.array([8, 0, 3, 4, 5, 1, 2, 7, 6])
    np.testing.assert_array_equal(images.take(order)[which], array[order][which])


def test_shape_and_size_are_those_of_the_chosen_rows(stored):
    array, images = stored
    some = images.take(np.array([1, 2]))
    assert (images.shape, images.size, len(images)) == (array.shape, array.size, 9)
    assert (some.shape, some.size, len(some)) == ((2, 3, 2, 1), 12, 2)


def test_a_file_that_was_cut_short_meanwhile_is_an_error_of_the_file(stored, tmp_path):
    _, images = stored
    (tmp_path / "images").write_bytes(b"head")
    with pytest.raises(OSError, match="has become shorter"):
        images[:]


@pytest.mark.parametrize("part", ["test", "validation", "crossed"])
def test_a_large_npz_file_is_the_set_that_it_would_be_in_memory(
    part, tmp_path, monkeypatch
):
    images, labels = blobs(60, seed=0)
    arrays = {"images": images, "labels": labels}
    if part != "crossed":
        test = blobs(20, seed=1)
        arrays |= {"test_images": test[0], "test_labels": test[1]}
    np.savez(tmp_path / "set.npz", **arrays)

    def load():
        data = datasets.load(f"npz:{tmp_path / 'set.npz'}")
        return data.holdout(8) if part == "validation" else data

    expected = load()
    monkeypatch.setattr(npz, "LARGE", 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = load()
    assert isinstance(data.train_images, StoredImages)
    assert data.identity == expected.identity
    np.testing.assert_array_equal(data.train_images[:], expected.train_images)
    np.testing.assert_array_equal(data.test_images, expected.test_images)


def test_only_an_uncompressed_file_may_hold_more_than_memory_should(
    tmp_path, monkeypatch
):
    images, labels = blobs(60, seed=0)
    monkeypatch.setattr(npz, "LARGE", 1000)
    monkeypatch.setattr(npz, "MAX_BYTES", 2000)
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    assert isinstance(npz.read(tmp_path / "set.npz").train_images, StoredImages)
    np.savez_compressed(tmp_path / "set.npz", images=images, labels=labels)
    with pytest.raises(InputError, match=r"numpy\.savez, uncompressed"):
        npz.read(tmp_path / "set.npz")
