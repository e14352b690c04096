"""`--log`: what TensorBoard and Weights & Biases get to see of a run."""

import importlib.machinery
import importlib.util
import json
import logging
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import OWN, SMALL
from tensorboardX.proto.event_pb2 import Event, SessionLog

from ssl_vae import config as recipes
from ssl_vae import follow
from ssl_vae.clock import Clock
from ssl_vae.errors import InputError
from ssl_vae.experiment import carry_out
from ssl_vae.follow import Follower
from ssl_vae.plan import make_plan
from ssl_vae.results import Row


class Killed(Exception):
    pass


def killed_after(parts):
    """A `stop` that ends the process, so to speak, after some parts of epochs."""
    left = iter(range(parts))

    def stop():
        if next(left, None) is None:
            raise Killed
        return False

    return stop


def plan_of(name, workdir, small_data):
    config = recipes.load(recipes.recipe_path(name))
    config.update_from_flattened_dict(SMALL | OWN[name])
    return make_plan(config, workdir, small_data)


@pytest.fixture
def logs(small_data, tmp_path):
    """The plan of a run whose folder holds logs: of M1, and of M2 for two splits."""
    plan = plan_of("m1_m2", tmp_path / "run", small_data)
    write_log(plan.workdir.stage("m1"), [{"step": 9, "loss": 5.0, "kl": 0.5}])
    write_log(
        plan.workdir.stage_of_splits(8, range(3, 5)),
        [{"step": n, "loss": [1.0 + n, 2.0 + n]} for n in (20, 40, 60)],
    )
    return plan


def write_log(stage, records):
    stage.path.mkdir(parents=True)
    for record in records:
        stage.log(record)


RESULTS = types.SimpleNamespace(
    results=[Row.measured(8, "m1_m2", {3: 0.5, 4: 0.75}, protocol="inductive")]
)


def follow_finished(names, plan):
    """What a command with `--log` does for a run that is finished."""
    with Follower(names, plan) as follower:
        follower.finish(RESULTS)


def logged(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def shown(folder):
    """Points (tag, step): value of event files, as viewers take them."""
    points = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]
            if event.session_log.status == SessionLog.START:
                points = {key: v for key, v in points.items() if key[1] < event.step}
            for value in event.summary.value:
                assert (value.tag, event.step) not in points
                points[value.tag, event.step] = value.simple_value
    return points


def test_a_trained_model_has_a_folder_of_curves_and_the_results_have_one(logs):
    with (logs.workdir.path / "m1" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10')  # torn
    write_log(logs.workdir.stage_of_whole(8), [{"step": 20, "loss": [7.0]}])
    for _ in range(2):  # the second time in place of the first
        follow_finished(["tensorboard"], logs)
    folder = logs.workdir.path / "tensorboard"
    found = {path.parent.relative_to(folder).as_posix() for path in folder.rglob("ev*")}
    of_splits = {"labels-8/split-3", "labels-8/split-4", "labels-8/split-all"}
    assert found == {"M1", "results"} | of_splits
    assert shown(folder / "labels-8/split-all") == {("loss", 20): 7.0}
    assert shown(folder / "M1") == {("loss", 9): 5.0, ("kl", 9): 0.5}
    for run, split in enumerate((3, 4)):
        assert shown(folder / f"labels-8/split-{split}") == {
            ("loss", step): 1.0 + run + step for step in (20, 40, 60)
        }
    assert shown(folder / "results") == {
        ("test_accuracy_mean", 8): 0.625,
        ("test_accuracy_std", 8): pytest.approx(0.125 * 2**0.5),
    }


class FakeRun(types.SimpleNamespace):
    """A run of Weights & Biases that keeps what it is told."""

    def __init__(self, disabled=False, **about):
        super().__init__(about=about, points=[], axes={}, summary={}, ended=None)
        self.disabled, self.url = disabled, "a page"

    def define_metric(self, name, step_metric=None, hidden=False):
        self.axes[name] = step_metric

    def log(self, point):
        self.points.append(point)

    def finish(self, exit_code):
        self.ended = exit_code


@pytest.fixture
def wandb(monkeypatch):
    """The library: logged in and at work, as long as nobody says otherwise."""
    fake = types.ModuleType("wandb")
    fake.runs, fake.Error, fake.Settings = [], type("Error", (Exception,), {}), dict
    fake.login = lambda prompt: not prompt
    fake.init = lambda **about: fake.runs.append(FakeRun(**about)) or fake.runs[-1]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    return fake


def test_a_stopped_run_tells_every_step_once(wandb, small_data, tmp_path):
    names = ["tensorboard", "wandb"]
    plan = plan_of("m1", tmp_path, small_data)
    with pytest.raises(Killed), Follower(names, plan) as follower:
        carry_out(
            plan, clock=Clock(), command="", stop=killed_after(4), follow=follower
        )
    assert len(logged(tmp_path)) == 5  # and the newest state is of four epochs
    plan = plan_of("m1", tmp_path, small_data)
    with Follower(names, plan) as follower:
        follower.finish(carry_out(plan, clock=Clock(), command="", **at(follower)))
    records = logged(tmp_path)
    assert len(records) == 12
    assert shown(tmp_path / "tensorboard" / "M1") == {
        (name, record["step"]): np.float32(record[name])
        for record in records
        for name in record
        if name != "step"
    }
    first, second = wandb.runs
    assert len(first.points) == 5
    assert first.points + second.points == [
        {f"M1/{name}": value for name, value in record.items()} for record in records
    ]
    assert (first.ended, second.ended) == (1, 0)
    assert first.about["id"] == second.about["id"]
    assert first.about["resume"] == "allow"


def at(follower):
    return {"stop": lambda: False, "follow": follower}


def test_wandb_gets_curves_the_recipe_and_the_accuracies(wandb, logs):
    follow_finished(["wandb"], logs)
    (run,) = wandb.runs
    assert "mode" not in run.about
    assert Path(run.about["dir"]) == logs.workdir.path
    assert run.about["config"]["model"]["latent_dim"] == 4
    assert run.about["config"]["data"]["train"] == 400
    assert run.about["settings"]["console"] == "off"
    models = ["M1", "labels-8/split-3", "labels-8/split-4"]
    assert run.axes == {
        name: axis
        for model in models
        for name, axis in ((f"{model}/step", None), (f"{model}/*", f"{model}/step"))
    }
    assert run.points[0] == {"M1/step": 9, "M1/loss": 5.0, "M1/kl": 0.5}
    assert run.points[-1] == {
        "labels-8/split-4/step": 60,
        "labels-8/split-4/loss": 62.0,
    }
    assert run.summary["test_accuracy_mean/8-labels"] == 0.625
    assert run.ended == 0


def test_without_a_key_wandb_stays_offline_and_says_so(wandb, logs, caplog):
    wandb.login = lambda prompt: False
    with caplog.at_level(logging.INFO, "ssl_vae"):
        follow_finished(["wandb"], logs)
    assert wandb.runs[0].about["mode"] == "offline"
    assert len(wandb.runs[0].points) == 7
    assert caplog.messages == [
        "wandb: offline, for there is no API key (wandb login)",
        f"wandb: to send it later: wandb sync {logs.workdir.path}/wandb/offline-run-*",
    ]


def test_a_server_out_of_reach_makes_wandb_go_offline(wandb, logs, caplog):
    there = wandb.init

    def init(mode="online", **about):
        if mode == "online":
            raise wandb.Error("no such\nhost")
        return there(mode=mode, **about)

    wandb.init = init
    follow_finished(["wandb"], logs)
    assert len(wandb.runs[0].points) == 7
    assert "wandb: offline, for no such host" in caplog.messages


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_mode_of_wandb_is_the_users(wandb, logs, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    del wandb.login  # it would warn
    follow_finished(["wandb"], logs)
    assert wandb.runs[0].about["mode"] == mode


def test_lines_of_a_log_that_are_not_ours_are_passed_over(wandb, logs):
    first = next(logs.workdir.path.rglob("metrics.jsonl"))
    first.write_text('5\nnull\n"x"\n[1]\n{"a": 1}\n{\n' + first.read_text())
    follow_finished(["wandb"], logs)
    assert [len(run.points) for run in wandb.runs] == [7]


def test_what_nobody_was_told_is_told_later(wandb, logs):
    there = wandb.init
    wandb.init = lambda **about: there(disabled=True, **about)
    follow_finished(["wandb"], logs)
    wandb.init = there
    follow_finished(["wandb"], logs)
    follow_finished(["wandb"], logs)
    assert [len(run.points) for run in wandb.runs] == [7, 7, 0]


def test_what_fails_is_one_line_and_the_other_log_goes_on(
    wandb, logs, monkeypatch, caplog
):
    def log(self, point):
        raise OSError("no room\nleft")

    monkeypatch.setattr(FakeRun, "log", log)
    with caplog.at_level(logging.WARNING, "ssl_vae"):
        follow_finished(["wandb", "tensorboard"], logs)
    assert caplog.messages == [
        "--log=wandb: ends here, the run goes on: OSError: no room left"
    ]
    assert len(shown(logs.workdir.path / "tensorboard" / "labels-8" / "split-3")) == 3


def test_nothing_is_opened_for_a_run_that_is_refused(wandb, small_data, tmp_path):
    plan = plan_of("m1", tmp_path / "run", small_data)
    with pytest.raises(InputError), Follower(["wandb", "tensorboard"], plan):
        raise InputError("the batch does not go into the devices")
    assert wandb.runs == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "--log=: must be tensorboard or wandb, or both with a comma"),
        (["wandb", "tensorbord"], "--log=wandb,tensorbord: must .* mean tensorboard?"),
        (["csv"], "--log=csv: must be tensorboard or wandb"),
    ],
)
def test_a_mistyped_log_is_refused(names, message, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", spec(origin="wandb.py"))
    with pytest.raises(InputError, match=message):
        follow.check(names)


def spec(origin):
    return lambda name: importlib.machinery.ModuleSpec(name, None, origin=origin)


@pytest.mark.parametrize("find", [lambda name: None, spec(origin=None)])
@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_with_what_to_install(name, find, monkeypatch):
    # A folder called wandb, as the library itself makes one, is not the package.
    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(InputError, match=rf"pip install 'ssl_vae\[{name}\]'"):
        follow.check([name])
