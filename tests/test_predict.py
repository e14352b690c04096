"""Classes of new images, by the classifiers that runs have kept."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import OWN, blobs
from PIL import Image

import ssl_vae
from ssl_vae import datasets, evaluate, predict, trained
from ssl_vae.datasets import class_folders, picture
from ssl_vae.errors import InputError
from ssl_vae.export import __main__ as export
from ssl_vae.results import Results


@pytest.fixture
def m1_run(finished):
    return finished("m1")


@pytest.fixture
def photos(tmp_path):
    """A folder with six images and a text, and their labels."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    images, labels = blobs(6, seed=5)
    for i, image in enumerate(images):
        place = folder / "more" if i > 3 else folder
        Image.fromarray(image).save(place / f"{i}.png")
    (folder / "notes.txt").write_text("not an image")
    return folder, labels


@pytest.mark.parametrize("recipe", OWN)
def test_a_kept_classifier_has_the_accuracy_of_its_run(recipe, finished, small_data):
    workdir = finished(recipe)
    accuracy = Results.of_finished_run(workdir).results[0].test_accuracy[0]
    data = datasets.load("corners", small_data)
    classifier = ssl_vae.load(workdir)
    assert classifier.class_names == data.class_names
    assert classifier.num_labels == 8
    probs = classifier.predict_proba(data.test_images)
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-6)
    right = probs.argmax(axis=1) == data.test_labels
    assert np.mean(right) == pytest.approx(accuracy, abs=0.03)
    names = classifier.predict(data.test_images)
    assert (names == np.array(data.class_names)[probs.argmax(axis=1)]).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"class_names": ["a", "b"]}, "2 class_names, .* tells 4 classes"),
        ({"image_shape": [4, 16, 1]}, "image_shape is not that of"),
    ],
)
def test_results_that_tell_of_another_classifier_are_refused(
    m1_run, tmp_path, change, told
):
    run = Path(shutil.copytree(m1_run, tmp_path / "run"))
    content = json.loads((run / "results.json").read_text())
    content["dataset"] |= change
    (run / "results.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"results.json: {told}"):
        ssl_vae.load(run)


def test_images_may_be_floats_and_without_channels(m1_run):
    images, _ = blobs(5, seed=3)
    classifier = ssl_vae.load(m1_run)
    probs = classifier.predict_proba(images)
    np.testing.assert_allclose(classifier.predict_proba(images / 255.0), probs)
    np.testing.assert_allclose(classifier.predict_proba(images[..., None]), probs)


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros([2, 8, 9], np.uint8), r"takes \[N, 8, 8, 1\]"),
        (np.zeros([2, 8, 8, 3], np.uint8), r"takes \[N, 8, 8, 1\]"),
        (np.zeros([0, 8, 8], np.uint8), r"takes \[N, 8, 8, 1\]"),
        (np.zeros([8, 8], np.uint8), r"takes \[N, 8, 8, 1\]"),
        (np.full([2, 8, 8], 200.0), r"lie in \[0, 1\]"),
        (np.full([2, 8, 8], np.nan), r"lie in \[0, 1\]"),
        (np.zeros([2, 8, 8], np.int64), "must be uint8, or floats"),
    ],
)
def test_images_of_another_kind_are_refused(m1_run, images, message):
    with pytest.raises(InputError, match=message):
        ssl_vae.load(m1_run).predict(images)


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no finished run is there"):
        ssl_vae.load(tmp_path)


def test_a_run_from_before_images_were_described_is_refused(m1_run, tmp_path):
    (tmp_path / "config.json").write_bytes((m1_run / "config.json").read_bytes())
    results = json.loads((m1_run / "results.json").read_text())
    del results["dataset"]["image_shape"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(InputError, match="a run of an earlier version"):
        ssl_vae.load(tmp_path)


def test_a_run_that_lacks_a_file_is_refused_in_one_line(m1_run, tmp_path):
    for name in ("config.json", "results.json"):
        (tmp_path / name).write_bytes((m1_run / name).read_bytes())
    with pytest.raises(InputError, match="not a whole run") as refused:
        ssl_vae.load(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_damaged_classifier_is_refused(m1_run, tmp_path):
    shutil.copytree(m1_run, tmp_path / "run")
    file = tmp_path / "run" / "classifier.skops"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="classifier.skops is damaged"):
        ssl_vae.load(tmp_path / "run")


def test_damaged_weights_are_refused_in_one_line(m1_run, tmp_path):
    shutil.copytree(m1_run, tmp_path / "run")
    files = (p for p in (tmp_path / "run" / "vae_weights").rglob("*") if p.is_file())
    largest = max(files, key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(InputError, match="damaged") as refused:
        ssl_vae.load(tmp_path / "run")
    assert "\n" not in str(refused.value)


def test_the_command_names_a_class_for_every_image_in_a_folder(m1_run, photos, capsys):
    folder, labels = photos
    assert predict.main([f"--workdir={m1_run}", "--format=csv", str(folder)]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["image"].rsplit("/", 1)[1] for row in rows] == [
        f"{i}.png" for i in range(6)
    ]
    assert [row["class"] for row in rows] == [str(label) for label in labels]
    for row in rows:
        assert row["runner_up"] != row["class"]
        assert 0 <= float(row["runner_up_probability"]) <= float(row["probability"])


def test_the_command_writes_json_lines_and_a_table(m1_run, photos, capsys):
    folder, labels = photos
    one = str(folder / "2.png")
    assert predict.main([f"--workdir={m1_run}", "--format=json", one]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["image"], record["class"]) == (one, str(labels[2]))
    assert predict.main([f"--workdir={m1_run}", one]) == 0
    assert capsys.readouterr().out.startswith(f"{one}  {labels[2]} ")


def test_whatever_the_number_of_images_few_numbers_are_compiled(m1_run, monkeypatch):
    asked, map_images = [], evaluate.map_images

    def counted(function, params, pixels):
        asked.append(len(pixels))
        return map_images(function, params, pixels)

    monkeypatch.setattr(evaluate, "map_images", counted)
    monkeypatch.setattr(trained, "AT_A_TIME", 32)
    classifier, (images, _) = ssl_vae.load(m1_run), blobs(70, seed=3)
    probs = classifier.predict_proba(images)
    assert asked == [32, 32, 8]
    for num, filled in ((1, 1), (3, 4), (6, 8), (32, 32)):
        asked.clear()
        some = classifier.predict_proba(images[:num])
        assert asked == [filled]
        np.testing.assert_allclose(some, probs[:num], rtol=1e-4)


def test_a_file_name_that_is_not_utf_8_is_written_as_it_is(m1_run, photos):
    folder, _ = photos
    name = os.fsencode(folder) + b"/caf\xe9.png"
    shutil.copy(folder / "2.png", name)
    command = [sys.executable, "-m", "ssl_vae.predict", f"--workdir={m1_run}", name]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(name + b"  ")


@pytest.mark.parametrize(
    ("module", "args", "message"),
    [
        (predict, [], "the following arguments are required: --workdir, IMAGE"),
        (predict, ["--workdir=run", "--format=xml", "a.png"], "--format: invalid"),
        (export, ["--nope", "--workdir=run"], "unrecognized arguments: --nope"),
    ],
)
def test_a_mistyped_argument_is_one_line(module, args, message, capsys):
    assert module.main(args) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert error.startswith("error: ") and message in error
    assert error.endswith(f"; see {module.PROGRAM} --help\n")


def test_images_that_it_cannot_be_meant_for_are_refused_by_name(m1_run, photos, capsys):
    folder, _ = photos
    cases = {
        "wide.png": (Image.new("L", (9, 8)), "9x8 pixels of gray"),
        "small.png": (Image.new("L", (4, 4)), "4x4 pixels of gray"),
        "color.png": (Image.new("RGB", (8, 8)), "8x8 pixels in color"),
    }
    for name, (image, message) in cases.items():
        image.save(folder / name)
        assert predict.main([f"--workdir={m1_run}", str(folder / name)]) == 2
        out, error = capsys.readouterr()
        assert out == ""
        assert name in error and message in error and error.count("\n") == 1
    (folder / "text.png").write_text("no picture")
    assert predict.main([f"--workdir={m1_run}", str(folder / "text.png")]) == 2
    assert "cannot be read as PNG or JPEG" in capsys.readouterr().err


def test_among_others_an_image_that_it_cannot_be_meant_for_is_skipped(
    m1_run, photos, capsys
):
    folder, _ = photos
    Image.new("L", (9, 8)).save(folder / "1.png")
    assert predict.main([f"--workdir={m1_run}", "--format=csv", str(folder)]) == 1
    out, error = capsys.readouterr()
    assert len(out.splitlines()) == 1 + 5
    assert error.count("skipped: ") == 1
    assert "1.png: 9x8 pixels of gray; this classifier is for" in error


def test_a_larger_image_of_the_same_ratio_is_resized_and_that_is_said(
    m1_run, photos, capsys
):
    folder, labels = photos
    with Image.open(folder / "3.png") as image:
        image.resize((24, 24)).save(folder / "large.png")
    large = str(folder / "large.png")
    assert predict.main([f"--workdir={m1_run}", "--format=json", large]) == 0
    out, error = capsys.readouterr()
    assert json.loads(out)["class"] == str(labels[3])
    assert "1 of 1 images are resized to 8x8" in error


@pytest.mark.parametrize("size", [(900, 220), (1000, 50), (640, 480)])
def test_an_image_fits_the_size_that_its_like_were_made_small_to(tmp_path, size):
    Image.new("L", size).save(tmp_path / "photo.png")
    head = picture.header(tmp_path / "photo.png")
    width, height = class_folders.common_size([head])
    shape, skipped = (height, width, 1), []
    fitting, num_resized = predict.fitting([tmp_path / "photo.png"], shape, skipped)
    assert (len(fitting), num_resized, skipped) == (1, 1, [])


def test_a_classifier_of_a_run_that_was_not_finished_is_not_mixed_with_another(
    m1_run, tmp_path
):
    run = shutil.copytree(m1_run, tmp_path / "run")
    file = run / "classifier.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"labels": 40}))
    with pytest.raises(InputError, match="of 40 labels and not of 8"):
        ssl_vae.load(run)


def test_a_damaged_image_is_skipped_and_the_others_are_not(m1_run, photos, capsys):
    folder, _ = photos
    content = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(content[: len(content) // 2])
    (folder / "3.png").write_bytes(b"")
    assert predict.main([f"--workdir={m1_run}", "--format=csv", str(folder)]) == 1
    out, error = capsys.readouterr()
    assert len(out.splitlines()) == 1 + 4
    assert error.count("skipped: ") == 2
    assert "1.png cannot be read" in error and "3.png cannot be read" in error


def test_paths_without_images_are_refused(m1_run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for path, message in (("empty", "holds no PNG"), ("nowhere", "does not exist")):
        assert predict.main([f"--workdir={m1_run}", str(tmp_path / path)]) == 2
        assert message in capsys.readouterr().err
    assert predict.main([f"--workdir={m1_run}", "a" * 300]) == 2
    assert "aaa: File name too long" in capsys.readouterr().err
    assert predict.main([f"--workdir={tmp_path}", str(tmp_path)]) == 2
    assert "no finished run is there" in capsys.readouterr().err


def test_hidden_folders_and_folders_named_like_images_are_passed_over(tmp_path):
    for name in ("photos/.thumbs/a.png", "photos/b.png/c.png", "photos/.d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    hidden = tmp_path / ".cache" / "photos"
    hidden.mkdir(parents=True)
    (hidden / "e.png").touch()
    found = predict.find([tmp_path / "photos", hidden], [])  # given by name, so meant
    assert found == [tmp_path / "photos/b.png/c.png", hidden / "e.png"]


def test_a_reader_that_has_gone_costs_no_word_of_pythons(m1_run, photos):
    command = [sys.executable, "-m", "ssl_vae.predict", f"--workdir={m1_run}"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*command, str(photos[0] / "0.png")],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_refusal_does_not_wait_for_jax(tmp_path):
    code = (
        "import sys; from ssl_vae import predict;"
        f" assert predict.main(['--workdir={tmp_path}', '.']) == 2;"
        " assert 'jax' not in sys.modules and 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
