"""M2 and M1+M2 from end to end, on small data."""

import dataclasses
import json
import logging
import shutil
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import blobs, write_idx

import ssl_vae
from ssl_vae import checkpoint, datasets, joint, splits
from ssl_vae import config as recipes
from ssl_vae.errors import InputError, RunError
from ssl_vae.experiment import Stopped, run_experiment
from ssl_vae.labels import choose_labeled
from ssl_vae.models import M2
from ssl_vae.plan import make_plan
from ssl_vae.workdir import Workdir

COMMON = {
    "labels": (8,),
    "num_splits": 2,
    "importance_samples": 5,
    "model.latent_dim": 2,
    "model.hidden": (32,),
    "model.alpha": 5.0,
    "train.num_epochs": 4,
    "train.batch_size": 28,
    "train.labeled_batch_size": 8,
    "train.warmup_epochs": 1,
    "train.learning_rate": 1e-2,
    "train.checkpoint_every": 2,
}
FIRST = {
    "m1.model.latent_dim": 4,
    "m1.model.hidden": (32,),
    "m1.train.num_epochs": 12,
    "m1.train.batch_size": 20,
    "m1.train.learning_rate": 3e-3,
}


def recipe(name, **changes):
    config = recipes.load(recipes.recipe_path(name))
    first = FIRST if "m1" in config else {}
    few = {"few.model.hidden": (16,), "few.labels": 4}
    config.update_from_flattened_dict(COMMON | first | few | changes)
    return config


def numbers(workdir):
    """All of results.json that must repeat."""
    content = json.loads((workdir / "results.json").read_text())
    return {key: content[key] for key in ("vae", "results", "dataset", "seed")}


@pytest.fixture(scope="module")
def m2_run(small_data, tmp_path_factory):
    """A finished run of M2: its folder and its results."""
    workdir = tmp_path_factory.mktemp("m2")
    return workdir, run_experiment(recipe("m2"), workdir, data_dir=small_data)


@pytest.fixture(scope="module")
def m1_m2_run(small_data, tmp_path_factory):
    """A finished run of M1+M2: its folder and its results."""
    workdir = tmp_path_factory.mktemp("m1_m2")
    return workdir, run_experiment(recipe("m1_m2"), workdir, data_dir=small_data)


@pytest.fixture(scope="module", params=["m2", "m1_m2"])
def finished(request):
    """A finished run: its recipe's name, its folder and its results."""
    return request.param, *request.getfixturevalue(f"{request.param}_run")


def test_the_accuracy_is_far_above_chance_and_in_the_promised_format(finished):
    name, workdir, _ = finished
    content = json.loads((workdir / "results.json").read_text())
    assert content["model"] == name
    (row,) = content["results"]
    assert row["labels"] == 8
    assert row["classifier"] == name
    assert row["protocol"] == "inductive"
    assert row["split_seeds"] == [0, 1]
    assert row["test_accuracy_mean"] == pytest.approx(np.mean(row["test_accuracy"]))
    assert row["test_accuracy_mean"] > 0.9
    for figures in (content["vae"], *row["vae"]):
        # Up to the noise of either.
        assert figures["test_elbo"] < figures["test_log_likelihood"] + 0.5 < 0
        assert figures["importance_samples"] == 5
        assert 0 <= figures["active_units"] <= figures["latent_dim"] == 2
        assert (figures["epochs"], figures["steps"]) == (4, 4 * (392 // 20))
        assert 0 <= figures["entropy"] < np.log(4)
        assert sum(figures["class_histogram"]) == pytest.approx(1)
        assert figures["collapsed"] is False
    assert content["vae"] == row["vae"][0]
    assert len(row["calibration"]) == 2
    for trust in row["calibration"]:
        assert trust["temperature"] == 1
        assert 0 <= trust["error"] == trust["error_before"] < 1


def test_a_workdir_holds_what_it_should(finished):
    name, workdir, _ = finished
    first = ["m1"] if name == "m1_m2" else []
    assert sorted(p.name for p in workdir.iterdir()) == sorted(
        [
            "analogies.png",
            "config.json",
            "labels-8",
            "latent_space.png",
            "confidence.png",
            "model_card.md",
            "reconstructions.png",
            "report.html",
            "report.npz",
            "results.json",
            "samples.png",
            *first,
        ]
    )
    stages = [workdir / "labels-8" / "splits-0-1", *(workdir / f for f in first)]
    for stage in stages:
        assert {p.name for p in stage.iterdir()} == {
            "metrics.jsonl",
            "steps",
            "vae_weights",
        }


def test_a_stopped_run_goes_on_to_the_same_bits(finished, small_data, tmp_path):
    name, workdir, _ = finished
    for asked in (1, 2, 1):
        stop = partial(next, iter([False] * asked + [True] * 100))
        with pytest.raises(Stopped):
            run_experiment(recipe(name), tmp_path, data_dir=small_data, stop=stop)
    run_experiment(recipe(name), tmp_path, data_dir=small_data)
    assert numbers(tmp_path) == numbers(workdir)
    for log in workdir.rglob("metrics.jsonl"):
        again = tmp_path / log.relative_to(workdir)
        assert again.read_bytes() == log.read_bytes()


def test_the_same_call_repeats_the_numbers_without_training(finished, small_data):
    name, workdir, results = finished
    assert run_experiment(recipe(name), workdir, data_dir=small_data) == results


def test_more_splits_join_what_is_there(finished, small_data, tmp_path):
    name, workdir, results = finished
    folder = shutil.copytree(workdir, tmp_path / "copy")
    more = run_experiment(recipe(name, num_splits=3), folder, data_dir=small_data)
    (row,), (old,) = more.results, results.results
    assert row.split_seeds == [0, 1, 2]
    assert row.test_accuracy[:2] == old.test_accuracy
    assert row.vae[:2] == old.vae
    groups = {path.name for path in (folder / "labels-8").iterdir()}
    assert groups == {"splits-0-1", "splits-2-2"}


def test_fewer_labels_join_what_is_there_by_the_fields_of_few(
    m2_run, small_data, tmp_path
):
    workdir, results = m2_run
    folder = shutil.copytree(workdir, tmp_path / "copy")
    more = run_experiment(recipe("m2", labels=(4,)), folder, data_dir=small_data)
    assert [row.labels for row in more.results] == [4, 8]
    # The model that stands for the run is still that of the most labels.
    assert more.vae == results.vae
    narrow = M2(64, 4, 0.01, latent_dim=2, hidden=(16,))
    template = jax.vmap(narrow.init)(jax.random.split(jax.random.key(0), 2))
    stage = folder / "labels-4" / "splits-0-1"
    checkpoint.load_weights(stage / "vae_weights", template)  # or raises


def test_a_run_that_lost_its_weights_after_the_last_step_finds_them_again(
    m2_run, small_data, tmp_path
):
    workdir, _ = m2_run
    folder = shutil.copytree(workdir, tmp_path / "copy")
    (folder / "results.json").unlink()
    shutil.rmtree(folder / "labels-8" / "splits-0-1" / "vae_weights")
    run_experiment(recipe("m2"), folder, data_dir=small_data)
    assert numbers(folder) == numbers(workdir)


def test_other_importance_samples_measure_again_without_training(
    m2_run, small_data, tmp_path
):
    workdir, results = m2_run
    folder = shutil.copytree(workdir, tmp_path / "copy")
    shutil.rmtree(folder / "labels-8" / "splits-0-1" / "steps")
    again = run_experiment(
        recipe("m2", importance_samples=7), folder, data_dir=small_data
    )
    assert again.vae["importance_samples"] == 7
    assert again.vae["test_log_likelihood"] != results.vae["test_log_likelihood"]
    assert again.results[0].test_accuracy == results.results[0].test_accuracy


def test_results_are_saved_after_every_number_of_labels(m2_run, small_data, tmp_path):
    workdir, _ = m2_run
    # The second number of labels is reached when the first one's figures are made.
    stop = partial(next, iter([False] * 6 + [True] * 1000))
    folder = shutil.copytree(workdir, tmp_path / "copy")
    (folder / "results.json").unlink()
    config = recipe("m2", labels=(8, 40))
    with pytest.raises(Stopped):
        run_experiment(config, folder, data_dir=small_data, stop=stop)
    rows = json.loads((folder / "results.json").read_text())["results"]
    assert [row["labels"] for row in rows] == [8]


def test_no_hidden_label_reaches_the_training(
    finished, small_data, tmp_path, monkeypatch
):
    name, workdir, _ = finished
    whole = datasets.load("fashion_mnist", small_data)
    shown = [choose_labeled(whole.train_labels, 8, split_seed=s) for s in range(2)]
    hidden = np.setdiff1d(np.arange(400), np.concatenate(shown))
    permuted = whole.train_labels.copy()
    permuted[hidden] = np.roll(permuted[hidden], 7)
    assert (permuted != whole.train_labels).any()
    other = dataclasses.replace(whole, train_labels=permuted)
    monkeypatch.setattr(datasets, "load", lambda name, data_dir: other)
    monkeypatch.setattr(
        splits, "choose_labeled", lambda labels, num, split_seed: shown[split_seed]
    )
    run_experiment(recipe(name), tmp_path, data_dir=small_data)
    # The last has the digest of every array of the weights.
    for file in ("metrics.jsonl", "vae_weights/meta/metadata"):
        one, other = (p / "labels-8/splits-0-1" / file for p in (tmp_path, workdir))
        assert one.read_bytes() == other.read_bytes()


def test_a_model_is_told_how_many_have_labels_and_how_long_it_warms_up(small_data):
    plan = make_plan(recipe("m2"), "never-made", small_data)
    data = plan.data
    job = SimpleNamespace(plan=plan, test_images=np.zeros([1, 64], np.float32))
    model = joint._trial(job, 8, None, None, None).model
    assert (model.pixels, model.num_classes) == (64, data.num_classes) == (64, 4)
    assert model.labeled_fraction == 8 / len(data.train_images) == 0.02
    assert model.warmup_steps == 1 * (392 // 20)  # epochs of the unlabeled
    assert model.alpha == 5.0


def test_the_log_tells_of_every_split(m2_run):
    workdir, _ = m2_run
    log = (workdir / "labels-8" / "splits-0-1" / "metrics.jsonl").read_text()
    last = json.loads(log.splitlines()[-1])
    assert {"loss", "cross_entropy", "entropy", "classes"} < last.keys()
    assert all(len(v) == 2 for name, v in last.items() if name != "step")
    assert all(1 <= v <= 4 for v in last["classes"])


def test_an_m1_that_was_taken_may_go(m1_run, m1_m2_run, small_data, tmp_path):
    first, run = shutil.copytree(m1_run, tmp_path / "m1"), tmp_path / "run"
    # What the recipe says of M1 is what that run says.
    config = recipe("m1_m2", m1_workdir=str(first), **{"m1.model.latent_dim": 3})
    config.num_splits = 1
    results = run_experiment(config, run, data_dir=small_data)
    assert Workdir(run).recipe().m1.model.latent_dim == 4
    images = datasets.load("fashion_mnist", small_data).test_images
    said = ssl_vae.load(run).predict_proba(images)
    shutil.rmtree(first)
    assert np.array_equal(ssl_vae.load(run).predict_proba(images), said)
    assert run_experiment(config, run, data_dir=small_data) == results
    gone = shutil.copytree(run, tmp_path / "gone")
    shutil.rmtree(gone / "m1")
    assert run_experiment(config, gone, data_dir=small_data) == results
    config.num_splits = 2
    with pytest.raises(InputError, match="its VAE of all images is gone"):
        run_experiment(config, gone, data_dir=small_data)
    (row,) = run_experiment(config, run, data_dir=small_data).results
    # A split that is trained alone ends like one that is trained with others.
    (together,) = m1_m2_run[1].results
    assert row.test_accuracy == pytest.approx(together.test_accuracy, abs=0.02)
    for alone, one in zip(row.vae, together.vae, strict=True):
        assert alone["kept_units"] == one["kept_units"]
        assert alone["test_elbo"] == pytest.approx(one["test_elbo"], rel=1e-3)


def test_a_collapsed_run_says_so(small_data, tmp_path, caplog):
    changes = {"model.alpha": 0.0, "train.num_epochs": 1, "train.warmup_epochs": 0}
    config = recipe("m2", **changes)
    with caplog.at_level(logging.WARNING, "ssl_vae"):
        results = run_experiment(config, tmp_path, data_dir=small_data)
    (row,) = results.results
    assert row.collapsed == [0, 1]
    lines = [r.getMessage() for r in caplog.records if "collapsed" in r.getMessage()]
    assert len(lines) == 2
    assert "8 labels, split 0" in lines[0]
    assert "--config.model.alpha" in lines[0]
    assert "\n" not in lines[0]
    assert "collapsed" in results.table([8])


@pytest.fixture(scope="module")
def m1_run(small_data, tmp_path_factory):
    """A finished run of M1 with the settings of FIRST."""
    workdir = tmp_path_factory.mktemp("m1")
    config = recipes.load(recipes.recipe_path("m1"))
    config.update_from_flattened_dict(
        {f.removeprefix("m1."): value for f, value in FIRST.items()}
        | {"labels": (8,), "importance_samples": 1, "train.kl_warmup": 0.0}
    )
    run_experiment(config, workdir, data_dir=small_data)
    return workdir


def test_an_m1_that_cannot_be_copied_is_named_in_a_line(m1_run, small_data, tmp_path):
    first = shutil.copytree(m1_run, tmp_path / "m1")
    (first / "metrics.jsonl").unlink()
    (first / "metrics.jsonl").mkdir()
    config = recipe("m1_m2", m1_workdir=str(first))
    with pytest.raises(
        RunError, match=r"/m1: cannot be copied to .*/run/m1 \(.*Is a d"
    ):
        run_experiment(config, tmp_path / "run", data_dir=small_data)
    assert not list((tmp_path / "run").glob("m1*"))


def test_an_m1_from_before_a_field_came_may_be_taken(m1_run, small_data, tmp_path):
    first = shutil.copytree(m1_run, tmp_path / "m1")
    content = json.loads((first / "config.json").read_text())
    del content["config"]["model"]["dtype"]
    (first / "config.json").write_text(json.dumps(content))
    config = recipe("m1_m2", m1_workdir=str(first))
    plan = make_plan(config, tmp_path / "run", small_data)
    assert plan.given_m1.path == first
    assert recipes.value(plan.recipe, "m1.model.dtype") == "float32"


def test_m1_may_come_from_another_run(m1_run, small_data, tmp_path, m1_m2_run):
    _, results = m1_m2_run
    config = recipe("m1_m2", m1_workdir=str(m1_run))
    taken = run_experiment(config, tmp_path / "run", data_dir=small_data)
    names = {path.name for path in (tmp_path / "run" / "m1").iterdir()}
    assert names == {"config.json", "metrics.jsonl", "vae_weights"}
    # It is the M1 that the run would have trained itself.
    assert taken.results == results.results


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "m1_workdir=.*: no run is there"),
        ("unfinished", "m1_workdir=.*: that run is not finished"),
        ("m2", "m1_workdir=.*: not the folder of a run of the model m1"),
        (
            "data",
            r"m1_workdir=.*: trained on other images: image_shape is"
            r" \[8, 8, 1\] there and \[10, 10, 1\] here; leave the field empty",
        ),
        ("validation", r"m1_workdir=.*: trained on other images: .*dataset\.name"),
        ("broken", "m1_workdir=.*config.json: not a JSON file"),
        ("model", "m1_workdir=.*config.json: --config.model.name: the recipe does not"),
        ("version", "m1_workdir=.*: no run of this version of ssl_vae"),
        ("long", "m1_workdir=.*: .*name too long"),
        ("home", "m1_workdir=~nobody-of-that-name/run: "),
    ],
)
def test_an_m1_workdir_that_will_not_do_is_refused(
    m1_run, m2_run, small_data, tmp_path, change, message
):
    folder, data, changes = tmp_path / "m1", small_data, {}
    shutil.copytree(m1_run, folder)
    if change == "missing":
        shutil.rmtree(folder)
    elif change == "unfinished":
        shutil.rmtree(folder / "vae_weights")
    elif change == "m2":
        shutil.copy(m2_run[0] / "config.json", folder)
    elif change == "model":
        content = json.loads((folder / "config.json").read_text())
        content["config"]["model"] = "m1"
        (folder / "config.json").write_text(json.dumps(content))
    elif change == "version":
        text = (folder / "config.json").read_text()
        (folder / "config.json").write_text(text.replace('version": 1', 'version": 9'))
    elif change in ("long", "home"):
        folder = "a" * 5000 if change == "long" else "~nobody-of-that-name/run"
    elif change == "data":
        data = tmp_path / "larger"
        data.mkdir()
        images, labels = blobs(400, seed=0)
        write_idx(data, "train", np.pad(images, [(0, 0), (1, 1), (1, 1)]), labels)
        images, labels = blobs(80, seed=1)
        write_idx(data, "t10k", np.pad(images, [(0, 0), (1, 1), (1, 1)]), labels)
    elif change == "validation":
        changes = {"evaluate_on": "validation"}
    else:
        (folder / "config.json").write_text("{")
    config = recipe("m1_m2", m1_workdir=str(folder), **changes)
    with pytest.raises(InputError, match=message):
        run_experiment(config, tmp_path / "run", data_dir=data)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": (3,)}, "--labels=3: .*nearest: 4"),
        (
            {"train.labeled_batch_size": 28},
            "labeled_batch_size=28: must leave room for unlabeled images in a batch of",
        ),
        (
            {"train.batch_size": 500},
            "there are 392; choose at most 400",
        ),
        (
            {"train.warmup_epochs": 4},
            "warmup_epochs=4: must be fewer than .* training, 4",
        ),
        ({"labels": (400,)}, "there are 0; leave some unlabeled"),
        ({"m1.train.batch_size": 401}, r"m1\.train\.batch_size=401: there are 400"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    small_data, tmp_path, changes, message
):
    with pytest.raises(InputError, match=message):
        run_experiment(
            recipe("m1_m2", **changes), tmp_path / "run", data_dir=small_data
        )
    assert not (tmp_path / "run").exists()


def test_m1_without_an_active_unit_is_told_in_one_line(small_data, tmp_path):
    config = recipe("m1_m2", **{"m1.model.kl_weight": 1000.0, "m1.train.num_epochs": 2})
    with pytest.raises(RunError, match="no latent unit of M1 tells images apart"):
        run_experiment(config, tmp_path, data_dir=small_data)
