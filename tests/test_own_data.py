"""Data of one's own, from the flag to the table, and the mistakes that people make."""

import numpy as np
import pytest

from ssl_vae import config as recipes
from ssl_vae import datasets
from ssl_vae.errors import InputError
from ssl_vae.experiment import run_experiment


@pytest.fixture(autouse=True)
def own_machine(tmp_path, monkeypatch):
    """No test sees this machine's data or cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def recipe(dataset, name="m1", **changes):
    config = recipes.load(recipes.recipe_path(name))
    small = {
        "dataset": str(dataset),
        "num_splits": 2,
        "importance_samples": 2,
        "model.latent_dim": 3,
        "model.hidden": (16,),
        "train.num_epochs": 3,
        "train.batch_size": 10,
    }
    config.update_from_flattened_dict(small | changes)
    return config


def load_error(name, data_dir=None) -> str:
    with pytest.raises(InputError) as caught:
        datasets.load(str(name), data_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_digits_need_no_file_and_have_a_balanced_test_part():
    digits, again = datasets.load("digits"), datasets.load("digits")
    assert digits.name == "digits"
    assert digits.image_shape == (8, 8, 1)
    assert len(digits.train_images) == 1437
    np.testing.assert_array_equal(np.bincount(digits.test_labels), [36] * 10)
    assert not digits.cross_validated
    assert digits.train_images.max() == 255
    assert digits.sha256 == again.sha256
    assert len(set(digits.train_sources.tolist())) == 1437
    assert "leave --data_dir out" in load_error("digits", "somewhere")


def test_digits_give_a_result(tmp_path):
    config = recipe("digits", labels=(100,), **{"train.learning_rate": 1e-2})
    results = run_experiment(config, tmp_path / "run")
    assert results.results[0].test_accuracy_mean > 0.4
    assert results.results[0].protocol == "inductive"
    assert results.dataset["class_names"] == [str(k) for k in range(10)]
    assert results.dataset["image_shape"] == [8, 8, 1]
