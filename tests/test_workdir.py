import json
import os
import tempfile

import pytest

from ssl_vae.errors import InputError
from ssl_vae.workdir import Workdir, write_json

CONFIG = {"seed": 42, "labels": (100,), "model": {"latent_dim": 10, "hidden": (6, 6)}}
DATASET = {"name": "corners", "sha256": "aa"}


def test_a_new_folder_is_claimed_and_the_same_run_comes_back(tmp_path):
    run = Workdir(tmp_path / "a" / "run")
    run.check()
    run.check_owner(CONFIG, DATASET)
    run.claim(CONFIG, DATASET)
    run.check_owner(CONFIG | {"labels": (600,)}, DATASET)
    assert json.loads(run.config.read_text())["config"]["seed"] == 42


def test_another_run_is_refused_with_the_differences(tmp_path):
    run = Workdir(tmp_path)
    run.claim(CONFIG, DATASET)
    before = run.config.read_bytes()
    other = CONFIG | {"seed": 1, "model": {"latent_dim": 50, "hidden": (6, 6)}}
    with pytest.raises(InputError) as error:
        run.check_owner(other, DATASET | {"sha256": "bb"})
    for part in (
        "seed is 42 there and 1 here",
        "model.latent_dim is 10 there and 50 here",
        "dataset.sha256 is 'aa' there and 'bb' here",
        "choose another --workdir",
    ):
        assert part in str(error.value)
    assert run.config.read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"config": 3}', "<html>"])
def test_a_config_json_that_is_none_of_ours_is_refused(tmp_path, text):
    run = Workdir(tmp_path)
    run.config.write_text(text)
    with pytest.raises(InputError, match=r"config\.json: not a"):
        run.check_owner(CONFIG, DATASET)


@pytest.mark.parametrize(
    "config",
    [
        {"a.b": 1},
        {"__class__": 1},
        {"model": {"name": [[]]}},
        {"model": {"name": {}}},
    ],
)
def test_a_recipe_that_can_be_none_is_refused_by_the_file(tmp_path, config):
    run = Workdir(tmp_path)
    run.config.write_text(json.dumps({"config": config}))
    with pytest.raises(InputError, match=r"config\.json: ") as error:
        run.recipe()
    assert "\n" not in str(error.value)


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="is not a folder"):
            Workdir(path).check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        Workdir(tmp_path / "run").check()


def test_a_file_system_that_refuses_writes_is_refused():
    with pytest.raises(InputError, match="--workdir=/proc/run: cannot be written"):
        Workdir("/proc/run").check()


def test_a_folder_that_another_process_takes_away_meanwhile_is_looked_for_again(
    tmp_path, monkeypatch
):
    run, probe = tmp_path / "run", tempfile.TemporaryFile
    run.mkdir()

    def taken_away(dir):  # noqa: A002
        if dir == run:
            run.rmdir()
        return probe(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", taken_away)
    Workdir(run).check()
    assert not run.exists()


def test_checking_leaves_nothing_behind(tmp_path):
    Workdir(tmp_path / "run").check()
    assert list(tmp_path.iterdir()) == []


def test_trimming_the_log_drops_later_steps_and_a_torn_line(tmp_path):
    run = Workdir(tmp_path).stage()
    for step in (100, 200, 300):
        run.log({"step": step, "loss": 0.1 * step})
    with run.metrics.open("a") as file:
        file.write('{"step": 4')
    run.trim_log(200)
    steps = [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()]
    assert steps == [100, 200]


def test_json_is_strict(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, {"accuracy": 0.5})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"accuracy": float("nan")})
    assert json.loads(path.read_text()) == {"accuracy": 0.5}


def test_splits_that_were_trained_together_stay_together(tmp_path):
    run = Workdir(tmp_path)
    assert run.groups_of_splits(600, 3) == [range(3)]
    run.stage_of_splits(600, range(3)).path.mkdir(parents=True)
    assert run.groups_of_splits(600, 3) == run.groups_of_splits(600, 1) == [range(3)]
    assert run.groups_of_splits(600, 12) == [range(3), range(3, 12)]
    run.stage_of_splits(600, range(3, 12)).path.mkdir()
    run.stage_of_splits(600, range(12, 14)).path.mkdir()
    assert run.groups_of_splits(600, 14) == [range(3), range(3, 12), range(12, 14)]
    assert run.groups_of_splits(100, 2) == [range(2)]
    for stray in ("splits-0-2.bak", "splits-20-30", "splits-x-y", "splits-14-13"):
        (tmp_path / "labels-600" / stray).mkdir()
    assert run.groups_of_splits(600, 14) == [range(3), range(3, 12), range(12, 14)]
