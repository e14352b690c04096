"""Where the training images are kept changes nothing that is trained."""

import json
import math
from functools import partial

import jax
import numpy as np
import pytest
from conftest import OWN, SMALL, blobs
from sklearn.svm import SVC

from ssl_vae import config as recipes
from ssl_vae import datasets, placement
from ssl_vae.errors import InputError
from ssl_vae.experiment import run_experiment
from ssl_vae.gradients import num_gradients
from ssl_vae.job import _floats_of_view
from ssl_vae.placement import OnDevice, OnHost
from ssl_vae.plan import make_plan
from ssl_vae.results import Results


def recipe(name, **changes):
    config = recipes.load(recipes.recipe_path(name))
    config.update_from_flattened_dict(SMALL | OWN[name] | changes)
    return config


def logs(run):
    """All lines of all metrics logs of a run."""
    files = sorted(run.rglob("metrics.jsonl"))
    return {
        file.relative_to(run): [json.loads(s) for s in file.read_text().splitlines()]
        for file in files
    }


@pytest.mark.parametrize("name", ["m1", "m1_graph", "m2", "best"])
def test_streamed_images_train_what_images_on_the_device_do(
    name, finished, small_data, tmp_path, monkeypatch
):
    on_device, streamed = finished(name), tmp_path / "streamed"
    if name == "best":  # an SVM teaches, whose search would end within 1e-3
        monkeypatch.setattr("sklearn.svm.SVC", partial(SVC, tol=1e-6))
        on_device = tmp_path / "on_device"
        run_experiment(recipe(name), on_device, data_dir=small_data)
    config = recipe(name, **{"data.placement": "stream"})
    results = run_experiment(config, streamed, data_dir=small_data)
    expected = logs(on_device)
    assert logs(streamed).keys() == expected.keys()
    for file, lines in logs(streamed).items():
        for mine, theirs in zip(lines, expected[file], strict=True):
            assert mine.keys() == theirs.keys()
            for metric in mine:
                np.testing.assert_allclose(mine[metric], theirs[metric], rtol=1e-4)
    there = Results.load(on_device / "results.json")
    for mine, theirs in zip(results.results, there.results, strict=True):
        np.testing.assert_allclose(mine.test_accuracy, theirs.test_accuracy, atol=0.02)


def test_a_stopped_streamed_run_ends_with_the_bits_of_one_that_was_not(
    small_data, tmp_path
):
    config = recipe("m1", **{"data.placement": "stream"})
    whole = run_experiment(config, tmp_path / "whole", data_dir=small_data)
    asked = iter([False, True])
    with pytest.raises(Exception, match="saved at step"):
        run_experiment(
            config,
            tmp_path / "parts",
            data_dir=small_data,
            stop=lambda: next(asked, False),
        )
    parts = run_experiment(config, tmp_path / "parts", data_dir=small_data)
    assert logs(tmp_path / "parts") == logs(tmp_path / "whole")
    assert parts.results == whole.results
    assert parts.vae == whole.vae


def test_images_that_do_not_fit_the_device_are_streamed_or_refused_with_both_sizes(
    small_data, monkeypatch
):
    data = datasets.load("corners", small_data)
    monkeypatch.setattr(placement, "_device_memory", lambda: 100_000)
    assert isinstance(placement.place(data, "auto"), OnHost)
    with pytest.raises(InputError, match=r"=device: 400 images, .* 0\.00 GB are"):
        placement.place(data, "device")
    monkeypatch.setattr(placement, "_device_memory", lambda: 1_000_000)
    assert isinstance(placement.place(data, "auto"), OnDevice)


def test_what_training_makes_of_the_images_has_to_fit_too(small_data, monkeypatch):
    data = datasets.load("corners", small_data)
    pixels = 4 * (data.train_images.size + data.test_images.size)
    monkeypatch.setattr(placement, "_device_memory", lambda: 2 * pixels)
    assert isinstance(placement.place(data, "auto"), OnDevice)
    assert isinstance(placement.place(data, "auto", more=1), OnHost)


def test_gradients_that_training_is_given_are_counted(small_data, tmp_path):
    def floats(name, **changes):
        plan = make_plan(recipe(name, **changes), tmp_path / "run", small_data)
        return _floats_of_view(plan)

    shape = datasets.load("corners", small_data).image_shape
    view = math.prod(shape) + num_gradients(shape)
    assert floats("m1") == floats("m2") == 0
    assert floats("m1", **{"model.gradient_weight": 1.0}) == view
    assert floats("m1_m2", **{"m1.model.gradient_weight": 1.0}) == view


def test_the_memory_of_a_machine_is_that_of_the_container(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(placement, "OF_CONTAINER", limit)
    whole = placement._device_memory()
    limit.write_text("max\n")
    assert placement._device_memory() == whole
    limit.write_text("1000000\n")
    assert placement._device_memory() == 1_000_000


def test_streamed_examples_have_what_is_each_runs_own_beside_them():
    images, own = np.arange(10.0)[:, None], np.arange(20).reshape(2, 10)
    rows = np.array([[3, 1, 4], [1, 5, 9]])
    streamed = OnHost(images, lambda x: -x).examples(rows, own)
    batch, mine = streamed.prepare(streamed.read(rows[:, None, 1:]))
    np.testing.assert_array_equal(batch, [[[[-1], [-4]]], [[[-5], [-9]]]])
    np.testing.assert_array_equal(mine, [[[1, 4]], [[15, 19]]])


def test_a_map_over_streamed_images_is_that_over_all_of_them(monkeypatch):
    monkeypatch.setattr(placement, "CHUNK", 7)
    images = blobs(40, 0)[0].astype(np.uint8)[..., None]

    def function(params, x):
        return {"sum": x.sum(axis=-1) * params}

    on_device = OnDevice(placement.pixels(images)).map(function, 2.0)
    on_host = OnHost(images, placement.pixels).map(function, 2.0)
    jax.tree.map(np.testing.assert_allclose, on_host, on_device)
