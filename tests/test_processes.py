"""Several processes do one run together: here two, which meet on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
from conftest import OWN, SMALL

from ssl_vae import processes
from ssl_vae.results import Results

LONG = {"train.num_epochs": 5_000}  # until somebody stops it


@pytest.fixture(scope="module")
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def popen():
    """Starts a Python program; all are ended at the end."""
    started = []

    def one(*args):
        process = subprocess.Popen(
            [sys.executable, *args],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield one
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def start(popen, small_data, port):
    """Starts the command line as one of some processes."""

    def one(workdir, *flags, number=0, of=2, patience=120, **changes):
        fields = SMALL | OWN["m1"] | changes
        together = [
            f"--coordinator_address=127.0.0.1:{port}",
            f"--num_processes={of}",
            f"--process_id={number}",
            f"--patience={patience}",
        ]
        return popen(
            *("-m", "ssl_vae.main"),
            *(f"--data_dir={small_data}", f"--workdir={workdir}"),
            *(f"--config.{name}={value}" for name, value in fields.items()),
            *(together if of > 1 else []),
            *flags,
        )

    return one


def until_it_trains(run: Path, *processes, lines=1):
    log = run / "metrics.jsonl"
    while not log.exists() or log.read_text().count("\n") < lines:
        assert all(process.poll() is None for process in processes), processes
        time.sleep(0.05)


def last_step(run):
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"]


def test_two_processes_find_what_one_finds_and_one_of_them_tells(
    start, finished, tmp_path
):
    run = tmp_path / "run"
    first, second = start(run), start(run, number=1)
    told, said = first.communicate()
    assert first.returncode == 0, said
    assert "svm_rbf" in told
    assert "svm_rbf" not in second.communicate()[0]
    assert second.returncode == 0
    here, there = (Results.load(r / "results.json") for r in (run, finished("m1")))
    assert here.device == "cpu x2"
    assert here.vae["test_elbo"] == pytest.approx(there.vae["test_elbo"], rel=0.01)
    np.testing.assert_allclose(
        here.results[0].test_accuracy, there.results[0].test_accuracy, atol=0.05
    )
    logs = ((r / "metrics.jsonl").read_text() for r in (run, finished("m1")))
    for mine, theirs in zip(*(log.splitlines() for log in logs), strict=True):
        assert json.loads(mine) == pytest.approx(json.loads(theirs), rel=0.01)


REFUSED_AND_TOLD_ANEW = """
import ast
import sys
import jax
from ssl_vae import config, processes
from ssl_vae.errors import InputError
from ssl_vae.experiment import run_experiment

port, number, data_dir, workdir, fields = sys.argv[1:]
jax.config.update("jax_disable_most_optimizations", True)  # they take most of the time
processes.begin(
    "on",
    coordinator_address=f"127.0.0.1:{port}",
    num_processes=2,
    process_id=int(number),
    patience=120,
)
best = config.load(config.recipe_path("best"))
best.update_from_flattened_dict(ast.literal_eval(fields))
for seed in (int(number), best.seed):
    best.seed = seed
    try:
        run_experiment(best, workdir, data_dir=data_dir)
    except InputError as error:
        print(error)
"""


def test_two_processes_that_were_refused_may_then_teach_students_as_one_does(
    popen, port, finished, small_data, tmp_path
):
    """Both learn from the guesses of the one that leads, beside streamed images."""
    run, fields = tmp_path / "run", SMALL | OWN["best"]
    processes = [
        popen(
            "-c", REFUSED_AND_TOLD_ANEW, str(port), str(n), small_data, run, str(fields)
        )
        for n in range(2)
    ]
    for process in processes:
        told, said = process.communicate()
        assert process.returncode == 0, said
        assert told.count("the processes of this run were given different") == 1
    here, there = (Results.load(r / "results.json") for r in (run, finished("best")))
    assert here.device == "cpu x2"
    assert here.vae["test_elbo"] == pytest.approx(there.vae["test_elbo"], rel=0.01)
    np.testing.assert_allclose(
        here.results[0].test_accuracy, there.results[0].test_accuracy, atol=0.05
    )
    stage = Path("labels-8", "splits-0-1", "metrics.jsonl")
    logs = ((r / stage).read_text().splitlines() for r in (run, finished("best")))
    for mine, theirs in zip(*map(rows, logs), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3)


def rows(lines):
    """The numbers in the lines of a log."""
    return [np.hstack(list(json.loads(line).values())) for line in lines]


def test_a_stop_of_one_saves_one_state_which_any_number_of_processes_go_on_from(
    start, tmp_path
):
    run, steps = tmp_path / "run", []
    for together in (2, 1, 2):
        processes = [start(run, number=n, of=together, **LONG) for n in range(together)]
        lines = (run / "metrics.jsonl").read_text().count("\n") if steps else 0
        until_it_trains(run, *processes, lines=lines + 1)
        processes[-1].send_signal(signal.SIGTERM)
        said = [process.communicate()[1] for process in processes]
        steps.append(last_step(run))
        for process, text in zip(processes, said, strict=True):
            assert process.returncode == 143, text
            assert f"stopped: saved at step {steps[-1]} of" in text
    assert steps == sorted(set(steps))


def test_a_stop_is_heard_of_one_that_waits_for_the_classifiers(start, tmp_path):
    run = tmp_path / "run"
    many = {"num_splits": 1000, "classifier.cross_validate": True}
    processes = [start(run, number=n, **many) for n in range(2)]
    while not (run / "vae_weights").exists():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 143, said
        assert "stopped: " in said


def test_several_processes_suggest_nothing(start, tmp_path):
    run = tmp_path / "run"
    processes = [start(run, "--suggest=5", number=n) for n in range(2)]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 2, said
        assert "error: --suggest=5: is for one process" in said
    assert not run.exists()


def test_what_ends_the_one_that_leads_ends_the_others(start, tmp_path):
    run = tmp_path / "run"
    owner = start(run, of=1, **LONG)
    until_it_trains(run, owner)
    first, second = start(run, **LONG), start(run, number=1, **LONG)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 2
    assert f"error: --workdir={run}: in use by" in said
    _, said = second.communicate(timeout=120)
    assert second.returncode == 1
    assert "error: process 0 has ended (InputError): --workdir=" in said


def test_the_death_of_one_that_follows_ends_the_others_with_one_line(start, tmp_path):
    run = tmp_path / "run"
    # A save would wait for the dead one, until JAX ends it.
    never = LONG | {"train.checkpoint_every": 1_000_000}
    processes = [start(run, number=n, **never) for n in range(2)]
    until_it_trains(run, *processes)
    processes[1].kill()
    _, said = processes[0].communicate(timeout=60)
    assert processes[0].returncode == 1, said
    last = said.splitlines()[-1]
    assert last.startswith("error: another process of this run has died or cannot be")
    assert "Traceback" not in said and "Check failure" not in said


@pytest.mark.parametrize("kind", [jax.errors.JaxRuntimeError, ValueError])
def test_a_failed_exchange_of_any_kind_ends_a_process_and_other_errors_do_not(
    kind, capsys
):
    with (
        mock.patch("os._exit", side_effect=SystemExit) as ended,
        pytest.raises(SystemExit),
        processes.ended_with_others(),
    ):
        raise kind("UNKNOWN: Gloo AllGather failed: [pair.cc:538] Connection reset")
    ended.assert_called_once_with(1)
    said = capsys.readouterr().err
    assert said.startswith("error: another process of this run has died")
    assert said.count("\n") == 1
    with pytest.raises(kind, match="of something else"), processes.ended_with_others():
        raise kind("of something else")


def test_the_death_of_the_one_that_leads_ends_the_others(start, tmp_path):
    run = tmp_path / "run"
    processes = [start(run, number=n, patience=25, **LONG) for n in range(2)]
    until_it_trains(run, *processes)
    processes[0].kill()
    _, said = processes[1].communicate(timeout=60)
    assert processes[1].returncode not in (0, 143)
    assert "another task died" in said or "another process of this run has died" in said


def test_an_error_in_one_ends_the_others_within_their_patience(start, tmp_path):
    run = tmp_path / "run"
    processes = [start(run, number=n, patience=25, **LONG) for n in range(2)]
    until_it_trains(run, *processes)
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()  # what the first cannot go on without
    said = [process.communicate(timeout=90)[1] for process in processes]
    assert f"error: [Errno 21] Is a directory: '{run}/metrics.jsonl'" in said[0]
    assert all(process.returncode not in (0, 143) for process in processes)


def test_a_process_that_meets_nobody_names_the_address(start, tmp_path, port):
    alone = start(tmp_path / "run", number=1, patience=2)
    _, said = alone.communicate(timeout=120)
    assert alone.returncode == 2
    assert f"error: --coordinator_address=127.0.0.1:{port}: the processes" in said
    assert not (tmp_path / "run").exists()


def test_processes_that_disagree_about_their_number_are_refused(start, tmp_path):
    run = tmp_path / "run"
    processes = [start(run, number=n, of=2 + n) for n in range(2)]
    for process, mine in zip(processes, (2, 3), strict=True):
        _, said = process.communicate(timeout=120)
        assert process.returncode == 2, said
        assert f"error: --num_processes={mine}: process 0 was given 2 and pro" in said
    assert not run.exists()


def test_processes_that_are_to_do_different_things_are_refused(start, tmp_path):
    run = tmp_path / "run"
    processes = [start(run, number=n, seed=n) for n in range(2)]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 2, said
        assert "error: the processes of this run were given different recipes" in said
    assert not run.exists()
