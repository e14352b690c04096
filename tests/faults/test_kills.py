"""Killed or stopped anywhere, the same command ends with the same bits."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import harness
import pytest

from ssl_vae.workdir import Workdir

KILLED_AT = Path(__file__).with_name("killed_at.py")
# Just before these get their names; the results come after their pictures.
INSTANTS = {
    "m1_quick": ["steps/00000012", "vae_weights", "classifier.skops", "results.json"],
    "m1_features": ["steps/00000012", "classifier.skops", "results.json"],
    "m1_graph": ["labels-8/graph.npy", "classifier.json", "results.json"],
    "best": ["vae_weights", "splits-0-1/vae_weights", "results.json"],
    "m2": ["splits-0-1/vae_weights", "results.json"],
    "m1_m2": ["m1/vae_weights", "splits-0-1/vae_weights", "results.json"],
}
# test_joint and test_experiment stop the other recipes, within one process.
SHORT = {"m1_quick": ["vae_weights", "results.json"]}


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Every process compiles what none has compiled before it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("xla")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


@pytest.fixture(scope="module")
def whole(small_data, tmp_path_factory):
    """By recipe, a run that nobody disturbed: its numbers and its seconds."""
    known = {}

    def get(name):
        if name not in known:
            workdir = tmp_path_factory.mktemp("whole") / "run"
            command = harness.command(workdir, small_data, name)
            done = harness.run(*command)
            assert done.returncode == 0, done.stderr
            spent = json.loads((workdir / "results.json").read_text())["seconds"]
            seconds = sum(spent[part] for part in ("train", "features", "classifier"))
            known[name] = harness.numbers(workdir), seconds
        return known[name]

    return get


@contextmanager
def started(command, workdir, **options):
    """The process of a run, from when it begins to write; waits for its end."""
    config = workdir / "config.json"

    def written():
        return config.stat().st_mtime_ns if config.exists() else 0

    before = written()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stderr=pipe, text=True, **options) as process:
        try:
            until(lambda: written() != before, process)
            yield process
        except BaseException:
            process.kill()
            raise


def until(done, process, seconds=120.0):
    """Waits for something that a process is about to do."""
    end = time.monotonic() + seconds
    while not done():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("name", harness.TINY if harness.SOAK else ["m1_quick"])
def test_killed_at_random_instants_it_ends_with_the_same_bits(
    name, whole, small_data, tmp_path
):
    expected, seconds = whole(name)
    ends, kills = 1, 5
    if harness.SOAK:
        ends, kills = harness.KILLS if name == "m1_quick" else harness.KILLS // 10, 1
    rng = random.Random(name)
    for end in range(ends):
        workdir = tmp_path / str(end)
        command = harness.command(workdir, small_data, name)
        with harness.fault(f"SIGKILL at random, {name}"):
            for _ in range(kills):
                killed = kill_at_random(command, workdir, rng, seconds / kills)
                while not killed:  # it was done before
                    shutil.rmtree(workdir)
                    killed = kill_at_random(command, workdir, rng, seconds / kills)
            done = harness.run(*command)
            assert done.returncode == 0, done.stderr
            assert harness.numbers(workdir) == expected
            assert harness.litter(workdir) == []
        shutil.rmtree(workdir)


def kill_at_random(command, workdir, rng, seconds):
    """Kills a run within so many seconds; False if it was done before."""
    with started(command, workdir) as process:
        time.sleep(rng.uniform(0, seconds))
        process.kill()
    return not (workdir / "results.json").exists()


@pytest.mark.parametrize(
    ("name", "instants"), (INSTANTS if harness.SOAK else SHORT).items()
)
def test_killed_just_before_a_file_is_whole_it_ends_with_the_same_bits(
    name, instants, whole, small_data, tmp_path
):
    expected, _ = whole(name)
    for instant in instants:
        program = (str(KILLED_AT), instant)
        with harness.fault(f"SIGKILL before {instant}"):
            done = harness.run(
                *harness.command(tmp_path, small_data, name, program=program)
            )
            assert done.returncode == -signal.SIGKILL, done.stderr
    done = harness.run(*harness.command(tmp_path, small_data, name))
    assert done.returncode == 0, done.stderr
    assert harness.numbers(tmp_path) == expected
    assert harness.litter(tmp_path) == []


def test_clock_zone_locale_and_hash_seed_change_no_number(whole, small_data, tmp_path):
    expected, _ = whole("m1_quick")
    command = harness.command(tmp_path, small_data)
    with started(command, tmp_path) as process:
        process.kill()
    for path in tmp_path.rglob("*"):  # as after a clock that went wrong
        os.utime(path, (4e9, 4e9) if path.name == "config.json" else (0, 0))
    settings = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    done = harness.run(*command, env=os.environ | settings)
    assert done.returncode == 0, done.stderr
    assert harness.numbers(tmp_path) == expected


LONG = {"importance_samples": 1_000_000, "train.num_epochs": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_long_call_ends_the_run_within_ten_seconds(
    number, small_data, tmp_path
):
    command = harness.command(tmp_path, small_data, **LONG)
    with started(command, tmp_path) as process:
        until((tmp_path / "vae_weights").exists, process)
        start = time.monotonic()
        process.send_signal(number)
        if number == signal.SIGINT:  # the impatient
            time.sleep(1)
            process.send_signal(number)
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert "stopped: at once; the same command goes on" in stderr
    assert "Traceback" not in stderr
    assert time.monotonic() - start < (10 if number == signal.SIGTERM else 4)


def test_a_signal_before_the_first_step_ends_the_run_in_order(small_data, tmp_path):
    command = harness.command(tmp_path, small_data, **{"train.num_epochs": 100_000})
    with started(command, tmp_path) as process:
        process.send_signal(signal.SIGTERM)  # it is about to compile
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert "stopped: saved at step" in stderr
    assert harness.litter(tmp_path) == []


def test_a_second_run_in_a_workdir_is_refused_and_a_dead_one_is_no_obstacle(
    small_data, tmp_path
):
    first = harness.command(tmp_path, small_data, **{"train.num_epochs": 100_000})
    with started(first, tmp_path) as process:
        second = harness.run(*first)
        assert second.returncode == 2
        message = harness.one_line(second.stderr)
        assert f"in use by process {process.pid} on {socket.gethostname()}" in message
        assert "choose another --workdir" in message
        assert process.poll() is None
        process.kill()
    assert (tmp_path / "lock").exists()
    with Workdir(tmp_path).lock():
        assert f"process {os.getpid()}" in (tmp_path / "lock").read_text()
    assert not (tmp_path / "lock").exists()


def test_a_run_of_four_devices_goes_on_with_one(small_data, tmp_path):
    command = harness.command(tmp_path, small_data)
    four = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    with started(command, tmp_path, env=os.environ | four) as process:
        until(lambda: any(tmp_path.glob("steps/*/meta")), process)
        process.kill()
    done = harness.run(*command)
    assert done.returncode == 0, done.stderr
    assert harness.litter(tmp_path) == []
