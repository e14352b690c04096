"""Files that rot: what is on disk is what was saved, or the user is told."""

import gc
import json
import logging
import random
import shutil
import sys
from functools import partial
from pathlib import Path

import harness
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import OWN, SMALL

import ssl_vae
from ssl_vae import checkpoint, datasets
from ssl_vae import config as recipes
from ssl_vae.checkpoint import Checkpoints, Damaged
from ssl_vae.errors import InputError
from ssl_vae.experiment import Stopped, run_experiment

OLD, NEW = 100, 200


@pytest.fixture(autouse=True)
def _reads_left_over(monkeypatch):
    """Orbax leaves the reads beside one that failed to the garbage collector."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    yield
    gc.collect()


def state_at(step):
    weights = jax.random.normal(jax.random.key(step), (40, 8))
    return {
        "step": jnp.int32(step),
        "weights": weights,
        "half": weights[0].astype(jnp.bfloat16),
    }


@pytest.fixture(scope="module")
def two_states(tmp_path_factory):
    """A folder with the states of two steps."""
    folder = tmp_path_factory.mktemp("saved") / "steps"
    with Checkpoints(folder) as checkpoints:
        for step in (OLD, NEW):
            checkpoints.save(step, state_at(step))
    return folder


@pytest.fixture
def steps(two_states, tmp_path):
    return Path(shutil.copytree(two_states, tmp_path / "steps"))


def restored(folder, template=None):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(template or state_at(0))


def is_state(found, step):
    jax.tree.map(np.testing.assert_array_equal, found, state_at(step))
    return True


def files(folder):
    """Those that Orbax may need; a state's markers of being whole are not read."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


DAMAGE = {"truncated": truncate, "emptied": empty, "removed": Path.unlink}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize(
    "pattern",
    ["state/d/*", "state/ocdbt.process_0/d/*", "state/manifest.ocdbt"]
    + ["state/_METADATA", "meta/metadata"],
)
def test_a_damaged_state_is_set_aside_and_the_one_before_is_used(
    steps, how, pattern, caplog
):
    for path in (steps / f"{NEW:08d}").glob(pattern):
        DAMAGE[how](path)
    with caplog.at_level(logging.WARNING, "ssl_vae"):
        found = restored(steps)
    told = [r.message for r in caplog.records if r.name == "ssl_vae"]
    if told:
        assert is_state(found, OLD)
        assert sorted(p.name for p in steps.iterdir()) == ["00000100", "corrupt-200"]
        (line,) = told
        assert "set aside as corrupt-200" in line
        assert "\n" not in line
    else:  # some files tell nothing that is not elsewhere too
        assert is_state(found, NEW)
        assert pattern != "meta/metadata"


@pytest.mark.parametrize("what", ["state", "meta", "."])
def test_a_state_with_a_folder_missing_is_set_aside(steps, what):
    folder = steps / f"{NEW:08d}"
    shutil.rmtree(folder / what)
    folder.mkdir(exist_ok=True)
    assert is_state(restored(steps), OLD)


def test_no_flipped_bit_goes_unnoticed(two_states, tmp_path):
    rng = random.Random(0)
    folder = tmp_path / "steps"
    for _ in range(max(12, harness.EXAMPLES // 50)):
        shutil.copytree(two_states, folder)
        path = rng.choice(files(folder / f"{NEW:08d}"))
        with harness.fault("flipped bit in a state"):
            harness.flip(path, rng.randrange(1 << 20), rng.randrange(8))
            try:
                found = restored(folder)
            except InputError as error:  # of another format, by a flipped digit
                assert "format_version" in str(error)  # noqa: PT017
            else:
                newer = not (folder / f"corrupt-{NEW}").exists()
                assert is_state(found, NEW if newer else OLD)
        shutil.rmtree(folder)


def test_bits_that_orbax_gives_back_flipped_are_noticed(steps):
    """Every array's bytes lie here as they are: no error of Orbax's own."""
    with Checkpoints(steps) as checkpoints:
        state = state_at(NEW)
        state["weights"] = state["weights"].at[3, 3].add(1e-7)
        checkpoints.save(NEW + 1, state)
    meta = steps / f"{NEW:08d}" / "meta" / "metadata"
    shutil.copy(meta, steps / f"{NEW + 1:08d}" / "meta" / "metadata")
    assert is_state(restored(steps), NEW)
    assert (steps / f"corrupt-{NEW + 1}").is_dir()


def test_training_goes_on_over_a_step_that_was_set_aside(steps):
    shutil.rmtree(steps / f"{NEW:08d}" / "state")
    with Checkpoints(steps) as checkpoints:
        assert is_state(checkpoints.restore(state_at(0)), OLD)
        checkpoints.save(NEW, state_at(NEW))
    assert is_state(restored(steps), NEW)


def test_without_a_sound_state_nothing_starts_from_zero(steps):
    for path in steps.glob("*/meta/metadata"):
        empty(path)
    for _ in range(2):  # the second time there is nothing left but what was set aside
        with pytest.raises(Damaged, match="every saved state is damaged; remove"):
            restored(steps)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"weights": jnp.zeros((40, 8), jnp.float16)}, r"float32\[40, 8\] there and f"),
        ({"weights": jnp.zeros((8, 40))}, r"float32\[40, 8\] there and float32\[8, 40"),
        ({"more": jnp.zeros(3)}, "more is absent there"),
    ],
)
def test_a_state_of_another_kind_is_refused_and_stays(steps, template, message):
    with pytest.raises(InputError, match=message):
        restored(steps, state_at(0) | template)
    assert sorted(p.name for p in steps.iterdir()) == ["00000100", "00000200"]


def test_a_state_of_a_later_version_is_refused_and_stays(steps, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 0)
    with pytest.raises(InputError, match="format_version is 1, this .* reads 0"):
        restored(steps)
    assert (steps / f"{NEW:08d}").is_dir()


def test_damaged_weights_are_told_with_the_remedy(tmp_path):
    folder = tmp_path / "vae_weights"
    checkpoint.save_weights(folder, state_at(NEW))
    meta = folder / "meta" / "metadata"
    meta.write_text(meta.read_text().replace('"sha256": "', '"sha256": "0', 1))
    with pytest.raises(Damaged, match="vae_weights is damaged .*; remove that folder"):
        checkpoint.load_weights(folder, state_at(0))


def test_a_poisoned_pickle_in_a_state_is_never_run(steps, tmp_path):
    import pickle

    class Poison:
        def __reduce__(self):
            return Path.touch, (tmp_path / "run",)

    for path in files(steps / f"{NEW:08d}"):
        path.write_bytes(pickle.dumps(Poison()))
    assert is_state(restored(steps), OLD)
    assert not (tmp_path / "run").exists()


def test_a_run_with_a_damaged_state_and_then_weights_ends_with_the_same_bits(
    small_data, tmp_path
):
    """As a process: the warning, exit status 1 and the remedy, which works."""
    run_experiment(harness.recipe(), tmp_path / "whole", data_dir=small_data)
    workdir = tmp_path / "run"
    stop = partial(next, iter([False] * 6 + [True]))
    with pytest.raises(Stopped):
        run_experiment(harness.recipe(), workdir, data_dir=small_data, stop=stop)
    newest = max((workdir / "steps").iterdir())
    truncate(max(newest.rglob("d/*"), key=lambda p: p.stat().st_size))
    run_experiment(harness.recipe(), workdir, data_dir=small_data)
    assert harness.numbers(workdir) == harness.numbers(tmp_path / "whole")
    assert [p.name for p in harness.litter(workdir)] == [f"corrupt-{int(newest.name)}"]

    (workdir / "results.json").unlink()
    for path in (workdir / "vae_weights").rglob("d/*"):
        truncate(path)
    command = harness.command(workdir, small_data)
    done = harness.run(*command)
    assert done.returncode == 1, done.stderr
    assert "remove that folder" in harness.one_line(done.stderr)
    shutil.rmtree(workdir / "vae_weights")
    assert harness.run(*command).returncode == 0
    assert harness.numbers(workdir) == harness.numbers(tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("m1", "vae_weights"),
        ("m1", "classifier.skops"),
        ("m1", "classifier.json"),
        ("m1_graph", "labels-8/graph.npy"),
        ("best", "labels-8/splits-*/vae_weights"),
        ("m2", "labels-8/splits-*/vae_weights"),
        ("m1_m2", "m1/vae_weights"),
    ],
)
def test_what_a_finished_run_has_lost_its_command_makes_anew(
    finished, small_data, tmp_path, name, lost
):
    workdir = shutil.copytree(finished(name), tmp_path / "run")
    before = ssl_vae.load(workdir)
    results = json.loads((workdir / "results.json").read_text())
    (path,) = workdir.glob(lost)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match="command of (that|its) run"):
        ssl_vae.load(workdir)
    config = recipes.load(recipes.recipe_path(name))
    config.update_from_flattened_dict(SMALL | OWN[name])
    run_experiment(config, workdir, data_dir=small_data)
    images = np.random.default_rng(0).random((20, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(
        ssl_vae.load(workdir).predict_proba(images), before.predict_proba(images)
    )
    again = json.loads((workdir / "results.json").read_text())
    assert again["results"] == results["results"]


GOLDEN = Path(__file__).parents[1] / "golden"


def test_a_run_of_an_earlier_version_is_read(tmp_path):
    """Its numbers, its weights and classifier, and its states to go on from."""
    run = shutil.copytree(GOLDEN / "run", tmp_path / "run")
    # Those of then; kl_warmup was no field, which means 0.
    fields = {"train.schedule": "constant", "train.kl_warmup": 0.0}
    recipe = harness.recipe(**fields, **{"train.checkpoint_every": 5})
    stored = run_experiment(recipe, run, data_dir=GOLDEN / "corners")
    found = json.loads((GOLDEN / "run" / "results.json").read_text())
    assert stored.results[0].test_accuracy == found["results"][0]["test_accuracy"]
    images = datasets.load("corners", GOLDEN / "corners").test_images
    assert ssl_vae.load(run).predict_proba(images).shape == (80, 4)
    before = harness.numbers(run)
    (run / "results.json").unlink()  # measured again
    again = run_experiment(recipe, run, data_dir=GOLDEN / "corners")
    assert again.vae["test_elbo"] == pytest.approx(stored.vae["test_elbo"], abs=1e-3)
    (run / "results.json").unlink()
    shutil.rmtree(run / "vae_weights")  # found again in the last state
    run_experiment(recipe, run, data_dir=GOLDEN / "corners")
    digests = "vae_weights/meta/metadata"
    assert harness.numbers(run)[digests] == before[digests]
    assert harness.litter(run) == []
