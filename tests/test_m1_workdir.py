"""A VAE that learned from the same images serves a run with other labels."""

import json
import shutil

import numpy as np
import pytest
from conftest import OWN, SMALL, blobs, run_on_eight

import ssl_vae
from ssl_vae import config as recipes
from ssl_vae import datasets
from ssl_vae.dry_run import describe
from ssl_vae.errors import InputError
from ssl_vae.experiment import run_experiment
from ssl_vae.plan import make_plan


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the same images twice: few.npz and more.npz, by their labels."""
    folder = tmp_path_factory.mktemp("images")
    images, classes = blobs(120, seed=0)
    for name, num in (("few", 12), ("more", 40)):
        labels = np.where(np.arange(120) < num, classes, -1)
        np.savez(folder / name, images=images, labels=labels)
    np.savez(folder / "other", images=255 - images, labels=labels)
    return folder


def recipe(name, folder, data, **changes):
    config = recipes.load(recipes.recipe_path(name))
    config.update_from_flattened_dict(
        SMALL | OWN[name] | {"labels": (), "dataset": f"npz:{folder / data}.npz"}
    )
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def first(folder):
    """A finished run of the recipe m1 with few labels."""
    run_experiment(recipe("m1", folder, "few"), folder / "first")
    return folder / "first"


def files(workdir):
    """What the weights are, by their digests, and the log of their training."""
    meta = json.loads((workdir / "vae_weights" / "meta" / "metadata").read_text())
    return meta, (workdir / "metrics.jsonl").read_text()


@pytest.mark.parametrize("name", ["m1", "m1_graph", "best"])
def test_a_run_with_a_taken_vae_is_one_that_has_trained_it_itself(
    name, first, folder, tmp_path
):
    taken = recipe(name, folder, "more", m1_workdir=str(first))
    results = run_experiment(taken, tmp_path / "taken")
    assert not (tmp_path / "taken" / "steps").exists()
    assert files(tmp_path / "taken") == files(first)
    own = recipe(name, folder, "more")
    of_first = recipe("m1", folder, "few")
    own.model, own.train = of_first.model, of_first.train
    alone = run_experiment(own, tmp_path / "alone")
    assert results.results == alone.results
    assert results.vae == alone.vae
    images = datasets.load(own.dataset).test_images
    here, there = (ssl_vae.load(tmp_path / run) for run in ("taken", "alone"))
    np.testing.assert_array_equal(
        here.predict_proba(images), there.predict_proba(images)
    )


def test_devices_need_not_share_the_batches_of_a_vae_that_is_taken(
    first, folder, tmp_path
):
    config = recipe("m1", folder, "more", m1_workdir=str(first))
    script = f"""
        from ml_collections import ConfigDict
        from ssl_vae.errors import InputError
        from ssl_vae.experiment import run_experiment

        config = ConfigDict({config.to_dict()})
        results = run_experiment(config, {str(tmp_path / "taken")!r})
        assert results.device == "cpu x8" and results.results
        config.m1_workdir = ""
        try:
            run_experiment(config, {str(tmp_path / "trained")!r})
        except InputError as error:
            assert "28 images a step" in str(error), error
        else:
            raise AssertionError
    """
    run_on_eight(script)


def test_the_run_that_it_was_taken_from_may_go(first, folder, tmp_path):
    source = shutil.copytree(first, tmp_path / "first")
    config = recipe("m1", folder, "more", m1_workdir=str(source))
    config.model.latent_dim = 7  # that run's fields stand in its place
    results = run_experiment(config, tmp_path / "run")
    shutil.rmtree(source)
    assert run_experiment(config, tmp_path / "run") == results
    assert (
        json.loads((tmp_path / "run" / "config.json").read_text())["config"]["model"]
        == json.loads((first / "config.json").read_text())["config"]["model"]
    )
    config.num_splits = 6  # more than before, which are measured with the copy
    (row,) = run_experiment(config, tmp_path / "run").results
    assert row.split_seeds == list(range(10))
    old = results.results[0].test_accuracy
    assert len(old) == 5 and row.test_accuracy[:5] == old


def test_numbers_outlive_a_taken_vae_and_none_of_another_join_them(
    first, folder, tmp_path
):
    source = shutil.copytree(first, tmp_path / "first")
    config = recipe("m1", folder, "more", m1_workdir=str(source))
    results = run_experiment(config, tmp_path / "run")
    for lost in (tmp_path / "run" / "vae_weights", source):
        shutil.rmtree(lost)
    assert run_experiment(config, tmp_path / "run") == results
    config.labels = (20, 40)
    with pytest.raises(InputError, match="its VAE of all images is gone"):
        run_experiment(config, tmp_path / "run")


def test_a_vae_whose_log_is_gone_is_taken_all_the_same(first, folder, tmp_path):
    shutil.copytree(first, tmp_path / "there")
    (tmp_path / "there" / "metrics.jsonl").unlink()
    taken = recipe("m1", folder, "more", m1_workdir=str(tmp_path / "there"))
    run_experiment(taken, tmp_path / "taken")
    assert not (tmp_path / "taken" / "metrics.jsonl").exists()
    assert (tmp_path / "taken" / "vae_weights").exists()


def test_the_estimate_knows_that_nothing_is_trained(first, folder, tmp_path):
    config = recipe("m1", folder, "more", m1_workdir=str(first))
    plan = make_plan(config, tmp_path / "run")
    assert not plan.trains_m1
    assert describe(plan).endswith("the VAE is there: only classifiers are fitted")
    own = make_plan(recipe("m1", folder, "more"), tmp_path / "run")
    assert "M1: " in describe(own)


@pytest.mark.parametrize(
    ("data", "changes", "says"),
    [
        ("other", {}, "trained on other images: .*dataset.sha256"),
        ("more", {"evaluate_on": "validation"}, "trained on other images"),
        ("more", {"num_seeds": 2}, "is one VAE; leave --config.num_seeds at 1"),
    ],
)
def test_a_vae_that_will_not_do_is_refused(
    first, folder, tmp_path, data, changes, says
):
    config = recipe("m1", folder, data, m1_workdir=str(first), **changes)
    with pytest.raises(InputError, match=f"m1_workdir=.*: {says}"):
        make_plan(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_labels_in_the_same_folder_are_refused(first, folder):
    with pytest.raises(InputError, match="holds a run of the same images with other"):
        make_plan(recipe("m1", folder, "more"), first)
