"""The recipe m1_graph from end to end, on small data."""

import csv
import json
import shutil

import numpy as np
import pytest
from conftest import OWN, SMALL, blobs

import ssl_vae
from ssl_vae import config as recipes
from ssl_vae.classifiers import graph, svm
from ssl_vae.errors import InputError
from ssl_vae.experiment import Stopped, run_experiment
from ssl_vae.plan import make_plan
from ssl_vae.suggest import write_suggestions


def recipe(**changes):
    config = recipes.load(recipes.recipe_path("m1_graph"))
    config.update_from_flattened_dict(SMALL | OWN["m1_graph"] | changes)
    return config


def rows(workdir):
    return json.loads((workdir / "results.json").read_text())["results"]


def test_every_split_is_far_above_chance_and_has_its_calibration(finished):
    (row,) = rows(finished("m1_graph"))
    assert row["classifier"] == "svm_graph"
    assert row["protocol"] == "inductive"
    assert row["split_seeds"] == [0, 1]
    assert min(row["test_accuracy"]) > 0.8
    assert len(row["calibration"]) == 2


def test_what_is_kept_has_the_accuracy_of_the_first_split(finished):
    workdir = finished("m1_graph")
    images, labels = blobs(80, seed=1)
    names = ssl_vae.load(workdir).predict(images)
    accuracy = np.mean(names == labels.astype(str))
    assert accuracy == rows(workdir)[0]["test_accuracy"][0]


def test_more_labels_reuse_the_vae_and_fewer_leave_what_is_kept(
    finished, small_data, tmp_path
):
    workdir = shutil.copytree(finished("m1_graph"), tmp_path / "run")
    before = (workdir / "labels-8" / "graph.npy").read_bytes()
    run_experiment(recipe(labels=(4,)), workdir, data_dir=small_data)
    assert (workdir / "labels-8" / "graph.npy").read_bytes() == before
    run_experiment(recipe(labels=(12,)), workdir, data_dir=small_data)
    assert [row["labels"] for row in rows(workdir)] == [4, 8, 12]
    assert rows(workdir)[1] == rows(finished("m1_graph"))[0]
    assert (workdir / "labels-12" / "graph.npy").read_bytes() != before
    assert ssl_vae.load(workdir).num_labels == 12


def test_a_run_that_was_stopped_ends_with_the_same_numbers(
    finished, small_data, tmp_path
):
    asked = []

    def stop():
        asked.append(None)
        return len(asked) in (3, 14)  # in M1, and before the second SVM

    for _ in range(2):
        with pytest.raises(Stopped):
            run_experiment(recipe(), tmp_path, data_dir=small_data, stop=stop)
    run_experiment(recipe(), tmp_path, data_dir=small_data, stop=stop)
    assert rows(tmp_path) == rows(finished("m1_graph"))


def test_a_part_of_the_images_can_be_the_graph(small_data, tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "MAX_VERTICES", 50)
    run_experiment(recipe(), tmp_path, data_dir=small_data)
    assert np.load(tmp_path / "labels-8" / "graph.npy").shape == (50, 4 + 4)
    assert rows(tmp_path)[0]["test_accuracy_mean"] > 0.8


def test_labels_of_some_images_only_and_no_test_set(tmp_path):
    """Cross-validated; what is kept has all labels; asked what to label next."""
    images, classes = blobs(60, seed=0)
    labels = np.where(np.arange(60) < 12, classes, -1)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    config = recipe(labels=(), num_splits=1, dataset=f"npz:{tmp_path}/mine.npz")
    workdir = tmp_path / "run"
    run_experiment(config, workdir)
    (row,) = rows(workdir)
    assert (row["protocol"], row["split_seeds"]) == ("cross_validation", [0, 1, 2])
    assert row["test_accuracy_mean"] > 0.6
    kept = svm.load_svm(workdir / "classifier.skops")[-1]
    assert kept.shape_fit_ == (5 * 12, 4)  # as they are, and moved to four sides
    plan = make_plan(config, workdir)
    assert write_suggestions(plan, 5).startswith("5 images to label next")
    with (workdir / "suggestions.csv").open() as file:
        assert all(int(row["image"]) >= 12 for row in csv.DictReader(file))


def test_more_neighbors_than_there_are_images_are_refused(small_data, tmp_path):
    config = recipe(**{"graph.num_neighbors": 400})
    with pytest.raises(InputError, match=r"graph.num_neighbors=400: there are 400"):
        make_plan(config, tmp_path, small_data)


def test_a_damaged_graph_is_named_in_one_line(finished, tmp_path):
    workdir = shutil.copytree(finished("m1_graph"), tmp_path / "run")
    file = workdir / "labels-8" / "graph.npy"
    file.write_bytes(b"no array")
    with pytest.raises(InputError, match=r"not a whole run \(graph.npy is damaged\)"):
        ssl_vae.load(workdir)
    file.unlink()
    with pytest.raises(InputError, match="not a whole run"):
        ssl_vae.load(workdir)


def test_a_mistyped_field_of_the_graph_gets_the_nearest_name():
    config = recipe()
    with config.unlocked():
        config.graph.strenght = 3.0
    with pytest.raises(InputError, match=r"did you mean --config.graph.strength"):
        recipes.validate(config)


def test_of_several_seeds_the_accuracy_is_the_mean_and_the_first_is_kept(
    finished, small_data, tmp_path
):
    run_experiment(recipe(num_seeds=2), tmp_path, data_dir=small_data)
    (row,) = rows(tmp_path)
    assert row["seeds"] == [42, 43]
    images, _ = blobs(80, seed=1)
    found, alone = (
        ssl_vae.load(run).predict_proba(images)
        for run in (tmp_path, finished("m1_graph"))
    )
    np.testing.assert_allclose(found, alone, atol=1e-3)
