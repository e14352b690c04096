"""The recipe best from end to end, on small data."""

import csv
import dataclasses
import json
import logging
import shutil

import numpy as np
import pytest
from conftest import OWN, SMALL, blobs

import ssl_vae
from ssl_vae import config as recipes
from ssl_vae import datasets, evaluate, placement, processes, splits
from ssl_vae.classifiers import svm
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.errors import InputError
from ssl_vae.experiment import Stopped, run_experiment
from ssl_vae.labels import choose_labeled
from ssl_vae.models import Student
from ssl_vae.plan import make_plan
from ssl_vae.suggest import write_suggestions


def recipe(**changes):
    config = recipes.load(recipes.recipe_path("best"))
    config.update_from_flattened_dict(SMALL | OWN["best"] | changes)
    return config


def rows(workdir):
    return json.loads((workdir / "results.json").read_text())["results"]


@pytest.fixture
def finished(finished):
    """A finished run: its folder."""
    return finished("best")


def test_every_split_is_far_above_chance_and_has_its_calibration(finished):
    (row,) = rows(finished)
    assert row["classifier"] == "svm_student"
    assert row["protocol"] == "inductive"
    assert row["split_seeds"] == [0, 1]
    assert min(row["test_accuracy"]) > 0.8
    assert len(row["calibration"]) == 2


def test_what_is_kept_are_the_svm_and_the_students(finished):
    assert svm.load_svm(finished / "classifier.skops").n_features_in_ == 4
    assert (finished / "labels-8" / "splits-0-1" / "vae_weights").is_dir()
    assert (finished / "confidence.png").exists()


def test_the_student_has_learned_the_classes_by_itself(finished, small_data):
    data = datasets.load("corners", small_data)
    student = Student(data.image_shape, data.num_classes, num_steps=1)
    weights = ssl_vae.load(finished).weights["student"]
    images = placement.pixels(data.test_images)
    logits = evaluate.map_images(student.class_logits, weights, images)
    assert np.mean(np.argmax(logits, axis=1) == data.test_labels) > 0.7  # chance: 0.25


def test_no_hidden_label_reaches_the_training_or_the_answers(
    finished, small_data, tmp_path, monkeypatch
):
    whole = datasets.load("corners", small_data)
    shown = [choose_labeled(whole.train_labels, 8, split_seed=s) for s in range(2)]
    changed = np.zeros_like(whole.train_labels)  # so are the shares of the classes
    known = np.concatenate(shown)
    changed[known] = whole.train_labels[known]
    other = dataclasses.replace(whole, train_labels=changed)
    monkeypatch.setattr(datasets, "load", lambda name, data_dir: other)
    monkeypatch.setattr(
        splits, "choose_labeled", lambda labels, num, split_seed: shown[split_seed]
    )
    run_experiment(recipe(), tmp_path, data_dir=small_data)
    # The metadata has the digest of every array of the weights.
    trained = (
        "vae_weights/meta/metadata",
        "labels-8/splits-0-1/vae_weights/meta/metadata",
    )
    for file in trained:
        assert (tmp_path / file).read_bytes() == (finished / file).read_bytes()
    assert rows(tmp_path) == rows(finished)
    said = (
        ssl_vae.load(run).predict_log_proba(whole.test_images)
        for run in (tmp_path, finished)
    )
    np.testing.assert_array_equal(*said)


def test_a_run_that_was_stopped_ends_with_the_same_numbers(
    finished, small_data, tmp_path
):
    asked = []

    def stop():
        asked.append(None)
        return len(asked) in (3, 7)  # in M1, and in the students

    for _ in range(2):
        with pytest.raises(Stopped):
            run_experiment(recipe(), tmp_path, data_dir=small_data, stop=stop)
    run_experiment(recipe(), tmp_path, data_dir=small_data, stop=stop)
    assert rows(tmp_path) == rows(finished)


def test_a_split_that_is_trained_with_others_is_as_it_is_alone(
    finished, small_data, tmp_path
):
    run_experiment(recipe(num_splits=1), tmp_path, data_dir=small_data)
    run_experiment(recipe(), tmp_path, data_dir=small_data)  # the second one, alone
    assert rows(tmp_path)[0]["test_accuracy"] == rows(finished)[0]["test_accuracy"]


LABELED, SHARES = [*range(12), 12, 16, 20], np.array([6, 3, 3, 3]) / 15


@pytest.fixture(scope="module")
def cross_validated(tmp_path_factory):
    """A finished run on 60 images with 15 labels and no test set, and its recipe.

    And what the processes were given to share, were they several: the guesses.
    """
    folder = tmp_path_factory.mktemp("cross")
    images, classes = blobs(60, seed=0)
    labels = np.where(np.isin(np.arange(60), LABELED), classes, -1)
    np.savez(folder / "mine.npz", images=images, labels=labels)
    config = recipe(labels=(), num_splits=1, dataset=f"npz:{folder}/mine.npz")
    shared = []

    def share(team, array):
        shared.append(array)
        return array

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes.Team, "share", share)
        run_experiment(config, folder / "run")
    return folder / "run", config, images, shared


def test_labels_of_some_images_only_and_no_test_set(cross_validated):
    """Cross-validated, and asked what to label next."""
    workdir, config, *_ = cross_validated
    (row,) = rows(workdir)
    assert (row["protocol"], row["split_seeds"]) == ("cross_validation", [0, 1, 2])
    assert row["test_accuracy_mean"] > 0.6
    plan = make_plan(config, workdir)
    assert write_suggestions(plan, 5).startswith("5 images to label next")
    with (workdir / "suggestions.csv").open() as file:
        assert all(int(row["image"]) not in LABELED for row in csv.DictReader(file))


def test_what_a_cross_validation_keeps_has_all_labels(cross_validated, tmp_path):
    workdir, config, images, _ = cross_validated
    kept = svm.load_svm(workdir / "classifier.skops")
    assert kept[-1].shape_fit_ == (15 * 5, 4)  # every image, and its four moves
    probs = ssl_vae.load(workdir).predict_proba(images)
    # The first fold's students, which are there too, do not stand in for it.
    old = shutil.copytree(workdir, tmp_path / "old")
    shutil.rmtree(old / "labels-15" / "splits-all")
    with pytest.raises(InputError, match="not a whole run"):
        ssl_vae.load(old)
    # Where its training is missing, it is made again, to the last bit.
    run_experiment(config, old)
    assert np.array_equal(ssl_vae.load(old).predict_proba(images), probs)


def test_the_svm_and_what_it_teaches_have_the_labels_shares_of_the_classes(
    cross_validated,
):
    workdir, _, images, shared = cross_validated
    kept = CalibratedSVM.load(workdir, num_labels=15)
    log_probs = kept.log_probs(ssl_vae.load(workdir).features(images))
    np.testing.assert_allclose(np.exp(log_probs).mean(axis=0), SHARES, atol=1e-3)
    of_folds, of_all = (np.exp(guesses).mean(axis=1) for guesses in shared)
    np.testing.assert_allclose(of_all, [SHARES], atol=1e-3)
    np.testing.assert_allclose(of_folds, [SHARES] * 3, atol=1e-3)  # ten labels each


def test_small_sets_are_told_how_many_epochs_to_try(small_data, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "ssl_vae"):
        make_plan(recipe(), tmp_path, small_data)
    said = [r.message for r in caplog.records if "try --config." in r.message]
    # 400 images: 14 steps an epoch of M1 and 20 of the student
    assert [line.split("try ")[1] for line in said] == [
        "--config.train.num_epochs=108",
        "--config.student.num_epochs=75",
    ]


def test_a_batch_without_room_for_unlabeled_images_is_refused(small_data, tmp_path):
    config = recipe(**{"student.labeled_batch_size": 28})
    with pytest.raises(InputError, match="student.labeled_batch_size=28"):
        make_plan(config, tmp_path, small_data)


def test_a_batch_of_more_images_than_there_are_is_refused(small_data, tmp_path):
    config = recipe(**{"student.batch_size": 401})
    with pytest.raises(InputError, match=r"student.batch_size=401: there are 400"):
        make_plan(config, tmp_path, small_data)


def test_a_mistyped_field_of_the_student_gets_the_nearest_name():
    config = recipe()
    with config.unlocked():
        config.student.num_epoch = 3
    with pytest.raises(InputError, match=r"did you mean --config.student.num_epochs"):
        recipes.validate(config)
