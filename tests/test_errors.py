import argparse
import os
import signal
import subprocess
import sys

import pytest

from ssl_vae.errors import InputError, RunError, exit_status, in_a_line, path

COMMANDS = ["main", "predict", "report", "datasets", "export"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\n  two\tthree "), "one two three"),
        (KeyError(), "KeyError"),
        (ValueError("a" * 11), "aaaaaaaaaa..."),
        (ValueError("a" * 10), "aaaaaaaaaa"),
    ],
)
def test_an_error_is_told_in_a_line(error, line):
    assert in_a_line(error, 10 if "a" * 10 in str(error) else 100) == line


def typed(*args, **settings):
    defaults = {"stderr": subprocess.PIPE, "text": True, "timeout": 120}
    return subprocess.run([sys.executable, *args], **defaults | settings)


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        (InputError("--a=1: no"), 2, "error: --a=1: no"),
        (RunError("damaged"), 1, "error: damaged"),
        (OSError(28, "No space left on device"), 1, "error: [Errno 28] No space left"),
    ],
)
def test_a_command_ends_in_one_line(raised, status, line, capsys):
    def program():
        raise raised

    assert exit_status(program) == status
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1


def test_an_error_is_told_and_counts_where_the_reader_has_gone():
    code = (
        "import sys; from ssl_vae.errors import InputError, exit_status\n"
        "def program():\n    print('half')\n    raise InputError('--a=1: no')\n"
        "sys.exit(exit_status(program))"
    )
    read, write = os.pipe()
    os.close(read)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = typed("-c", code, stdout=write, env=environment)
    os.close(write)
    assert (done.returncode, done.stderr) == (2, "error: --a=1: no\n")


@pytest.mark.parametrize(
    ("end", "status"),
    [("raise InputError('no')", 2), ("say('saved'); sys.exit(143)", 143)],
)
def test_the_status_counts_where_nobody_reads_what_is_said(end, status):
    code = (
        "import sys; from ssl_vae.errors import InputError, exit_status, say\n"
        f"def program():\n    {end}\nsys.exit(exit_status(program))"
    )
    read, write = os.pipe()
    os.close(read)
    assert typed("-c", code, stderr=write).returncode == status
    os.close(write)


def test_a_closed_stdout_is_no_error_and_a_closed_stderr_no_part_of_the_answer():
    shell = f'"{sys.executable}" -m ssl_vae.datasets'
    quiet = subprocess.run(
        ["sh", "-c", f"{shell} digits >&-"], capture_output=True, timeout=60
    )
    assert (quiet.returncode, quiet.stderr) == (0, b"")
    mute = subprocess.run(
        ["sh", "-c", f"{shell} absent 2>&-"], capture_output=True, timeout=60
    )
    assert (mute.returncode, mute.stdout) == (2, b"")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_for_a_reader_that_has_gone_costs_no_word(name):
    read, write = os.pipe()
    os.close(read)
    done = typed("-m", f"ssl_vae.{name}", "--help", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_answer_that_finds_no_room_is_an_error():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = typed("-m", "ssl_vae.datasets", "digits", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "error: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [("utf-8", b"caf\xc3\xa9 \xff\n"), ("ascii", b"caf\\xe9 \\udcff\n")],
)
def test_every_name_can_be_printed(encoding, printed):
    code = (
        "import sys; from ssl_vae.errors import exit_status;"
        "sys.exit(exit_status(lambda: print('caf\\xe9 \\udcff')))"
    )
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, b"")


def test_a_tilde_is_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path("~/run") == tmp_path / "run"
    with pytest.raises(argparse.ArgumentTypeError, match="~nobody-of-that-name"):
        path("~nobody-of-that-name/run")


@pytest.mark.parametrize("more", [[], ["--dry_run"]])
def test_a_device_that_is_not_there_is_told_by_the_name_it_was_asked_by(tmp_path, more):
    args = ["--dataset=digits", "--labels=100", f"--workdir={tmp_path / 'run'}", *more]
    environment = os.environ | {"JAX_PLATFORMS": "abacus"}
    done = typed("-m", "ssl_vae.main", *args, env=environment)
    assert done.returncode == 2
    said = done.stderr.splitlines()[-1]
    assert said.startswith("error: JAX_PLATFORMS=abacus: JAX finds no such device")
    assert not (tmp_path / "run").exists()


def test_ctrl_c_before_the_work_begins_costs_no_traceback(tmp_path):
    recipe = tmp_path / "recipe.py"  # asks for the signal while it is read
    recipe.write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    code = (  # of a background job the shell lets the signal be ignored
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from ssl_vae.main import run; run()"
    )
    done = typed("-c", code, f"--config={recipe}", stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
