"""The recipe m1_graph from end to end on small data, and its classifiers."""

import csv
import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import OWN, SMALL, blobs

import ssl_vae
from ssl_vae import config as recipes
from ssl_vae import datasets, placement, svms
from ssl_vae.classifiers import graph, svm
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.errors import InputError
from ssl_vae.experiment import Stopped, run_experiment
from ssl_vae.models import M1
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


def test_accuracy_is_of_the_answers_that_what_is_kept_gives(tmp_path):
    """Not of the SVM's count of pairs, which differ for images of noise."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (400, 2, 2), dtype=np.uint8)
    labels = np.tile(np.arange(10), 40)
    arrays = {"images": images[:200], "labels": labels[:200]}
    arrays |= {"test_images": images[200:], "test_labels": labels[200:]}
    np.savez(tmp_path / "noise.npz", **arrays)
    config = recipes.load(recipes.recipe_path("m1"))
    own = {"dataset": f"npz:{tmp_path}/noise.npz", "labels": (100,), "num_splits": 1}
    config.update_from_flattened_dict(SMALL | own)
    run_experiment(config, tmp_path / "run")
    kept = ssl_vae.load(tmp_path / "run")
    answers = kept.predict(images[200:]).astype(int)
    [accuracy] = rows(tmp_path / "run")[0]["test_accuracy"]
    assert accuracy == np.mean(answers == labels[200:])
    pairs = svm.load_svm(tmp_path / "run" / "classifier.skops")
    assert (answers != pairs.predict(kept.features(images[200:]))).any()


def test_more_labels_reuse_the_vae_and_fewer_leave_what_is_kept(
    finished, small_data, tmp_path
):
    workdir = shutil.copytree(finished("m1_graph"), tmp_path / "run")
    (workdir / "labels-8" / "notes.txt").write_text("mine")
    before = (workdir / "labels-8" / "graph.npy").read_bytes()
    run_experiment(recipe(labels=(4,)), workdir, data_dir=small_data)
    assert (workdir / "labels-8" / "graph.npy").read_bytes() == before
    run_experiment(recipe(labels=(12,)), workdir, data_dir=small_data)
    assert [row["labels"] for row in rows(workdir)] == [4, 8, 12]
    assert rows(workdir)[1] == rows(finished("m1_graph"))[0]
    assert (workdir / "labels-12" / "graph.npy").read_bytes() != before
    assert [path.name for path in (workdir / "labels-8").iterdir()] == ["notes.txt"]
    assert ssl_vae.load(workdir).num_labels == 12


def test_a_run_that_was_stopped_ends_with_the_same_numbers(
    finished, small_data, tmp_path
):
    asked = []

    def stop():
        asked.append(None)
        return len(asked) in (3, 14)  # in M1, and before the second SVM

    for where in ("saved at step", "in the classifiers for 8 labels"):
        with pytest.raises(Stopped, match=where):
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
    labeled = [*range(12), 12, 16, 20]  # six are of the first class
    labels = np.where(np.isin(np.arange(60), labeled), classes, -1)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    config = recipe(labels=(), num_splits=1, dataset=f"npz:{tmp_path}/mine.npz")
    workdir = tmp_path / "run"
    run_experiment(config, workdir)
    (row,) = rows(workdir)
    assert (row["protocol"], row["split_seeds"]) == ("cross_validation", [0, 1, 2])
    assert row["test_accuracy_mean"] > 0.6
    kept = svm.load_svm(workdir / "classifier.skops")[-1]
    assert kept.shape_fit_ == (5 * 15, 4)  # as they are, and moved to four sides
    beside = workdir / "labels-15" / "graph.npy"
    aligned = CalibratedSVM.load(workdir, num_labels=15, beside=beside)
    log_probs = aligned.log_probs(ssl_vae.load(workdir).features(images))
    shares = np.exp(log_probs).mean(axis=0)
    np.testing.assert_allclose(shares, [0.4, 0.2, 0.2, 0.2], atol=1e-3)
    plan = make_plan(config, workdir)
    assert write_suggestions(plan, 5).startswith("5 images to label next")
    with (workdir / "suggestions.csv").open() as file:
        assert all(int(row["image"]) not in labeled for row in csv.DictReader(file))


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
    small_data, tmp_path
):
    run_experiment(recipe(num_seeds=2), tmp_path, data_dir=small_data)
    (row,) = rows(tmp_path)
    assert row["seeds"] == [42, 43]
    of_seeds = np.array(row["accuracy_of_seeds"])
    np.testing.assert_allclose(row["test_accuracy"], of_seeds.mean(axis=0))
    images, labels = blobs(80, seed=1)
    right = ssl_vae.load(tmp_path).predict(images) == labels.astype(str)
    assert np.mean(right) == of_seeds[0][0]


@pytest.mark.parametrize("wanted", ["device", "stream"])
def test_labeled_images_are_moved_by_a_pixel_to_each_side(wanted, tmp_path):
    images, labels = blobs(20, seed=0)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    data = datasets.load(f"npz:{tmp_path}/mine.npz")
    model = M1(data.image_shape, latent_dim=3, hidden=(8,))
    params = model.init(jax.random.key(0))
    job = SimpleNamespace(
        plan=SimpleNamespace(data=data), train_images=placement.place(data, wanted)
    )
    extracted = SimpleNamespace(model=model, params=params)
    found = svms._moved(job, extracted, np.array([2, 11]))
    padded = np.pad(data.train_images[[2, 11], ..., 0] / 255, [(0, 0), (1, 1), (1, 1)])
    moves = [padded[:, i : i + 8, j : j + 8] for i, j in SIDES]
    expected = [model.features(params, m.reshape(2, -1).astype("f")) for m in moves]
    np.testing.assert_allclose(found, expected, atol=1e-5)


SIDES = [(0, 1), (2, 1), (1, 0), (1, 2)]


def test_an_svm_alone_can_learn_from_moved_images_too(small_data, tmp_path):
    config = recipes.load(recipes.recipe_path("m1"))
    config.update_from_flattened_dict(SMALL | {"classifier.shifted": True})
    run_experiment(config, tmp_path, data_dir=small_data)
    assert svm.load_svm(tmp_path / "classifier.skops")[-1].shape_fit_ == (5 * 8, 4)
