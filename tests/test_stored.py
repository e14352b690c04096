"""Images that are left in their file are those that would be read from it."""

import errno
import fcntl
import io
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import blobs
from PIL import Image

from ssl_vae import datasets
from ssl_vae.datasets import class_folders, dataset, npz, picture
from ssl_vae.datasets import stored as stored_images
from ssl_vae.datasets.stored import StoredImages, gathered
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
    with pytest.raises(OSError, match="has become shorter") as caught:
        images[:]
    assert caught.value.filename == str(tmp_path / "images")


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


@pytest.fixture
def folder(tmp_path):
    """A folder of 24 images of four classes, and one more class to test on."""
    for number, (image, k) in enumerate(zip(*blobs(24, seed=0), strict=True)):
        for place in [f"{k}"] + [f"test/{k}"] * (number < 8):
            path = tmp_path / "set" / place / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return f"folder:{tmp_path / 'set'}"


def test_a_large_folder_is_the_set_that_it_would_be_in_memory(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "memory"))
    expected = datasets.load(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(stored_images, "LARGE", 1000)
    opened = []
    read = picture.read
    monkeypatch.setattr(
        picture, "read", lambda *a, **k: opened.append(a) or read(*a, **k)
    )
    for _ in range(2):  # the second time from the cache
        data = datasets.load(folder)
        assert isinstance(data.train_images, StoredImages)
        assert data.identity == expected.identity
        assert data.train_sources.tolist() == expected.train_sources.tolist()
        np.testing.assert_array_equal(data.train_images[:], expected.train_images)
        np.testing.assert_array_equal(data.test_images, expected.test_images)
        assert len(opened) == 24 + 8


def test_a_damaged_file_of_the_cache_is_made_again(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(stored_images, "LARGE", 1000)
    expected = datasets.load(folder).sha256
    (path,) = (tmp_path / "file").rglob("*.images")
    content = path.read_bytes()
    for damaged in (content[:-1], bytes(8) + content[8:]):
        path.write_bytes(damaged)
        assert datasets.load(folder).sha256 == expected
        assert path.read_bytes() == content


@pytest.mark.parametrize("large", [0, 1 << 20])
def test_images_that_are_too_few_or_too_many_leave_no_file(
    large, tmp_path, monkeypatch
):
    monkeypatch.setattr(stored_images, "LARGE", large)
    image = np.zeros((3, 2, 1), np.uint8)
    for count in (4, 6):
        with pytest.raises(ValueError, match=f"{count} of 5 images"):
            gathered([image] * count, (5, 3, 2, 1), tmp_path / "images")
    assert not list(tmp_path.iterdir())


def pictures():
    """Nine images that tell their own place."""
    for number in range(9):
        yield np.full((3, 2, 1), number, np.uint8)


def test_without_locks_no_process_writes_into_the_file_of_another(
    tmp_path, monkeypatch
):
    """The second begins and ends while the first is at its fifth image."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    def interrupted():
        for number, image in enumerate(pictures()):
            if number == 4:
                second.append(gathered(pictures(), (9, 3, 2, 1), tmp_path / "images"))
            yield image

    monkeypatch.setattr(stored_images, "LARGE", 0)
    monkeypatch.setattr(fcntl, "flock", refuse)
    expected, second = np.stack(list(pictures())), []
    first = gathered(interrupted(), (9, 3, 2, 1), tmp_path / "images")
    for images in (first, *second):
        np.testing.assert_array_equal(images[:], expected)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert (tmp_path / "images").read_bytes() == expected.tobytes()


def test_a_file_gets_its_name_only_at_its_full_size(tmp_path, monkeypatch):
    class Lossy(io.FileIO):
        """A file that does not keep all that it is given."""

        def write(self, content):
            return super().write(bytes(content)[1:]) + 1

    monkeypatch.setattr(stored_images, "LARGE", 0)
    monkeypatch.setattr(os, "fdopen", Lossy)
    with pytest.raises(InputError, match=r"cannot be kept there \(what was written is"):
        gathered(pictures(), (9, 3, 2, 1), tmp_path / "images")
    assert not list(tmp_path.iterdir())


def test_one_that_waited_writes_images_itself_if_they_are_gone_by_then(
    tmp_path, monkeypatch
):
    """The other's file may be removed, or found to be no good, at any moment."""
    monkeypatch.setattr(stored_images, "LARGE", 0)
    path, began, results = tmp_path / "images", threading.Event(), []

    def slow():
        began.set()
        for image in pictures():
            waiting.join(0.1)  # the other waits for as long as this one writes
            yield image

    def wait():
        began.wait()
        results.append(gathered(pictures(), (9, 3, 2, 1), path))

    waiting = threading.Thread(target=wait)
    replace = Path.replace
    monkeypatch.setattr(
        Path,
        "replace",
        lambda self, to: (replace(self, to), results or to.unlink())[0],
    )
    waiting.start()
    results.append(gathered(slow(), (9, 3, 2, 1), path))
    waiting.join()
    for images in results:
        np.testing.assert_array_equal(images[:], np.stack(list(pictures())))
    assert len(results) == 2
    assert list(tmp_path.iterdir()) == [path]


LOADS = (
    "import os, resource, signal; from ssl_vae import datasets;"
    "from ssl_vae.datasets import picture, stored; stored.LARGE = 1000;"
)


def load_in_a_process(folder, cache, before="", **options):
    """`datasets.load(folder)` after some statements; prints the digest."""
    code = f"{LOADS}{before}print(datasets.load({folder!r}).sha256)"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_without_room_for_large_images_it_says_so_in_a_line(folder, tmp_path):
    """A real limit on the size of files."""
    limit = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500));"
    )
    _, said = load_in_a_process(folder, tmp_path / "file", limit).communicate()
    assert "InputError" in said.splitlines()[-1]
    assert "0.0 GB of images cannot be kept there (File too large); make" in said
    assert not list((tmp_path / "file" / "ssl_vae").iterdir())


def test_a_cache_that_cannot_be_made_is_not_blamed_on_the_images(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(stored_images, "LARGE", 1000)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot be kept there .* XDG_CACHE_HOME"):
        datasets.load(folder)


def test_what_a_killed_process_has_decoded_is_written_over(folder, tmp_path):
    """Killed at its tenth image; then two processes at once."""
    killed = (
        "read, calls = picture.read, [];"
        "picture.read = lambda *a, **k: (calls.append(a), len(calls) == 10 and"
        " os.kill(os.getpid(), signal.SIGKILL), read(*a, **k))[-1];"
    )
    process = load_in_a_process(folder, tmp_path / "file", killed)
    process.communicate()
    assert process.returncode == -9
    (left,) = (tmp_path / "file" / "ssl_vae").iterdir()
    assert left.suffix == ".partial"
    two = [load_in_a_process(folder, tmp_path / "file") for _ in range(2)]
    said = [process.communicate()[0] for process in two]
    assert said[0] == said[1] != ""
    left = sorted(path.suffix for path in (tmp_path / "file" / "ssl_vae").iterdir())
    assert left == [".images", ".npz"]


def test_the_cache_may_be_deleted_while_images_are_used(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(stored_images, "LARGE", 1000)
    images = datasets.load(folder).train_images
    before = images[:]
    shutil.rmtree(tmp_path / "file")
    np.testing.assert_array_equal(images.take(np.arange(24))[:], before)


def test_an_entry_without_its_file_is_made_again(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(stored_images, "LARGE", 1000)
    expected = datasets.load(folder).sha256
    for suffix in ("images", "npz"):
        (path,) = (tmp_path / "file").rglob(f"*.{suffix}")
        path.unlink()
        assert datasets.load(folder).sha256 == expected
        assert path.exists()


def test_labeled_images_that_are_too_many_to_be_test_images_are_refused(
    tmp_path, monkeypatch
):
    images, labels = blobs(60, seed=0)
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    monkeypatch.setattr(dataset, "MAX_BYTES", images.nbytes - 1)
    with pytest.raises(InputError, match="these 60 are more than .* give test images"):
        npz.read(tmp_path / "set.npz")
    monkeypatch.setattr(dataset, "MAX_BYTES", images.nbytes)
    assert len(npz.read(tmp_path / "set.npz").test_images) == 60


def test_a_folder_of_too_many_labeled_images_is_refused_before_any_is_read(
    folder, tmp_path, monkeypatch
):
    shutil.rmtree(tmp_path / "set" / "test")
    monkeypatch.setattr(dataset, "MAX_BYTES", 100)
    monkeypatch.setattr(picture, "read", None)
    with pytest.raises(InputError, match="these 24 are more than .* give test images"):
        datasets.load(folder)


def test_a_test_class_of_no_training_image_is_refused_before_any_is_read(
    folder, tmp_path, monkeypatch
):
    (tmp_path / "set/test/0").rename(tmp_path / "set/test/owl")
    monkeypatch.setattr(picture, "read", None)
    with pytest.raises(InputError, match="has the label owl, which no training image"):
        datasets.load(folder)


def test_images_of_a_set_that_is_refused_are_not_kept(folder, tmp_path, monkeypatch):
    """A test image is damaged, which shows when the others are decoded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(stored_images, "LARGE", 1000)
    damaged = tmp_path / "set/test/3/7.png"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"7\.png cannot be read"):
        datasets.load(folder)
    assert not list((tmp_path / "file" / "ssl_vae").iterdir())


def test_too_many_test_images_are_refused_before_any_is_read(folder, monkeypatch):
    monkeypatch.setattr(class_folders, "MAX_BYTES", 100)
    monkeypatch.setattr(picture, "read", None)
    with pytest.raises(InputError, match="test: 8 images of .* give fewer"):
        datasets.load(folder)
