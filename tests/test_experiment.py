import json
import logging
import os
import shutil
from functools import partial

import numpy as np
import pytest
from conftest import write_idx

from ssl_vae import config as recipes
from ssl_vae import extractor
from ssl_vae.classifiers import svm
from ssl_vae.errors import InputError
from ssl_vae.experiment import Diverged, Stopped, run_experiment
from ssl_vae.models import M1
from ssl_vae.plan import make_plan

DIVERGED = (
    r"(the loss|the gradient of \w\S+) is not finite at step \d+; most likely its"
    r" learning_rate"
)
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
    assert content["evaluate_on"] == "test"
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
        assert len(row["calibration"]) == 3
        for trust in row["calibration"]:
            assert trust["temperature"] > 0
            assert 0 <= trust["error"] < 0.1
            assert 0 <= trust["error_before"] < 0.1
            if row["labels"] == 40:  # two labels a class are too few to promise it
                assert trust["error"] <= trust["error_before"]  # equal if all are right
    parts = ["data", "compile", "train", "features", "classifier", "total"]
    assert list(content["seconds"]) == parts


def test_a_workdir_holds_what_it_should(finished):
    workdir, _ = finished
    assert {p.name for p in workdir.iterdir()} == {
        "classifier.json",
        "classifier.skops",
        "config.json",
        "latent_space.png",
        "confidence.png",
        "metrics.jsonl",
        "model_card.md",
        "reconstructions.png",
        "report.html",
        "report.npz",
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
    # It is fitted on ten images of each class, not on two.
    fitted_on = classifier.steps[-1][1]
    assert len(fitted_on.support_) > 8
    assert set(fitted_on.support_) <= set(range(40))


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


def test_a_lost_classifier_is_made_anew_whatever_labels_are_asked_for(
    finished, small_data, tmp_path
):
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    (workdir / "classifier.skops").unlink()
    again = run_experiment(recipe(labels=(8,)), workdir, data_dir=small_data)
    assert again.results == finished[1].results
    svm.load_svm(workdir / "classifier.skops")


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


def test_a_validation_run_never_sees_the_test_images(small_data, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for path in small_data.glob("train-*"):
        shutil.copy(path, other)
    write_idx(other, "t10k", np.zeros([4, 8, 8], np.uint8), np.arange(4))
    config = recipe(**{"train.num_epochs": 1, "evaluate_on": "validation"})
    one, two = (
        run_experiment(config, tmp_path / folder.name / "run", data_dir=folder)
        for folder in (small_data, other)
    )
    assert one.results == two.results
    assert one.vae == two.vae
    assert one.dataset["name"] == "corners-validation"
    assert one.evaluate_on == "validation"
    assert (one.dataset["train"], one.dataset["test"]) == (336, 64)


def test_fewer_splits_are_answered_from_more_and_never_replace_them(
    finished, small_data
):
    workdir, results = finished
    config = recipe(num_splits=2)
    assert run_experiment(config, workdir, data_dir=small_data) == results


def test_other_importance_samples_are_measured_once(finished, small_data, tmp_path):
    workdir, results = finished
    folder = shutil.copytree(workdir, tmp_path / "copy")
    config = recipe(labels=(8,), importance_samples=7)
    again = run_experiment(config, folder, data_dir=small_data)
    assert again.vae["importance_samples"] == 7
    assert again.results == results.results
    assert make_plan(config, folder, small_data).finished == again


def test_measured_anew_a_row_keeps_its_splits(finished, small_data, tmp_path):
    workdir, results = finished
    folder = shutil.copytree(workdir, tmp_path / "copy")
    config = recipe(labels=(8,), num_splits=1, importance_samples=7)
    again = run_experiment(config, folder, data_dir=small_data)
    assert again.vae["importance_samples"] == 7
    assert again.row(8) == results.row(8)


def test_a_run_whose_config_is_gone_is_refused(finished, small_data, tmp_path):
    workdir, _ = finished
    copy = shutil.copytree(workdir, tmp_path / "copy")
    (copy / "config.json").unlink()
    with pytest.raises(InputError, match=r"results\.json: of a run whose config\.json"):
        run_experiment(recipe(), copy, data_dir=small_data)


def test_one_latent_unit_and_a_class_without_test_images_still_give_pictures(
    small_data, tmp_path
):
    for path in small_data.glob("train-*"):
        shutil.copy(path, tmp_path)
    write_idx(tmp_path, "t10k", np.full([6, 8, 8], 9, np.uint8), np.arange(6) % 3)
    config = recipe(**{"train.num_epochs": 1, "model.latent_dim": 1})
    run_experiment(config, tmp_path / "run", data_dir=tmp_path)
    assert (tmp_path / "run" / "latent_space.png").exists()
    assert (tmp_path / "run" / "reconstructions.png").exists()


def test_gradients_and_cross_validation_go_the_same_way(small_data, tmp_path):
    changes = {
        "labels": (8,),
        "model.gradient_weight": 3.0,
        "classifier.cross_validate": True,
        "train.num_epochs": 8,
    }
    results = run_experiment(recipe(**changes), tmp_path, data_dir=small_data)
    assert results.results[0].test_accuracy_mean > 0.9
    log = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert log[-1]["gradients"] > log[0]["gradients"]
    assert log[-1]["loss"] == pytest.approx(
        log[-1]["kl"] - log[-1]["log_likelihood"] - 3 * log[-1]["gradients"], rel=1e-4
    )


def test_a_number_of_labels_is_a_recipe_in_itself(small_data, tmp_path, monkeypatch):
    small = recipe(**{"train.num_epochs": 1})
    monkeypatch.setattr(recipes, "load", lambda path: small)
    results = run_experiment(np.int64(8), tmp_path, data_dir=small_data)
    assert [row.labels for row in results.results] == [8]


def test_numbers_of_labels_may_be_numpys_and_nothing_else_will_do(small_data, tmp_path):
    for given in (np.array([8, 40]), [np.int64(8), 40], range(8, 41, 32)):
        plan = make_plan(given, tmp_path / "run", data_dir=small_data)
        assert plan.recipe.labels == (8, 40)
    for given in ("best", 8.0, np.array([[8]])):
        with pytest.raises(InputError, match="is no recipe"):
            make_plan(given, tmp_path / "run", data_dir=small_data)


def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(small_data, tmp_path):
    wild = {"train.learning_rate": 10.0, "model.kl_weight": 1000.0}
    config = recipe(**wild, **{"train.kl_warmup": 0.0})
    with pytest.raises(Diverged, match=DIVERGED):
        run_experiment(config, tmp_path, data_dir=small_data)
    assert not (tmp_path / "vae_weights").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": (7,)}, "--labels=7: .*nearest: 4 or 8"),
        ({"labels": (0,)}, "--labels=0: .*nearest: 4"),
        ({"labels": (8, 404)}, "--labels=404: .*nearest: 400"),
        (
            {"train.batch_size": 401},
            "batch_size=401: has 401 training images, .* there are 400; .* most 400",
        ),
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
    config.labels, config.num_splits, config.train.num_epochs = (600,), 3, 2
    results = run_experiment(config, tmp_path, data_dir=REAL_DATA)
    row = results.row(600)
    assert row is not None
    assert results.dataset["name"] == "fashion_mnist"
    assert row.test_accuracy_mean > 0.73
    assert results.vae["test_elbo"] > -255


def test_the_warmup_is_a_share_of_the_training(small_data, tmp_path, monkeypatch):
    warmups = []

    class Seen(M1):
        def loss(self, *args, **kwargs):
            warmups.append(self.warmup_steps)
            return super().loss(*args, **kwargs)

    monkeypatch.setattr(extractor, "M1", Seen)
    changes = {"labels": (8,), "train.num_epochs": 3, "train.kl_warmup": 0.5}
    run_experiment(recipe(**changes), tmp_path / "run", data_dir=small_data)
    assert set(warmups) == {30}  # of 3 epochs of 20 steps
