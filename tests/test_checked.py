import logging

import pytest
from ml_collections import ConfigDict

from ssl_vae import config as recipes
from ssl_vae.experiment import run_experiment
from ssl_vae.plan import make_plan


def hints(caplog, tmp_path, name, few=None, **changes):
    """What is said of the lengths of a recipe's trainings on the digits."""
    recipe = recipes.load(recipes.recipe_path(name))
    recipe.update_from_flattened_dict({"dataset": "digits"} | changes)
    if few:
        with recipe.unlocked():
            recipe.few = ConfigDict({"labels": 100, "train": few})
    with caplog.at_level(logging.INFO, "ssl_vae"):
        make_plan(recipe, tmp_path / "run")
    return [line for line in caplog.messages if "steps of training" in line]


def test_few_steps_are_counted_over_the_unlabeled_images_of_m2(caplog, tmp_path):
    # 50 of a batch of 100 are unlabeled: 8 steps an epoch of 437 such images.
    changes = {"labels": (100, 1000), "train.num_epochs": 60}
    (line,) = hints(caplog, tmp_path, "m2", **changes)
    assert "only 480 steps" in line
    assert "--config.train.num_epochs=188" in line


def test_steps_are_counted_as_the_recipe_is_for_so_many_labels(caplog, tmp_path):
    changes = {"labels": (100,), "train.batch_size": 50, "train.labeled_batch_size": 50}
    few = {"batch_size": 100, "num_epochs": 3}  # 26 steps an epoch of 1337 images
    (line,) = hints(caplog, tmp_path, "m2", few, **changes)
    assert "only 78 steps" in line


@pytest.mark.parametrize(
    ("name", "changes", "fields"),
    [
        (
            "best",
            {"train.num_epochs": 3, "student.num_epochs": 1},
            ["train.num_epochs=108", "student.num_epochs"],
        ),
        (
            "m1_m2",
            {"m1.train.num_epochs": 1, "few.train.num_epochs": 3},
            ["train.num_epochs=58", "m1.train.num_epochs=108"],
        ),
    ],
)
def test_every_training_that_is_short_is_named(caplog, tmp_path, name, changes, fields):
    lines = hints(caplog, tmp_path, name, labels=(100,), **changes)
    assert len(lines) == len(fields)
    for line, field in zip(lines, fields, strict=True):
        assert f"--config.{field}" in line


def test_an_m1_that_is_not_trained_here_is_not_found_too_short(caplog, tmp_path):
    m1 = recipes.load(recipes.recipe_path("m1"))
    m1.update_from_flattened_dict(
        {"dataset": "digits", "labels": (50,), "num_splits": 1, "train.num_epochs": 1}
    )
    run_experiment(m1, tmp_path / "m1")
    caplog.clear()
    changes = {"m1_workdir": str(tmp_path / "m1"), "m1.train.num_epochs": 1}
    assert hints(caplog, tmp_path, "m1_m2", labels=(100,), **changes) == []
