"""What a run would do, told without doing it."""

import re

import jax
import numpy as np
import pytest
from conftest import blobs

from ssl_vae import config as recipes
from ssl_vae.dry_run import describe
from ssl_vae.models import M1
from ssl_vae.plan import make_plan

CHANGES = {
    "m1": {},
    "best": {"student.batch_size": 28, "student.labeled_batch_size": 8},
    "m2": {"train.labeled_batch_size": 8},
    "m1_m2": {"train.labeled_batch_size": 8, "m1.train.batch_size": 20},
}


def plan_of(name, small_data, workdir):
    config = recipes.load(recipes.recipe_path(name))
    config.update_from_flattened_dict(
        {"labels": (8, 40), "num_splits": 2, "train.batch_size": 28} | CHANGES[name]
    )
    return make_plan(config, workdir, small_data)


@pytest.mark.parametrize("name", CHANGES)
def test_every_training_is_told_with_its_sizes_and_nothing_is_written(
    name, small_data, tmp_path
):
    plan = plan_of(name, small_data, tmp_path / "run")
    text = describe(plan)
    assert not (tmp_path / "run").exists()
    for field, value in recipes.flatten(plan.recipe).items():
        assert f"{field} = {value!r}" in text
    titles = re.findall(r"^(.*): [\d,]+ parameters", text, re.M)
    of_labels = [] if name == "m1" else ["8 labels", "40 labels"]
    assert titles == ([] if name == "m2" else ["M1"]) + of_labels
    assert text.count("2 times ") == len(of_labels)


def test_a_cross_validated_best_is_trained_once_more_on_all_labels(tmp_path):
    config = recipes.load(recipes.recipe_path("best"))
    config.dataset = f"npz:{tmp_path}/mine.npz"
    labels = np.where(np.arange(60) < 12, np.arange(60) % 4, -1)
    np.savez(tmp_path / "mine.npz", images=blobs(60, seed=0)[0], labels=labels)
    config.update_from_flattened_dict(
        {"train.batch_size": 28, "num_splits": 1} | CHANGES["best"]
    )
    plan = make_plan(config, tmp_path / "run")
    assert "12 labels: " in describe(plan)
    assert " 4 times " in describe(plan)  # three folds, and all labels


def test_parameters_and_steps_are_those_of_the_training(small_data, tmp_path):
    plan = plan_of("m1", small_data, tmp_path / "run")
    model = M1(plan.data.image_shape, **recipes.model_fields(plan.recipe.model))
    leaves = jax.tree.leaves(model.init(jax.random.key(0)))
    count, steps = sum(leaf.size for leaf in leaves), 20 * (400 // 28)
    assert f"M1: {count:,} parameters, " in describe(plan)
    assert f" {steps:,} steps, a few seconds" in describe(plan)
