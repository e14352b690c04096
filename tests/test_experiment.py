import json
import logging
import os
from functools import partial

import numpy as np
import pytest

from ssl_vae import config as recipes
from ssl_vae.classifiers import svm
from ssl_vae.errors import InputError
from ssl_vae.experiment import Diverged, Stopped, run_experiment

REAL_DATA = os.environ.get("SSL_VAE_DATA_DIR")


def recipe(**changes):
    config = recipes.load(recipes.recipe_path("m1"))
    config.update_from_flattened_dict(
        {
            "labels": (8, 40),
            "num_splits": 3,
            "model.latent_dim": 4,
            "model.hidden": (32, 32),
            "train.num_epochs": 12,
            "train.batch_size": 20,
            "train.checkpoint_every": 4,
        }
        | changes
    )
    return config


def numbers(workdir):
    """All of results.json that must repeat."""
    content = json.loads((workdir / "results.json").read_text())
    return {key: content[key] for key in ("vae", "results", "dataset", "seed")}


@pytest.fixture(scope="module")
def finished(small_data, tmp_path_factory):
    """A finished run: its folder and its results."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, run_experiment(recipe(), workdir, data_dir=small_data)


def test_the_accuracy_is_far_above_chance_and_in_the_promised_format(finished):
    workdir, _ = finished
    content = json.loads((workdir / "results.json").read_text())
    assert content["format_version"] == 1
    assert content["dataset"]["name"] == "corners"
    assert (content["dataset"]["train"], content["dataset"]["test"]) == (400, 80)
    assert content["vae"]["steps"] == 240
    assert content["vae"]["test_elbo"] < 0
    assert [row["labels"] for row in content["results"]] == [8, 40]
    for row in content["results"]:
        assert row["protocol"] == "inductive"
        assert row["classifier"] == "svm_rbf"
        assert row["split_seeds"] == [0, 1, 2]
        accuracy = row["test_accuracy"]
        assert row["test_accuracy_mean"] == pytest.approx(np.mean(accuracy))
        assert row["test_accuracy_std"] == pytest.approx(np.std(accuracy, ddof=1))
        assert row["test_accuracy_mean"] > 0.9
    parts = ["data", "compile", "train", "features", "classifier", "total"]
    assert list(content["seconds"]) == parts


def test_a_workdir_holds_what_it_should(finished):
    workdir, _ = finished
    assert {p.name for p in workdir.iterdir()} == {
        "classifier.skops",
        "config.json",
        "latent_space.png",
        "metrics.jsonl",
        "reconstructions.png",
        "results.json",
        "steps",
        "vae_weights",
    }
    log = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == list(range(20, 241, 20))
    assert log[-1]["loss"] < log[0]["loss"]


def test_the_kept_classifier_is_that_of_the_most_labels(finished, small_data):
    workdir, results = finished
    classifier = svm.load_svm(workdir / "classifier.skops")
    assert classifier.n_features_in_ == 4
    assert len(classifier.steps[-1][1].support_) <= 40
    assert results.row(40) is not None


def test_the_same_call_repeats_the_numbers_without_training(
    finished, small_data, caplog
):
    workdir, results = finished
    before = (workdir / "vae_weights").stat().st_mtime_ns
    with caplog.at_level(logging.INFO, "ssl_vae"):
        again = run_experiment(recipe(), workdir, data_dir=small_data)
    assert again == results
    assert "finished" in caplog.text
    assert (workdir / "vae_weights").stat().st_mtime_ns == before


def test_two_runs_with_one_seed_are_equal_to_the_last_bit(
    finished, small_data, tmp_path
):
    workdir, _ = finished
    run_experiment(recipe(), tmp_path, data_dir=small_data)
    assert numbers(tmp_path) == numbers(workdir)
    log = "metrics.jsonl"
    assert (tmp_path / log).read_bytes() == (workdir / log).read_bytes()


def test_a_stopped_run_goes_on_to_the_same_bits(finished, small_data, tmp_path):
    workdir, _ = finished
    # Three stops in training, and one when the SVMs are fitted.
    for asked in (3, 2, 1, 5):
        stop = partial(next, iter([False] * asked + [True]))
        with pytest.raises(Stopped):
            run_experiment(recipe(), tmp_path, data_dir=small_data, stop=stop)
    run_experiment(recipe(), tmp_path, data_dir=small_data)
    assert numbers(tmp_path) == numbers(workdir)
    log = "metrics.jsonl"
    assert (tmp_path / log).read_bytes() == (workdir / log).read_bytes()


def test_more_numbers_of_labels_join_the_results(small_data, tmp_path):
    config = recipe(**{"train.num_epochs": 2})
    config.labels = (40,)
    run_experiment(config, tmp_path, data_dir=small_data)
    kept = (tmp_path / "classifier.skops").read_bytes()
    config.labels = (8,)
    results = run_experiment(config, tmp_path, data_dir=small_data)
    assert [row.labels for row in results.results] == [8, 40]
    assert (tmp_path / "classifier.skops").read_bytes() == kept
    config.labels = (8, 40)
    both = run_experiment(config, tmp_path / "both", data_dir=small_data)
    assert both.results == results.results


def test_the_default_workdir_is_named_after_recipe_data_and_seed(
    small_data, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = recipe(**{"train.num_epochs": 1, "seed": 7})
    run_experiment(config, data_dir=small_data)
    assert (tmp_path / "checkpoints" / "m1-corners-seed7" / "results.json").exists()


def test_a_validation_run_never_sees_the_test_images(small_data, tmp_path, monkeypatch):
    monkeypatch.setattr("ssl_vae.plan.VALIDATION_IMAGES", 40)
    config = recipe(**{"train.num_epochs": 1, "evaluate_on": "validation"})
    results = run_experiment(config, tmp_path, data_dir=small_data)
    assert results.dataset["name"] == "corners-validation"
    assert (results.dataset["train"], results.dataset["test"]) == (360, 40)


def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(small_data, tmp_path):
    config = recipe(**{"train.learning_rate": 10.0, "model.kl_weight": 1000.0})
    with pytest.raises(Diverged, match=r"the loss is (nan|inf) at step \d+"):
        run_experiment(config, tmp_path, data_dir=small_data)
    assert not (tmp_path / "vae_weights").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": (7,)}, "--labels=7: .*nearest: 4 or 8"),
        ({"labels": (0,)}, "--labels=0: .*nearest: 4"),
        ({"labels": (8, 404)}, "--labels=404: .*nearest: 400"),
        ({"train.batch_size": 401}, "batch_size=401: there are 400 training images"),
        ({"model.latent_dim": 0}, "--config.model.latent_dim=0: must be a whole"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    small_data, tmp_path, changes, message
):
    with pytest.raises(InputError, match=message):
        run_experiment(recipe(**changes), tmp_path / "run", data_dir=small_data)
    assert not (tmp_path / "run").exists()


def test_another_recipe_in_the_same_workdir_is_refused(finished, small_data):
    workdir, _ = finished
    config = recipe(**{"model.latent_dim": 5})
    with pytest.raises(InputError, match="model.latent_dim is 4 there and 5 here"):
        run_experiment(config, workdir, data_dir=small_data)


@pytest.mark.skipif(not REAL_DATA, reason="SSL_VAE_DATA_DIR is not set")
def test_two_epochs_on_fashion_mnist_reach_their_accuracy(tmp_path):
    config = recipes.load(recipes.recipe_path("m1_quick"))
    config.labels, config.train.num_epochs = (600,), 2
    results = run_experiment(config, tmp_path, data_dir=REAL_DATA)
    row = results.row(600)
    assert row is not None
    assert results.dataset["name"] == "fashion_mnist"
    assert row.test_accuracy_mean > 0.73
    assert results.vae["test_elbo"] > -255
