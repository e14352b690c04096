"""VAEs of several seeds in one run."""

import json
import re

import jax
import numpy as np
import pytest
from conftest import OWN, SMALL, blobs

import ssl_vae
from ssl_vae import config as recipes
from ssl_vae import follow
from ssl_vae.errors import InputError
from ssl_vae.experiment import Stopped, run_experiment
from ssl_vae.job import Keys
from ssl_vae.plan import make_plan
from ssl_vae.results import Results

SEEDS = range(42, 45)


def recipe(name="m1", **changes):
    config = recipes.load(recipes.recipe_path(name))
    config.update_from_flattened_dict(SMALL | OWN[name] | changes)
    return config


def together(**changes):
    return recipe(num_seeds=len(SEEDS), **changes)


@pytest.fixture(scope="module")
def run(small_data, tmp_path_factory):
    """A finished run of three seeds."""
    workdir = tmp_path_factory.mktemp("seeds")
    run_experiment(together(), workdir, data_dir=small_data)
    return workdir


@pytest.fixture(scope="module")
def alone(small_data, tmp_path_factory):
    """Finished runs of each of the seeds."""

    def one(seed):
        workdir = tmp_path_factory.mktemp(f"seed{seed}")
        run_experiment(recipe(seed=seed), workdir, data_dir=small_data)
        return workdir

    return [one(seed) for seed in SEEDS]


def numbers(workdir):
    """All of results.json that must repeat."""
    content = json.loads((workdir / "results.json").read_text())
    return {key: content[key] for key in ("vae", "results", "dataset", "seed")}


def test_several_seeds_at_once_are_the_runs_of_each(run, alone):
    both, each = numbers(run), [numbers(workdir) for workdir in alone]
    (row,) = both["results"]
    assert row["seeds"] == list(SEEDS)
    assert row["accuracy_of_seeds"] == [
        one["results"][0]["test_accuracy"] for one in each
    ]
    for together, one in zip(both["vae"]["of_seeds"], each, strict=True):
        assert together == pytest.approx(one["vae"], rel=1e-4)
    assert len({one["vae"]["test_elbo"] for one in each}) == len(SEEDS)


def test_accuracies_are_means_over_seeds_with_a_deviation(run):
    (row,) = numbers(run)["results"]
    of_seeds = np.array(row["accuracy_of_seeds"])
    assert of_seeds.shape == (len(SEEDS), 2)
    assert row["test_accuracy"] == pytest.approx(of_seeds.mean(axis=0))
    assert row["test_accuracy_mean"] == pytest.approx(of_seeds.mean())
    assert row["test_accuracy_std"] == pytest.approx(
        np.std(of_seeds.mean(axis=0), ddof=1)
    )
    assert row["std_over_seeds"] == pytest.approx(np.std(of_seeds.mean(axis=1), ddof=1))


def test_table_report_and_card_say_of_how_many_seeds_they_are(run):
    results = Results.load(run / "results.json")
    deviation = f"{100 * results.results[0].std_over_seeds:.2f}"
    head, line = results.table([8]).splitlines()
    assert head.endswith("sd over 3 seeds")
    assert line.endswith(deviation)
    for name in ("report.html", "model_card.md"):
        text = (run / name).read_text()
        assert "the mean over 3 VAEs, of the seeds 42 to 44" in text
        assert f"standard deviation of {deviation} points" in text
    assert "A line for each of 3 seeds." in (run / "report.html").read_text()


def test_the_classifier_that_is_kept_is_of_the_first_seed(run, alone):
    images = blobs(20, seed=3)[0]
    kept, first = ssl_vae.load(run), ssl_vae.load(alone[0])
    np.testing.assert_allclose(kept.features(images), first.features(images), rtol=1e-4)
    np.testing.assert_allclose(
        kept.predict_proba(images), first.predict_proba(images), atol=1e-4
    )


def test_a_run_of_several_seeds_goes_on_where_it_was_stopped(run, small_data, tmp_path):
    config, asked = together(), iter([False, True])
    with pytest.raises(Stopped):
        run_experiment(
            config, tmp_path, data_dir=small_data, stop=lambda: next(asked, True)
        )
    run_experiment(config, tmp_path, data_dir=small_data)
    assert numbers(tmp_path) == numbers(run)


def test_several_seeds_learn_the_same_of_streamed_images(run, small_data, tmp_path):
    streamed = together(**{"data.placement": "stream"})
    run_experiment(streamed, tmp_path, data_dir=small_data)
    both = (numbers(folder)["vae"]["of_seeds"] for folder in (tmp_path, run))
    for here, there in zip(*both, strict=True):
        assert here == pytest.approx(there, rel=1e-5)


def test_the_largest_seed_has_followers(small_data, tmp_path):
    plan = make_plan(together(seed=2**31 - 1), tmp_path, small_data)
    keys = Keys.of_seeds(plan.seeds)
    words = {tuple(word) for word in np.asarray(jax.random.key_data(keys.init))}
    assert len(words) == len(SEEDS)
    alone = Keys.of_seeds(range(2**31 - 1, 2**31))
    assert jax.random.key_data(alone.init).tolist() in [list(word) for word in words]


def test_each_seed_is_followed_under_its_name(run, small_data):
    plan = make_plan(together(), run, small_data)
    assert follow._models(plan.workdir.stage(), plan) == [
        f"M1/seed-{seed}" for seed in SEEDS
    ]


def test_a_student_has_a_single_teacher():
    with pytest.raises(InputError, match=r"--config.num_seeds=3: must be 1 where"):
        make_plan(recipe("best", num_seeds=3))


def test_a_run_of_several_seeds_is_no_first_stage(run, small_data, tmp_path):
    config = recipe("m1_m2", m1_workdir=str(run))
    with pytest.raises(InputError, match=f"{re.escape(str(run))}: holds VAEs of sev"):
        make_plan(config, tmp_path / "run", small_data)


def test_the_number_of_seeds_of_a_run_stays(run, small_data):
    with pytest.raises(InputError, match="num_seeds is 3 there and 1 here"):
        make_plan(recipe(), run, small_data)
