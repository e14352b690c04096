"""What ``load`` promises, whatever the source of the images."""

import dataclasses
import gzip
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ssl_vae import datasets
from ssl_vae.compiled import keep_compiled
from ssl_vae.datasets import __main__ as command
from ssl_vae.datasets import cache, idx, known, sources
from ssl_vae.errors import InputError

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = idx.FILE_NAMES
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
REAL_DATA = os.environ.get("SSL_VAE_DATA_DIR")


@pytest.fixture(autouse=True)
def own_machine(tmp_path, monkeypatch):
    """No test sees this machine's data or cache."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(sources, "_DEBIAN", tmp_path / "usr/share/fashion-mnist")


def make_set(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        TRAIN_IMAGES: rng.integers(256, size=(60, 5, 4)),
        TRAIN_LABELS: np.arange(60) % 3,
        TEST_IMAGES: rng.integers(256, size=(12, 5, 4)),
        TEST_LABELS: np.arange(12) % 3,
    }


def write_set(folder: Path, arrays: dict[str, np.ndarray], packed=False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        shape = np.array(array.shape, ">u4").tobytes()
        content = bytes([0, 0, 8, array.ndim]) + shape + array.astype("u1").tobytes()
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def shuffled(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    train, test = np.random.default_rng(1).permutation(60), np.arange(12)[::-1]
    return {
        name: array[train if name.startswith("train") else test]
        for name, array in arrays.items()
    }


def load_error(folder) -> str:
    with pytest.raises(InputError) as caught:
        datasets.load(data_dir=folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_same_arrays(dataset, other):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(dataset, name), getattr(other, name))
    assert dataset.sha256 == other.sha256


def test_loads_a_folder_of_ones_own(tmp_path):
    dataset = datasets.load(data_dir=write_set(tmp_path / "My Set (2)", make_set()))
    assert dataset.name == "my-set-2"
    assert dataset.source == f"IDX files in {tmp_path / 'My Set (2)'}"
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.num_classes == 3
    assert dataset.train_images.shape == (60, 5, 4, 1)
    assert dataset.train_images.dtype == dataset.test_images.dtype == np.uint8
    assert dataset.test_images.shape == (12, 5, 4, 1)
    assert dataset.train_labels.dtype == dataset.test_labels.dtype == np.int32


def test_order_and_packing_of_the_files_do_not_matter(tmp_path, monkeypatch):
    arrays = make_set()
    dataset = datasets.load(data_dir=write_set(tmp_path / "raw", arrays))
    packed = datasets.load(data_dir=write_set(tmp_path / "gz", arrays, packed=True))
    write_set(tmp_path / "debian", shuffled(arrays), packed=True)
    monkeypatch.setattr(sources, "_DEBIAN", tmp_path / "debian")
    debian = datasets.load()
    assert debian.source == f"Debian package in {tmp_path / 'debian'}"
    assert_same_arrays(dataset, packed)
    assert_same_arrays(dataset, debian)


def test_images_keep_their_labels_in_canonical_order(tmp_path):
    arrays = make_set()
    dataset = datasets.load(data_dir=write_set(tmp_path / "set", arrays))
    digests = [hashlib.sha256(image.tobytes()) for image in dataset.train_images]
    ordered = [digest.digest() for digest in digests]
    assert ordered == sorted(ordered)
    label_of = {
        image.astype("u1").tobytes(): label
        for image, label in zip(arrays[TRAIN_IMAGES], arrays[TRAIN_LABELS], strict=True)
    }
    for image, label in zip(dataset.train_images, dataset.train_labels, strict=True):
        assert label_of[image.tobytes()] == label


def test_one_image_with_two_labels_has_one_order(tmp_path):
    arrays = make_set()
    arrays[TRAIN_IMAGES][:] = 7
    dataset = datasets.load(data_dir=write_set(tmp_path / "a", arrays))
    other = datasets.load(data_dir=write_set(tmp_path / "b", shuffled(arrays)))
    assert_same_arrays(dataset, other)


def test_labels_are_numbered_from_zero(tmp_path):
    arrays = make_set()
    arrays[TRAIN_LABELS] = arrays[TRAIN_LABELS] * 10 + 5
    arrays[TEST_LABELS] = arrays[TEST_LABELS] * 10 + 5
    dataset = datasets.load(data_dir=write_set(tmp_path / "set", arrays))
    assert dataset.class_names == ("5", "15", "25")
    assert set(dataset.train_labels) == set(dataset.test_labels) == {0, 1, 2}


def test_the_digest_depends_on_labels_and_shape(tmp_path):
    dataset = datasets.load(data_dir=write_set(tmp_path / "set", make_set()))
    turned = dataset.train_images.reshape(60, 4, 5, 1)
    relabeled = np.roll(dataset.train_labels, 1)
    for change in ({"train_images": turned}, {"train_labels": relabeled}):
        assert dataclasses.replace(dataset, **change).sha256 != dataset.sha256


@pytest.mark.parametrize("present", [0, 1, 3])
def test_missing_files_are_named(tmp_path, present):
    arrays = make_set()
    kept = dict(list(arrays.items())[:present])
    message = load_error(write_set(tmp_path / "set", kept))
    lacks = message.split("(with")[0]
    assert [name for name in arrays if name in lacks] == list(arrays)[present:]
    assert "--data_dir" in message
    assert all(name in message for name in arrays)


def test_a_folder_that_is_none_is_refused(tmp_path):
    message = load_error(tmp_path / "absent")
    assert f"--data_dir={tmp_path / 'absent'} does not exist" in message
    assert TRAIN_IMAGES in message
    (tmp_path / "file").touch()
    assert "is not a folder" in load_error(tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        (TRAIN_LABELS, np.arange(59) % 3, ("60 images", "59 labels", TRAIN_IMAGES)),
        (TEST_LABELS, np.arange(13) % 3, ("12 images", "13 labels", TEST_IMAGES)),
        (TEST_IMAGES, np.zeros((12, 4, 5)), ("4x5", "5x4", TRAIN_IMAGES, "one source")),
        (TEST_LABELS, np.arange(12), ("label 3", "no training image", "belong")),
        (TRAIN_LABELS, np.ones(60), ("the label 1", "two classes")),
    ],
)
def test_files_that_do_not_fit_each_other_are_named(tmp_path, name, array, says):
    folder = write_set(tmp_path / "set", make_set() | {name: array})
    message = load_error(folder)
    for part in (name.replace(TRAIN_LABELS, "labels"), str(folder), *says):
        assert part in message


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(paths, root):
        raise PermissionError(13, "Permission denied", str(next(iter(paths))))

    monkeypatch.setattr(cache, "key_of", refuse)
    message = load_error(write_set(tmp_path / "set", make_set()))
    assert str(tmp_path / "set" / TRAIN_IMAGES) in message
    assert "check its permissions" in message


@pytest.mark.parametrize(
    ("name", "data_dir", "says"),
    [
        ("mnist", "~nobody-x/y", "--data_dir=~nobody-x/y: nobody's home is known"),
        ("tfds:mnist", "~nobody-x", "--data_dir=~nobody-x: nobody's home is known"),
        ("folder:~nobody-x/y", None, "--dataset=folder:~nobody-x/y: nobody's home"),
        ("npz:~nobody-x/y", None, "--dataset=npz:~nobody-x/y: nobody's home is known"),
        ("mnist", None, "TFDS_DATA_DIR=~nobody-x: nobody's home is known"),
    ],
)
def test_a_home_that_nobody_has_is_told_with_the_flag(
    name, data_dir, says, monkeypatch
):
    monkeypatch.setenv("TFDS_DATA_DIR", "~nobody-x")
    with pytest.raises(InputError) as caught:
        datasets.load(name, data_dir)
    assert str(caught.value).startswith(says)


def test_a_user_without_a_home_is_told_to_name_a_cache(tmp_path, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    folder = write_set(tmp_path / "set", make_set())
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert "for a cache: set XDG_CACHE_HOME to a folder" in load_error(folder)
    keep_compiled()  # is none of its business


@pytest.mark.parametrize(
    ("name", "data_dir", "flag"),
    [
        (f"npz:{'x' * 300}", None, "--dataset=npz:"),
        (f"folder:{'x' * 300}", None, "--dataset=folder:"),
        ("mnist", "x" * 300, "--data_dir="),
    ],
)
def test_a_name_that_is_too_long_is_told_with_its_flag(name, data_dir, flag):
    with pytest.raises(InputError) as caught:
        datasets.load(name, data_dir)
    assert f"{'x' * 300} cannot be read (File name too long)" in str(caught.value)
    assert str(caught.value).endswith(f"give another place as {flag}")


def test_a_fault_of_no_file_says_what_it_is(tmp_path, monkeypatch):
    def fail(paths, root):
        raise OSError("the disk is on fire")

    monkeypatch.setattr(cache, "key_of", fail)
    message = load_error(write_set(tmp_path / "set", make_set()))
    assert message.startswith("the disk is on fire: check")


def test_bad_files_are_not_cached(tmp_path):
    folder = write_set(tmp_path / "set", make_set() | {TEST_LABELS: np.arange(12)})
    assert load_error(folder) == load_error(folder)
    assert not cache.cache_dir().exists()


@pytest.fixture
def famous(tmp_path, monkeypatch) -> Path:
    """A made-up set that passes for Fashion-MNIST."""
    arrays = make_set()
    arrays[TRAIN_LABELS] = np.arange(60) % 10
    arrays[TEST_LABELS] = np.arange(12) % 10
    folder = write_set(tmp_path / "download", arrays)
    digests = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in idx.FILE_NAMES
    }
    monkeypatch.setattr(known, "_SHA256", {"fashion_mnist": digests})
    return folder


def test_a_public_set_is_recognized_by_its_files(famous):
    dataset = datasets.load(data_dir=famous)
    assert dataset.name == "fashion_mnist"
    assert dataset.class_names[0] == "T-shirt/top"
    assert dataset.class_names[9] == "Ankle boot"


def test_a_changed_file_of_a_public_set_is_named(famous):
    path = famous / TEST_LABELS
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    message = load_error(famous)
    assert f"{TEST_LABELS} has sha256 {actual[:12]}" in message
    assert known._SHA256["fashion_mnist"][TEST_LABELS][:12] in message
    assert TRAIN_IMAGES not in message
    assert "again" in message


def test_swapped_files_of_a_public_set_are_named(famous):
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        train, test = famous / f"train-{kind}", famous / f"t10k-{kind}"
        train.rename(famous / "other")
        test.rename(train)
        (famous / "other").rename(test)
        message = load_error(famous)
        assert f"train-{kind} is t10k-{kind} under another name" in message
        assert f"t10k-{kind} is train-{kind} under another name" in message


def test_the_second_load_decodes_nothing(tmp_path, monkeypatch):
    folder = write_set(tmp_path / "set", make_set(), packed=True)
    dataset = datasets.load(data_dir=folder)
    monkeypatch.delattr(idx, "read_set")
    again = datasets.load(data_dir=folder)
    assert_same_arrays(dataset, again)
    assert again.name == dataset.name
    assert again.class_names == dataset.class_names
    assert again.source == dataset.source


def test_changed_files_of_the_same_age_are_decoded_again(tmp_path):
    folder = write_set(tmp_path / "set", make_set())
    times = (folder / TRAIN_IMAGES).stat().st_mtime_ns
    dataset = datasets.load(data_dir=folder)
    write_set(folder, make_set(seed=5))
    for path in folder.iterdir():
        os.utime(path, ns=(times, times))
    assert datasets.load(data_dir=folder).sha256 != dataset.sha256


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "pickle"])
def test_a_damaged_cache_entry_is_made_again(tmp_path, damage):
    folder = write_set(tmp_path / "set", make_set())
    dataset = datasets.load(data_dir=folder)
    (entry,) = cache.cache_dir().iterdir()
    content = entry.read_bytes()
    middle = content.index(dataset.train_images.tobytes()) + 100
    damaged = {
        "empty": b"",
        "cut": content[: len(content) // 2],
        "flipped": content[:middle] + b"\0\1\2\3" + content[middle + 4 :],
        "pickle": b"\x80\x04N.",
    }
    entry.write_bytes(damaged[damage])
    assert_same_arrays(datasets.load(data_dir=folder), dataset)
    assert entry.read_bytes() == content


def test_an_entry_of_other_content_is_not_believed(tmp_path):
    dataset = datasets.load(data_dir=write_set(tmp_path / "set", make_set()))
    path = cache.cache_dir() / "key.npz"
    cache.put("key", dataset)
    with np.load(path) as entry:
        content = dict(entry)
    np.savez(path, **content)
    assert_same_arrays(cache.get("key"), dataset)
    np.savez(path, **content | {"sha256": np.array("0" * 64)})
    assert cache.get("key") is None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    folder = write_set(tmp_path / "set", make_set())
    assert datasets.load(data_dir=folder).num_classes == 3


def test_a_failed_write_leaves_nothing_in_the_cache(tmp_path, monkeypatch):
    def full(*args, **arrays):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    datasets.load(data_dir=write_set(tmp_path / "set", make_set()))
    assert list(cache.cache_dir().iterdir()) == []


def test_the_cache_follows_the_environment(tmp_path, monkeypatch):
    assert datasets.cache_dir() == tmp_path / "cache/ssl_vae"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert datasets.cache_dir() == tmp_path / "home/.cache/ssl_vae"


def test_the_package_unpacked_in_the_cache_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_DEBIAN", Path("/absent/datasets/fashion-mnist"))
    folder = cache.cache_dir() / "debian/absent/datasets/fashion-mnist"
    write_set(folder, make_set(), packed=True)
    assert datasets.load().source == f"Debian package in {folder}"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("fashion-mnist", "fashion_mnist"), ("MNIST", "mnist"), ("kmnits", "kmnist")],
)
def test_an_unknown_name_gets_the_nearest(name, nearest):
    with pytest.raises(InputError, match=f"{name}.*nearest is '{nearest}'.*data_dir"):
        datasets.load(name)


def test_holdout_is_balanced_and_disjoint(tmp_path):
    dataset = datasets.load(data_dir=write_set(tmp_path / "set", make_set()))
    held = dataset.holdout(12)
    assert held.name == "set-validation"
    assert held.class_names == dataset.class_names
    np.testing.assert_array_equal(np.bincount(held.test_labels), [4, 4, 4])
    assert len(held.train_images) == len(held.train_labels) == 48
    images = np.concatenate([held.train_images, held.test_images])
    assert {i.tobytes() for i in images} == {i.tobytes() for i in dataset.train_images}
    first = np.flatnonzero(dataset.train_labels == 1)[:4]
    np.testing.assert_array_equal(
        held.test_images[held.test_labels == 1], dataset.train_images[first]
    )
    assert held.sha256 == dataset.holdout(12).sha256 != dataset.sha256


@pytest.mark.parametrize("num", [-3, 0, 10, 60, 63])
def test_holdout_refuses_an_unfit_number(tmp_path, num):
    dataset = datasets.load(data_dir=write_set(tmp_path / "set", make_set()))
    with pytest.raises(InputError, match=f"cannot hold out {num} .*choose"):
        dataset.holdout(num)


def test_the_command_says_what_it_found(tmp_path, monkeypatch, capsys):
    folder = write_set(tmp_path / "debian", make_set())
    monkeypatch.setattr(sources, "_DEBIAN", folder)
    assert command.main([]) == 0
    out, err = capsys.readouterr()
    assert out == (
        "debian: 60 train and 12 test images of 5x4, 3 classes, "
        f"from Debian package in {folder}\n"
    )
    assert err == ""


def test_the_command_reports_bad_input(capsys):
    assert command.main(["emnist"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: no data set is called 'emnist'")
    assert err.count("\n") == 1
    assert command.main(["emnist", "--quiet"]) == 2
    assert capsys.readouterr() == ("", "")


def test_the_command_says_names_that_are_no_utf_8_as_they_are(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    np.savez(
        folder / "set.npz",
        images=np.zeros([4, 5, 4], np.uint8),
        labels=np.arange(4) % 2,
    )
    said = subprocess.run(
        [sys.executable, "-m", "ssl_vae.datasets", f"npz:{folder}/set.npz"],
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
    )
    assert (said.returncode, said.stderr) == (0, b"")
    assert said.stdout.endswith(b"/caf\xe9/set.npz\n")


def test_the_command_answers_a_mistyped_argument_in_one_line(capsys):
    assert command.main(["digits", "--quit"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: unrecognized arguments: --quit; see python -m ssl_va")
    assert err.count("\n") == 1


def test_importing_the_package_is_light():
    code = (
        "import sys, ssl_vae.datasets as d; "
        "print([m for m in ('tensorflow_datasets', 'jax') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


@pytest.mark.skipif(not REAL_DATA, reason="SSL_VAE_DATA_DIR is not set")
def test_fashion_mnist_is_recognized_and_cached():
    dataset = datasets.load(data_dir=REAL_DATA)
    assert dataset.name == "fashion_mnist"
    assert dataset.train_images.shape == (60000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(dataset.test_labels), [1000] * 10)
    start = time.perf_counter()
    datasets.load(data_dir=REAL_DATA)
    assert time.perf_counter() - start < 2
