"""Data of one's own, from the flag to the table, and the mistakes that people make."""

import contextlib
import io
import os
import re
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import blobs
from PIL import Image

from ssl_vae import config as recipes
from ssl_vae import datasets
from ssl_vae.classifiers import svm
from ssl_vae.datasets import __main__ as command
from ssl_vae.datasets import npz, picture, stored, tfds
from ssl_vae.errors import InputError
from ssl_vae.experiment import run_experiment
from ssl_vae.plan import make_plan


@pytest.fixture(autouse=True)
def own_machine(tmp_path, monkeypatch):
    """No test sees this machine's data or cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def recipe(dataset, name="m1", **changes):
    config = recipes.load(recipes.recipe_path(name))
    small = {
        "dataset": str(dataset),
        "num_splits": 2,
        "importance_samples": 2,
        "model.latent_dim": 3,
        "model.hidden": (16,),
        "train.num_epochs": 3,
        "train.batch_size": 10,
    }
    config.update_from_flattened_dict(small | changes)
    return config


def load_error(name, data_dir=None) -> str:
    with pytest.raises(InputError) as caught:
        datasets.load(str(name), data_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_digits_need_no_file_and_have_a_balanced_test_part():
    digits, again = datasets.load("digits"), datasets.load("digits")
    assert digits.name == "digits"
    assert digits.image_shape == (8, 8, 1)
    assert len(digits.train_images) == 1437
    np.testing.assert_array_equal(np.bincount(digits.test_labels), [36] * 10)
    assert not digits.cross_validated
    assert digits.train_images.max() == 255
    assert digits.sha256 == again.sha256
    assert len(set(digits.train_sources.tolist())) == 1437
    assert "leave --data_dir out" in load_error("digits", "somewhere")


def test_digits_give_a_result(tmp_path):
    config = recipe("digits", labels=(100,), **{"train.learning_rate": 1e-2})
    results = run_experiment(config, tmp_path / "run")
    assert results.results[0].test_accuracy_mean > 0.4
    assert results.results[0].protocol == "inductive"
    assert results.dataset["class_names"] == [str(k) for k in range(10)]
    assert results.dataset["image_shape"] == [8, 8, 1]


def arrays(**changes):
    """What an .npz file of one's own holds: 60 images, 12 of them labeled, no test."""
    images, classes = blobs(60, seed=0)
    labels = np.where(np.arange(60) < 12, classes, -1)
    return {"images": images, "labels": labels} | changes


def write_npz(folder, **changes):
    path = folder / "My cells.npz"
    content = {k: v for k, v in arrays(**changes).items() if v is not None}
    np.savez_compressed(path, **content)
    return path


def test_an_npz_file_keeps_images_labels_and_rows_together(tmp_path):
    path = write_npz(tmp_path, extra=np.arange(3))
    data = datasets.load(f"npz:{path}")
    assert data.name == "my-cells"
    assert data.source == str(path)
    assert data.image_shape == (8, 8, 1)
    assert data.class_names == ("0", "1", "2", "3")
    assert data.num_labeled == 12
    assert data.cross_validated
    assert data.identity["test"] == 0
    given = arrays()
    for image, label, row in zip(
        data.train_images, data.train_labels, data.train_sources, strict=True
    ):
        np.testing.assert_array_equal(image[..., 0], given["images"][row])
        assert label == given["labels"][row]
    labeled = data.train_labels >= 0
    np.testing.assert_array_equal(data.test_images, data.train_images[labeled])
    np.testing.assert_array_equal(data.test_labels, data.train_labels[labeled])


def test_an_npz_file_is_the_same_data_from_the_cache(tmp_path, monkeypatch):
    path = write_npz(tmp_path)
    data = datasets.load(f"npz:{path}")
    monkeypatch.delattr(np, "savez")  # nothing is kept anew
    again = datasets.load(f"npz:{path}")
    assert again.sha256 == data.sha256
    assert again.cross_validated
    np.testing.assert_array_equal(again.train_sources, data.train_sources)


def test_floats_and_wide_integers_are_the_same_images(tmp_path):
    sha256 = datasets.load(f"npz:{write_npz(tmp_path)}").sha256
    images = arrays()["images"]
    for same in (images / 255, (images / 255).astype("f4"), images.astype("i8")):
        path = write_npz(tmp_path, images=same)
        assert datasets.load(f"npz:{path}").sha256 == sha256


def test_labels_may_be_strings_and_color_images_have_a_test_part(tmp_path):
    images, classes = blobs(60, seed=0)
    color = np.stack([images] * 3, axis=-1)
    names = np.array(["wren", "owl", "crow", "jay"])[classes]
    names[40:] = ""
    path = write_npz(
        tmp_path,
        images=color,
        labels=names,
        test_images=color[:8],
        test_labels=names[:8],
    )
    data = datasets.load(f"npz:{path}")
    assert data.class_names == ("crow", "jay", "owl", "wren")
    assert data.image_shape == (8, 8, 3)
    assert not data.cross_validated
    assert data.identity["test"] == 8
    assert (np.bincount(data.train_labels[data.train_labels >= 0]) == 10).all()
    row = data.train_sources.tolist().index(1)
    assert data.class_names[data.train_labels[row]] == names[1]


def test_minus_one_among_names_of_classes_is_unlabeled(tmp_path):
    told = arrays()
    names = np.array(["crow", "jay", "owl", "wren"])[told["labels"] % 4].tolist()
    for i in range(0, 60, 3):
        names[i] = -1
    np.savez(tmp_path / "x.npz", images=told["images"], labels=np.array(names))
    data = datasets.load(f"npz:{tmp_path / 'x.npz'}")
    assert data.class_names == ("crow", "jay", "owl", "wren")
    assert data.num_labeled == 40


IMAGES = arrays()["images"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": None, "x": IMAGES}, "has no array images but labels, x; wanted"),
        ({"labels": None}, "has no array labels but images; wanted"),
        ({"labels": np.arange(59)}, r"labels has the shape \(59,\) and images \(60"),
        ({"labels": np.zeros([60, 4], int)}, r"labels has the shape \(60, 4\)"),
        ({"labels": np.arange(60) % 2 / 2}, "labels is of type float64: integers are"),
        ({"labels": np.array(["a", None] * 30)}, "labels holds Python objects"),
        ({"labels": np.full(60, -1)}, "no training image has a label"),
        ({"labels": np.arange(60) % 2 - 1}, "all labeled training images have the lab"),
        ({"labels": np.arange(60) % 3 - 2}, "labels has -2: labels from 0 on are"),
        ({"images": IMAGES.reshape(60, 64)}, r"images has the shape \(60, 64\): \[N"),
        ({"images": np.zeros([60, 3, 8, 8])}, "channels must come last"),
        ({"images": np.zeros([60, 8, 8, 4])}, "C = 1 .gray. or 3"),
        ({"images": np.zeros([0, 8, 8]), "labels": np.arange(0)}, "there is no image"),
        ({"images": np.zeros([60, 2, 300], bool)}, "of type bool: uint8 or float"),
        ({"images": np.zeros([60, 2, 300])}, "more than 256 pixels a side"),
        ({"images": IMAGES / 1.0}, "float64 with values from 0.0 to 209.0: uint8, or"),
        ({"images": IMAGES % 2}, "of type uint8 with values 0 and 1 alone"),
        ({"images": IMAGES / np.nan}, "with values from nan to nan"),
        ({"images": IMAGES.astype("i4") - 9}, "int32 with values from -9 to"),
        ({"test_images": IMAGES}, "has test_images alone of the test arrays"),
        (
            {"test_images": IMAGES[:, :5], "test_labels": np.arange(60) % 4},
            "images of one size",
        ),
        (
            {"test_images": IMAGES, "test_labels": np.arange(60)},
            "has the label 4, which no training image has",
        ),
        (
            {"test_images": IMAGES, "test_labels": np.arange(60) % 4 - 1},
            "test_labels has unlabeled images: leave those out",
        ),
        (
            {"test_images": IMAGES, "test_labels": np.array(["a"] * 60)},
            "only one has strings",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_an_npz_file_that_will_not_do_is_told_in_one_line(tmp_path, changes, says):
    path = write_npz(tmp_path, **changes)
    message = load_error(f"npz:{path}")
    assert str(path) in message
    assert re.search(says, message), message
    assert not (tmp_path / "cache").exists()


def header_of(shape, dtype="|u1") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"shape": shape, "fortran_order": False, "descr": dtype}
    )
    return stream.getvalue()


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((2**40, 28, 28), "claims 862017116176384 bytes, more than the limit of 4 GiB"),
        ((60, 8, 9), "does not hold what its header claims"),
        ((-60, -8, 8), "does not hold what its header claims"),
    ],
)
def test_a_header_that_lies_is_refused_before_its_array_is_made(tmp_path, shape, says):
    path = tmp_path / "lies.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header_of(shape) + IMAGES.tobytes())
        archive.writestr("labels.npy", header_of((60,)) + bytes(60))
    assert re.search(says, load_error(f"npz:{path}"))


def test_an_archive_that_unpacks_to_gigabytes_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("images.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(header_of((60, 8, 8)))
        for _ in range(64):
            stream.write(bytes(1 << 20))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.npy", header_of((60,)) + bytes(60))
    assert "does not hold what its header claims" in load_error(f"npz:{path}")


@pytest.mark.parametrize("name", ["images", "labels"])
def test_a_header_of_megabytes_is_refused_unread(tmp_path, name):
    path, length = tmp_path / "blanks.npz", 64 << 20
    long = b"\x93NUMPY\2\0" + struct.pack("<I", length) + bytes(length)
    parts = {"images": header_of((60, 8, 8)) + IMAGES.tobytes()}
    parts |= {"labels": header_of((60,)) + bytes(60)} | {name: long}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in parts.items():
            archive.writestr(f"{member}.npy", content)
    del long, parts, content
    tracemalloc.start()
    message = load_error(f"npz:{path}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message == (
        f"{path}: {name} has a header of {length} bytes, more than the limit of 10000: "
        "write it again"
    )
    assert peak < 4 << 20


def test_an_archive_that_overstates_what_it_stores_is_refused(tmp_path, monkeypatch):
    """Images that would be left in the file, and of which a part is not there."""
    path = tmp_path / "short.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labels.npy", header_of((6000,)) + bytes(3000) + b"1" * 3000)
        archive.writestr("images.npy", header_of((6000, 8, 8)) + IMAGES.tobytes())
        archive.getinfo("images.npy").file_size += 5940 * 64  # in the directory alone
    monkeypatch.setattr(npz, "LARGE", 1000)
    message = load_error(f"npz:{path}")
    assert message == (
        f"{path}: images does not hold what its header claims: write it again"
    )


def test_an_array_under_two_names_is_refused(tmp_path):
    """The one is checked, and the other might be read."""
    path = write_npz(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("images", b"another")
    assert "two arrays of one name" in load_error(f"npz:{path}")


@pytest.mark.parametrize("damage", ["cut", "text", "flipped", "empty"])
def test_a_damaged_npz_file_is_told_in_one_line(tmp_path, damage):
    path = write_npz(tmp_path)
    content = path.read_bytes()
    damaged = {
        "cut": content[:500],
        "text": b"images, labels",
        "flipped": content[:300] + b"\0\1\2\3" * 20 + content[380:],
        "empty": b"",
    }
    path.write_bytes(damaged[damage])
    assert str(path) in load_error(f"npz:{path}")


def test_an_npz_path_that_is_none_is_told(tmp_path):
    assert "absent.npz does not exist" in load_error(f"npz:{tmp_path}/absent.npz")
    assert "is not a file" in load_error(f"npz:{tmp_path}")
    assert "leave --data_dir out" in load_error(f"npz:{write_npz(tmp_path)}", tmp_path)


def write_folder(root):
    """Images in a layout that will do: 12 labeled ones of four classes, 48 others."""
    images, classes = blobs(60, seed=0)
    for number, (image, k) in enumerate(zip(images, classes, strict=True)):
        folder = "abcd"[k] if number < 12 else "unlabeled"
        save(root / folder / f"{number:02}.png", image)
    return root


def test_a_name_that_is_no_text_and_a_pipe_among_the_images_do_no_harm(tmp_path):
    root = write_folder(tmp_path / "photos")
    (root / "a").rename(root / os.fsdecode(b"caf\xe9"))
    os.mkfifo(root / "b" / "pipe.png")
    data = datasets.load(f"folder:{root}")
    assert data.class_names == ("b", "c", r"caf\xe9", "d")
    assert data.num_labeled == 12


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


GRAY = np.full([8, 8], 90, np.uint8)
COLOR = np.stack([GRAY, GRAY // 2, GRAY // 3], axis=-1)


def test_a_folder_keeps_images_classes_and_file_names_together(tmp_path):
    root = write_folder(tmp_path / "Birds of 2026")
    data = datasets.load(f"folder:{root}")
    assert data.name == "birds-of-2026"
    assert data.image_shape == (8, 8, 1)
    assert data.class_names == ("a", "b", "c", "d")
    assert (len(data.train_images), data.num_labeled) == (60, 12)
    assert data.cross_validated
    assert data.notes == ()
    for image, label, name in zip(
        data.train_images, data.train_labels, data.train_sources, strict=True
    ):
        np.testing.assert_array_equal(
            image[..., 0], np.asarray(Image.open(root / name))
        )
        folder = name.split("/")[0]
        assert folder == (data.class_names[label] if label >= 0 else "unlabeled")


def test_a_folder_is_the_same_data_from_the_cache_and_another_when_an_image_moves(
    tmp_path, monkeypatch
):
    root = write_folder(tmp_path / "birds")
    data = datasets.load(f"folder:{root}")
    with monkeypatch.context() as patch:
        patch.delattr(picture, "read_all")
        again = datasets.load(f"folder:{root}")
    assert again.sha256 == data.sha256
    np.testing.assert_array_equal(again.train_sources, data.train_sources)
    (root / "unlabeled" / "13.png").rename(root / "b" / "13.png")
    assert datasets.load(f"folder:{root}").num_labeled == 13


def test_a_test_folder_is_measured_on(tmp_path):
    root = write_folder(tmp_path / "birds")
    for k, name in enumerate("abcd"):
        save(root / "Test" / name / "t.jpeg", blobs(4, seed=1)[0][k])
    data = datasets.load(f"folder:{root}")
    assert not data.cross_validated
    assert len(data.train_images) == 60
    assert sorted(data.test_labels) == [0, 1, 2, 3]


def test_what_is_done_to_images_is_told_in_a_line_each(tmp_path):
    root = write_folder(tmp_path / "birds")
    save(root / "a" / "wide.png", np.full([8, 30], 90, np.uint8))
    save(root / "a" / "color.JPG", COLOR)
    clear = np.dstack([COLOR, np.zeros_like(GRAY)])
    save(root / "a" / "clear.png", clear)
    for name in ("a/.DS_Store", "a/notes.txt", "README.md", ".git/config", "a/x/y.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("")
    data = datasets.load(f"folder:{root}")
    resized, gray, alpha, skipped = data.notes
    assert resized == (
        "1 of 63 images resized to 8x8: the most common of 2 sizes, and at most 64 "
        "pixels a side; those of another ratio of the sides are stretched"
    )
    assert gray.startswith("61 gray images among color ones")
    assert alpha.startswith("1 images with an alpha channel")
    assert skipped.startswith("4 files skipped")
    assert data.image_shape == (8, 8, 3)
    white = data.train_images[data.train_sources.tolist().index("a/clear.png")]
    assert (white == 255).all()


def test_images_that_all_differ_in_size_get_the_median_and_not_the_smallest(tmp_path):
    for k in range(24):  # from 10x20 to 33x43
        pixels = np.full([10 + k, 20 + k], 200, np.uint8)
        save(tmp_path / "crops" / "ab"[k % 2] / f"{k}.png", pixels)
    data = datasets.load(f"folder:{tmp_path / 'crops'}")
    assert data.image_shape == (21, 31, 1)
    (note,) = data.notes
    assert note.startswith("23 of 24 images resized to 31x21: the median of 24 sizes")
    for k in range(3):  # now three of 27 are of one size
        save(tmp_path / "crops" / "a" / f"more{k}.png", np.zeros([12, 12], np.uint8))
    data = datasets.load(f"folder:{tmp_path / 'crops'}")
    assert data.image_shape == (12, 12, 1)
    assert "the most common of 25 sizes" in data.notes[0]


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((8, 8), (8, 8)),
        ((64, 10), (10, 64)),
        ((300, 400), (64, 48)),
        ((1, 300), (64, 1)),
    ],
)
def test_photographs_are_made_small_and_keep_their_shape(tmp_path, shape, size):
    for name in ("a/1.jpg", "b/2.jpg"):
        save(tmp_path / name, np.full([*shape, 3], 200, np.uint8))
    data = datasets.load(f"folder:{tmp_path}")
    assert data.image_shape == (size[1], size[0], 3)
    np.testing.assert_allclose(data.train_images, 200, atol=3)


def test_a_photograph_that_was_taken_sideways_is_upright(tmp_path):
    pixels = np.zeros([20, 40], np.uint8)
    pixels[:, :20] = 255  # bright on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter, clockwise
    save(tmp_path / "a" / "1.jpg", pixels, exif=exif, quality=100)
    save(tmp_path / "b" / "2.jpg", np.ascontiguousarray(np.rot90(pixels, -1)))
    data = datasets.load(f"folder:{tmp_path}")
    assert data.image_shape == (40, 20, 1)
    assert (data.train_images[:, 2] > 240).all()  # bright on top
    assert (data.train_images[:, -2] < 15).all()


def test_gray_of_sixteen_bits_keeps_its_shades(tmp_path):
    shades = (np.arange(64).reshape(8, 8) * 1024).astype(np.uint16)
    for name in ("a/1.png", "b/2.png"):
        save(tmp_path / name, shades)
    data = datasets.load(f"folder:{tmp_path}")
    np.testing.assert_array_equal(data.train_images[0, ..., 0], shades >> 8)


@pytest.mark.parametrize(
    ("top", "dtype", "brightest"),
    [(255, np.uint16, 0), (4095, np.uint16, 15), (1, np.uint8, 1)],
)
def test_images_that_are_as_good_as_black_are_refused(tmp_path, top, dtype, brightest):
    shades = np.linspace(0, top, 64).reshape(8, 8).astype(dtype)
    for name in ("a/1.png", "b/2.png"):
        save(tmp_path / name, shades)
    with pytest.raises(InputError, match=f"no pixel is brighter than {brightest} of"):
        datasets.load(f"folder:{tmp_path}")


def test_sixteen_bits_a_pixel_cost_no_eight_times_as_much(tmp_path):
    save(tmp_path / "1.png", np.zeros([1000, 1000], np.uint16))
    tracemalloc.start()
    picture.read(tmp_path / "1.png", (64, 64), color=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize(
    ("largest", "cores", "at_once"),
    [
        (28 * 28, 3, 3),
        (28 * 28, 200, 200),
        (picture.MAX_PIXELS, 200, 2),
        (10**12, 3, 1),
    ],
)
def test_fewer_large_images_are_unpacked_at_once(
    largest, cores, at_once, tmp_path, monkeypatch
):
    save(tmp_path / "1.png", GRAY)
    pools = []

    def pool(num):
        pools.append(num)
        return ThreadPoolExecutor(num)

    monkeypatch.setattr(picture, "ThreadPoolExecutor", pool)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    paths = [tmp_path / "1.png"]
    (image,) = picture.read_all(paths, (8, 8), color=False, largest=largest)
    np.testing.assert_array_equal(image[..., 0], GRAY)
    assert pools == [at_once]


def test_the_largest_image_of_a_folder_says_how_many_are_unpacked_at_once(
    tmp_path, monkeypatch
):
    root, told = write_folder(tmp_path / "birds"), []
    save(root / "a" / "large.png", np.zeros([30, 50], np.uint8))
    read_all = picture.read_all
    monkeypatch.setattr(
        picture, "read_all", lambda *a, **k: told.append(k) or read_all(*a, **k)
    )
    datasets.load(f"folder:{root}")
    assert {each["largest"] for each in told} == {30 * 50}


def flat(root):
    save(root / "1.png", GRAY)


def nested(root):
    for name in ("train/a/1.png", "train/b/2.png", "test/a/1.png"):
        save(root / name, GRAY)


def one_class(root):
    save(root / "a" / "1.png", GRAY)
    save(root / "unlabeled" / "2.png", GRAY)


def no_class(root):
    save(root / "Unlabelled" / "2.png", GRAY)


def empty_class(root):
    write_folder(root)
    (root / "e").mkdir()
    (root / "e" / "1.gif").write_bytes(b"GIF89a")


def flat_test(root):
    write_folder(root)
    save(root / "test" / "1.png", GRAY)


def unknown_test(root):
    write_folder(root)
    save(root / "test" / "e" / "1.png", GRAY)


def nothing(root):
    root.mkdir()


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        (flat, "set has 1 images and no subfolder that says their class; wanted: DIR/"),
        (
            nested,
            "set/train holds folders and no images; if they are the classes, give",
        ),
        (one_class, "set has one class, 'a', and a classifier needs two; wanted: DIR/"),
        (no_class, "set has no class and a classifier needs two; wanted: DIR/<class>"),
        (nothing, "set has no class and a classifier needs two; wanted: DIR/<class>"),
        (empty_class, "set/e has no PNG or JPEG images but 1 files of other kinds: fi"),
        (flat_test, "set/test has 1 images and no subfolder that says their class; wa"),
        (unknown_test, "set/test has the label e, which no training image has"),
    ],
)
def test_another_layout_is_told_with_the_one_that_is_wanted(tmp_path, layout, says):
    layout(tmp_path / "set")
    assert says in load_error(f"folder:{tmp_path / 'set'}")


def png_of(width, height) -> bytes:
    """A small file that claims so many pixels."""
    head = struct.pack(">II5B", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + head
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(head)) + chunk
    return start + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\0IDAT"


def jpeg() -> bytes:
    stream = io.BytesIO()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(256, size=[99, 99]).astype("u1")).save(stream, "JPEG")
    return stream.getvalue()


def test_the_command_says_what_a_folder_holds(tmp_path, capsys):
    root = write_folder(tmp_path / "birds")
    (root / ".DS_Store").touch()
    assert command.main([f"folder:{root}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 files skipped: hidden, not PNG or JPEG, or misplaced",
        "birds: 60 train (12 labeled) and no test images of 8x8, 4 classes, from "
        f"{root}",
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "cut.jpg",
            jpeg()[:3000],
            "cannot be read as PNG or JPEG (image file is trunc",
        ),
        ("text.png", b"hello", "cannot be read as PNG or JPEG (not such an image)"),
        ("empty.png", b"", "cannot be read as PNG or JPEG (not such an image)"),
        ("gif.png", b"GIF89a" + bytes(40), "(not such an image): replace or remove it"),
        ("head.png", png_of(8, 8), "cannot be read as PNG or JPEG ("),
        ("large.png", png_of(9000, 9000), "is too large: 9000x9000 pixels, and the l"),
        ("larger.png", png_of(12000, 12000), "is too large: 12000x12000 pixels, and"),
        ("bomb.png", png_of(2**30, 2**30), "is too large: "),
    ],
)
def test_a_file_that_is_damaged_or_too_large_is_named(tmp_path, name, content, says):
    root = write_folder(tmp_path / "birds")
    (root / "a" / name).write_bytes(content)
    message = load_error(f"folder:{root}")
    assert message.startswith(str(root / "a" / name))
    assert says in message
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_is_none_is_told(tmp_path):
    assert "absent does not exist" in load_error(f"folder:{tmp_path}/absent")
    (tmp_path / "file").touch()
    assert "is not a folder" in load_error(f"folder:{tmp_path}/file")
    assert "leave --data_dir out" in load_error(f"folder:{tmp_path}", tmp_path)


def write_tfds(folder, name="little_birds", split="train", shape=(8, 8, 3), **features):
    """Prepares a TFDS set without TensorFlow, whose images are of PIL."""
    import tensorflow_datasets as stock

    given = name

    class Made(stock.core.GeneratorBasedBuilder):
        name = given
        VERSION = stock.core.Version("1.0.0")

        def _info(self):
            label = stock.features.ClassLabel(names=["owl", "crow", "wren", "jay"])
            image = stock.features.Image(shape=shape)
            both = {"image": image, "label": label} | features
            given = stock.features.FeaturesDict(both)
            return stock.core.DatasetInfo(builder=self, features=given)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples()}

        def _generate_examples(self):
            for number, (image, k) in enumerate(zip(*blobs(24, seed=0), strict=True)):
                color = Image.fromarray(image).convert("RGB")
                if "image" in features:
                    color = np.asarray(color, features["image"].np_dtype)
                yield number, {"image": color, "label": int(k)}

    with contextlib.redirect_stdout(io.StringIO()):
        Made(data_dir=folder).download_and_prepare(file_format="array_record")
    return folder


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    import tensorflow_datasets as stock

    folder = tmp_path_factory.mktemp("tfds")
    with stock.core.registered.skip_registration():
        write_tfds(folder)
        write_tfds(folder, "other_split", split="validation")
        write_tfds(folder, "many_sizes", shape=(None, None, 3))
        write_tfds(folder, "numbers", label=stock.features.Scalar(np.int64))
        tensor = stock.features.Tensor(shape=(8, 8, 3), dtype=np.uint8)
        write_tfds(folder, "tensors", image=tensor)
    return folder


def test_any_prepared_tfds_set_is_read_with_its_class_names(tfds_dir, monkeypatch):
    data = datasets.load("tfds:little_birds", tfds_dir)
    assert data.name == "little_birds"
    assert data.class_names == ("owl", "crow", "wren", "jay")
    assert data.image_shape == (8, 8, 3)
    assert data.num_labeled == len(data.train_images) == 24
    assert data.cross_validated
    monkeypatch.setenv("TFDS_DATA_DIR", str(tfds_dir))
    assert datasets.load("tfds:little_birds").sha256 == data.sha256


def test_a_large_tfds_set_is_the_one_that_it_would_be_in_memory(
    tfds_dir, tmp_path, monkeypatch
):
    expected = datasets.load("tfds:little_birds", tfds_dir)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(stored, "LARGE", 1000)
    monkeypatch.setattr(tfds, "_AT_A_TIME", 7)
    data = datasets.load("tfds:little_birds", tfds_dir)
    assert isinstance(data.train_images, stored.StoredImages)
    assert data.identity == expected.identity


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("other_split", "and the splits validation: image, label and train are needed"),
        ("many_sizes", "(None, None, 3): images of one size are needed, at most 256"),
        ("numbers", "the label Scalar(shape=(), dtype=int64): an Image of uint8 and"),
        ("tensors", "the image Tensor(shape=(8, 8, 3), dtype=uint8) and the label"),
        ("little_birds:2.0.0", "--dataset=tfds:little_birds:2.0.0: not prepared in"),
        ("cifar10", "pip install tensorflow, or prepare it on another machine and"),
    ],
)
def test_a_tfds_set_that_will_not_do_is_told_in_one_line(tfds_dir, name, says):
    assert says in load_error(f"tfds:{name}", tfds_dir)


def test_images_of_sixteen_bits_are_refused(tfds_dir, tmp_path):
    """They would all be white: nothing here scales them."""
    shutil.copytree(tfds_dir / "little_birds", tmp_path / "little_birds")
    path = tmp_path / "little_birds/1.0.0/features.json"
    assert path.read_text().count('"uint8"') == 1
    path.write_text(path.read_text().replace('"uint8"', '"uint16"'))
    message = load_error("tfds:little_birds", tmp_path)
    assert "the image Image(shape=(8, 8, 3), dtype=uint16) and the label" in message
    assert "an Image of uint8 and a ClassLabel are needed" in message


@pytest.fixture(scope="module")
def cross_validated(tmp_path_factory):
    """A finished run on 60 images with 12 labels and no test set."""
    folder = tmp_path_factory.mktemp("cross")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        config = recipe(f"npz:{write_npz(folder)}", **{"train.num_epochs": 60})
        return folder, config, run_experiment(config, folder / "run")


def test_without_a_test_set_accuracy_is_by_cross_validation(cross_validated):
    _, _, results = cross_validated
    (row,) = results.results
    assert row.protocol == "cross_validation"
    assert row.labels == 12
    assert row.split_seeds == [0, 1, 2]  # three labels a class
    assert row.test_accuracy_mean > 0.8
    table = results.table([12])
    assert "cross-validated accuracy %" in table
    assert "folds" in table
    assert "test accuracy" not in table
    assert len(row.calibration) == 3


def test_the_kept_classifier_of_a_cross_validation_has_all_labels(cross_validated):
    folder, _, _ = cross_validated
    kept = svm.load_svm(folder / "run" / "classifier.skops")
    assert kept[-1].shape_fit_ == (12, 3)


def test_the_same_call_repeats_the_numbers_from_any_folder(
    cross_validated, monkeypatch
):
    folder, config, results = cross_validated
    monkeypatch.chdir(folder)
    config = recipes.ConfigDict(config.to_dict())
    config.dataset = "npz:My cells.npz"
    assert make_plan(config, folder / "run").finished == results


def test_fewer_labels_are_measured_on_all_that_were_not_given(tmp_path):
    config = recipe(f"npz:{write_npz(tmp_path)}", labels=(8, 12))
    plan = make_plan(config, tmp_path / "run")
    split = plan.splits(8).split(0)
    assert len(split.labeled) == 4
    assert len(split.measured) == 8


def test_five_labels_end_in_a_result(tmp_path):
    labels = np.where(np.arange(60) < 5, np.arange(60) % 2, -1)
    config = recipe(f"npz:{write_npz(tmp_path, labels=labels)}")
    results = run_experiment(config, tmp_path / "run")
    (row,) = results.results
    assert (row.labels, row.split_seeds) == (5, [0, 1])
    assert (tmp_path / "run" / "confidence.png").exists()


def test_five_labels_of_five_classes_end_in_a_line(tmp_path):
    labels = np.where(np.arange(60) < 5, np.arange(60), -1)
    config = recipe(f"npz:{write_npz(tmp_path, labels=labels)}")
    with pytest.raises(InputError, match="--labels=5: class '0' has a single label"):
        run_experiment(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_validation_run_holds_out_labeled_images(tmp_path):
    labels = np.where(np.arange(60) < 48, np.arange(60) % 4, -1)
    path = write_npz(tmp_path, labels=labels)
    config = recipe(f"npz:{path}", evaluate_on="validation")
    plan = make_plan(config, tmp_path / "run")
    assert plan.data.name == "my-cells-validation"
    assert not plan.data.cross_validated
    assert plan.recipe.labels == (40,)
    assert len(plan.data.train_sources) == len(plan.data.train_images) == 52
    labels = np.where(np.arange(60) < 48, np.arange(60) % 3, -1)
    labels[0] = 3  # alone in its class
    config.dataset = f"npz:{write_npz(tmp_path, labels=labels)}"
    with pytest.raises(InputError, match="holds out 2 .* one has only 1; label more"):
        make_plan(config, tmp_path / "run")
    config.dataset = f"npz:{write_npz(tmp_path)}"
    with pytest.raises(InputError, match="a sixth of 12 is fewer than 4"):
        make_plan(config, tmp_path / "run")


def test_joint_models_are_cross_validated_too(tmp_path):
    labels = np.where(np.arange(60) < 22, np.arange(60) % 4, -1)
    few = {"few.labels": 0, "num_splits": 1, "train.labeled_batch_size": 8}
    changes = {"train.batch_size": 18, "train.warmup_epochs": 1, "model.alpha": 5.0}
    config = recipe(
        f"npz:{write_npz(tmp_path, labels=labels)}",
        "m2",
        **few,
        **changes,
        **{"train.num_epochs": 12, "train.learning_rate": 1e-2},
    )
    results = run_experiment(config, tmp_path / "run")
    (row,) = results.results
    assert row.protocol == "cross_validation"
    assert (row.labels, row.split_seeds) == (22, [0, 1, 2, 3, 4])
    assert row.test_accuracy_mean > 0.6
    assert run_experiment(config, tmp_path / "run") == results
