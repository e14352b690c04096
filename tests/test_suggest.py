"""Which images to label next."""

import csv

import numpy as np
import pytest
from PIL import Image

import ssl_vae
from ssl_vae import config as recipes
from ssl_vae import datasets, suggest
from ssl_vae.classifiers.queries import most_useful
from ssl_vae.experiment import run_experiment
from ssl_vae.plan import make_plan
from ssl_vae.report import pictures
from ssl_vae.suggest import write_suggestions


def test_the_unsure_are_named_and_near_copies_of_one_are_not():
    rng = np.random.default_rng(0)
    sure = np.tile([0.98, 0.01, 0.01], (200, 1))
    unsure = np.tile([0.45, 0.44, 0.11], (40, 1))
    features = rng.normal(size=(240, 2)) * 0.01
    features[200::2] += [5, 0]  # two kinds of doubtful images
    features[201::2] += [0, 5]
    chosen = most_useful(np.log(np.concatenate([sure, unsure])), features, 2)
    assert (chosen >= 200).all()
    assert sorted(chosen % 2) == [0, 1]


def test_the_most_unsure_come_first_and_no_image_twice():
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.ones(4), size=300)
    features = np.repeat(rng.normal(size=(30, 3)), 10, axis=0)  # many alike
    chosen = most_useful(np.log(probs), features, 25)
    assert len(set(chosen)) == 25
    two = np.sort(np.log(probs[chosen]), axis=1)[:, -2:]
    assert (np.diff(two[:, 1] - two[:, 0]) >= 0).all()


def test_all_are_named_where_there_are_not_as_many():
    probs = np.array([[0.9, 0.1], [0.6, 0.4]])
    assert most_useful(np.log(probs), np.zeros([2, 3]), 5).tolist() == [1, 0]


@pytest.fixture(scope="module")
def plan(small_data, tmp_path_factory):
    """That of a finished run with 8 of 400 labels."""
    config = recipes.load(recipes.recipe_path("m1"))
    config.update_from_flattened_dict(
        {
            "labels": (8,),
            "num_splits": 1,
            "importance_samples": 5,
            "model.latent_dim": 4,
            "model.hidden": (32,),
            "train.num_epochs": 4,
            "train.batch_size": 20,
        }
    )
    workdir = tmp_path_factory.mktemp("run")
    run_experiment(config, workdir, data_dir=small_data)
    return make_plan(config, workdir, small_data)


def test_a_run_names_rows_of_its_source_that_it_has_no_labels_of(plan, small_data):
    line = write_suggestions(plan, 12)
    assert line.startswith("12 images to label next: ")
    with (plan.workdir.path / "suggestions.csv").open() as file:
        table = list(csv.DictReader(file))
    rows = [int(row["image"]) for row in table]
    assert len(set(rows)) == 12
    known = plan.data.train_sources[plan.splits(8).split(0).labeled]
    assert not set(rows) & set(known.tolist())
    # The rows are those of the file: its images get these probabilities.
    data = datasets.load("corners", small_data)
    in_file = data.train_images[np.argsort(data.train_sources)]
    probs = ssl_vae.load(plan.workdir.path).predict_proba(in_file[rows])
    said = [float(row["probability"]) for row in table]
    np.testing.assert_allclose(probs.max(axis=1), said, atol=2e-4)
    with Image.open(plan.workdir.path / "suggestions.png") as sheet:
        assert sheet.width > sheet.height  # two rows of ten


def test_the_named_images_are_among_those_it_is_least_sure_of(plan):
    write_suggestions(plan, 12)
    with (plan.workdir.path / "suggestions.csv").open() as file:
        named = [int(row["image"]) for row in csv.DictReader(file)]
    data = plan.data
    classifier = ssl_vae.load(plan.workdir.path)
    two = np.sort(classifier.predict_log_proba(data.train_images), axis=1)[:, -2:]
    sure = two[:, 1] - two[:, 0]
    mine = sure[np.isin(data.train_sources, named)]
    assert mine.max() < np.quantile(sure, 0.4)  # 120 candidates of 400 images


def test_few_images_are_looked_at_at_a_time(plan, monkeypatch):
    classifier, images = ssl_vae.load(plan.workdir.path), plan.data.train_images
    at_once = suggest._looked_at(classifier, images, np.arange(7, 200))
    monkeypatch.setattr(suggest, "AT_A_TIME", 50)
    sizes = []
    monkeypatch.setattr(
        type(classifier),
        "predict_log_proba",
        lambda self, some: (
            sizes.append(len(some)) or self.log_probs(self._pixels(some))
        ),
    )
    in_parts = suggest._looked_at(classifier, images, np.arange(7, 200))
    assert max(sizes) <= 50 and sum(sizes) == 193
    for mine, theirs in zip(in_parts, at_once, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-2)


def test_nothing_unfinished_is_left_in_the_folder(plan):
    write_suggestions(plan, 12)
    assert not list(plan.workdir.path.glob("*.partial"))


@pytest.mark.parametrize("shape", [(1, 12, 1), (12, 1, 3), (1, 1, 1)])
def test_images_of_one_pixel_a_side_are_shown(shape, tmp_path):
    sheet = pictures.contact_sheet(np.zeros([3, *shape], np.uint8), ["a", "b", "c"])
    pictures.save(sheet, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width > 300
