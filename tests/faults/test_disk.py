"""Full disks, too little memory, folders of others, networks that are not there."""

import os
import socket
import sys
import time
from functools import partial
from pathlib import Path

import harness
import pytest

from ssl_vae.experiment import Stopped, run_experiment


def under(limit):
    """What comes before a command that is to run under a limit."""
    return sys.executable, str(Path(__file__).with_name("under.py")), limit


WIDE = {"model.hidden": (64, 64), "train.num_epochs": 4}


def test_a_full_disk_keeps_the_last_state_and_the_same_command_goes_on(
    small_data, tmp_path
):
    recipe = harness.recipe(**WIDE)
    run_experiment(recipe, tmp_path / "whole", data_dir=small_data)
    workdir = tmp_path / "run"
    stop = partial(next, iter([False, True]))
    with pytest.raises(Stopped):  # in the second epoch of four
        run_experiment(recipe, workdir, data_dir=small_data, stop=stop)
    before = {p.name for p in (workdir / "steps").iterdir()}
    command = harness.command(workdir, small_data, **WIDE)
    with harness.fault("full disk"):
        full = harness.run(*under("files=20000"), *command)
        assert full.returncode == 1, full.stderr
        message = harness.one_line(full.stderr)
        assert "could not be written (File too large)" in message
        assert "give the same command again" in message
        assert before <= {p.name for p in (workdir / "steps").iterdir()}
        done = harness.run(*command)
        assert done.returncode == 0, done.stderr
        assert harness.numbers(workdir) == harness.numbers(tmp_path / "whole")
        assert harness.litter(workdir) == []


# At a full disk Orbax now and then leaves writes that were never begun, which Python
# tells of at the end of the process.
LEFT_BEHIND = """
import atexit
from ssl_vae import main

async def write_fragment():
    pass

atexit.register(write_fragment)
main.run()
"""


def test_writes_that_were_left_behind_do_not_bury_the_one_line(small_data, tmp_path):
    program = ("-c", LEFT_BEHIND)
    command = harness.command(tmp_path / "run", small_data, program=program)
    full = harness.run(*under("files=100"), *command)
    assert full.returncode == 1, full.stderr
    assert "File too large" in harness.one_line(full.stderr)


def test_a_disk_that_is_full_from_the_start_is_told_in_one_line(small_data, tmp_path):
    command = harness.command(tmp_path / "run", small_data)
    full = harness.run(*under("files=100"), *command)
    assert full.returncode == 1, full.stderr
    assert "File too large" in harness.one_line(full.stderr)
    assert not (tmp_path / "run" / "results.json").exists()


def test_too_little_memory_is_told_in_one_line(small_data, tmp_path):
    vast = {"model.hidden": (50_000, 50_000)}  # 10 GB a matrix
    command = harness.command(tmp_path / "run", small_data, **vast)
    done = harness.run(*under(f"memory={8 << 30}"), *command)
    assert done.returncode == 1, done.stderr
    message = harness.one_line(done.stderr)
    assert "out of memory; choose a smaller --config.train.batch_size" in message


def test_a_folder_that_may_not_be_written_is_refused_in_one_line(small_data, tmp_path):
    tmp_path.chmod(0o555)
    command = harness.command(tmp_path / "run", small_data)
    done = harness.run(*under("anybody"), *command)
    assert done.returncode == 2
    assert "cannot be written (Permission denied)" in harness.one_line(done.stderr)


def test_a_finished_run_that_may_not_be_written_repeats_its_numbers(
    small_data, tmp_path
):
    workdir = tmp_path / "run"
    command = harness.command(workdir, small_data)
    first = harness.run(*command)
    assert first.returncode == 0, first.stderr
    workdir.chmod(0o555)
    again = harness.run(*under("anybody"), *command)
    assert (again.returncode, again.stdout) == (0, first.stdout), again.stderr
    for flag in ("--labels=8,16", "--suggest=3"):
        more = harness.run(*under("anybody"), *command, flag)
        assert more.returncode == 2
        assert "cannot be written (Permission denied)" in more.stderr.splitlines()[-1]


def test_what_a_run_writes_is_for_its_owner_to_write(small_data, tmp_path):
    for mask, forbidden in ((0o022, 0o022), (0o077, 0o077)):
        workdir = tmp_path / oct(mask)
        old = os.umask(mask)
        try:
            config = harness.recipe(**{"train.num_epochs": 1})
            run_experiment(config, workdir, data_dir=small_data)
        finally:
            os.umask(old)
        for path in [workdir, *workdir.rglob("*")]:
            mode = path.stat().st_mode & 0o7777
            assert not mode & forbidden, path
            assert path.is_dir() or not mode & 0o7111, path


def test_without_a_network_it_says_so_within_15_seconds(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy")
    start = time.monotonic()
    done = harness.run(
        *(sys.executable, "-m", "ssl_vae.main", "--config.dataset=kmnist"),
        cwd=tmp_path,
        env=os.environ | dict.fromkeys(names, proxy) | {"no_proxy": ""},
    )
    assert done.returncode == 2, done.stderr
    message = harness.one_line(done.stderr)
    assert "--data_dir" in message
    assert time.monotonic() - start < 15 or os.getloadavg()[0] > os.cpu_count()
    assert list(tmp_path.iterdir()) == []


def test_images_that_may_not_be_read_are_named_and_not_passed_over(tmp_path):
    photos = tmp_path / "photos"
    (photos / "shut").mkdir(parents=True)
    for name in ("a.png", "shut/b.png"):
        (photos / name).touch()
    (photos / "shut").chmod(0)
    code = (
        "import sys; from pathlib import Path; from ssl_vae import predict;"
        "skipped = []; found = predict.find([Path(sys.argv[1])], skipped);"
        "print(*(path.name for path in found), *skipped)"
    )
    both = harness.run(*under("anybody"), sys.executable, "-c", code, str(photos))
    assert both.stdout == f"a.png {photos / 'shut'}: Permission denied\n", both.stderr
    shut = str(photos / "shut")
    none = harness.run(*under("anybody"), sys.executable, "-c", code, shut)
    assert f"InputError: {shut}: Permission denied" in none.stderr
