"""The command line as a user meets it: a process, its exit status and its words."""

import signal
import subprocess
import sys
import time

import pytest

from ssl_vae import config as recipes
from ssl_vae import main

TINY = [
    "--config.model.hidden=(16,)",
    "--config.train.batch_size=20",
    "--config.num_splits=2",
]


def command(*args):
    return [sys.executable, "-m", "ssl_vae.main", *map(str, args)]


def run(*args, cwd):
    return subprocess.run(
        command(*args), cwd=cwd, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "raises.py").write_text(
        "def get_config():\n    raise OSError('no disk')\n"
    )
    (folder / "exits.py").write_text("def get_config():\n    raise SystemExit(0)\n")
    (folder / "flags.txt").write_text("--config.latent=3\n")
    (folder / "file").write_text("")
    (folder / "dangling").symlink_to(folder / "nothing")
    return folder


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--lables=600"], "labels"),
        (["--labels=many"], "--labels=many: must be whole numbers"),
        (["--labels=1.5"], "--labels=1.5: must be whole numbers"),
        (["--labels="], "--labels=: must be whole numbers"),
        (["600"], "600: not a flag"),
        (["--config.model.latent=3"], "did you mean --config.model.latent_dim?"),
        (["--config.epochs=3"], "did you mean --config.train.num_epochs?"),
        (["--config.model=3"], "--config.model: a group of fields"),
        (
            ["--config.model.latent_dim=0"],
            "--config.model.latent_dim=0: must be a whole",
        ),
        (["--config.model.latent_dim=many"], "config.model.latent_dim"),
        (["--config.model.latent_dim=2.5"], "config.model.latent_dim"),
        (
            ["--config.model.hidden=(6,0)"],
            "--config.model.hidden=(6, 0): must be a tuple",
        ),
        (
            ["--config.train.learning_rate=-1"],
            "--config.train.learning_rate=-1.0: must",
        ),
        (
            ["--config.model.name=m2"],
            "--config.model.name: belongs to the recipe, which is chosen by --config:",
        ),
        (["--num_epochs=3"], "--num_epochs: not a flag; did you mean --config.train."),
        (["--lables=100"], "labels"),
        (
            ["--config.classifier.cross_validate=yes"],
            "--config.classifier.cross_validate='yes': must be True or False",
        ),
        (
            ["--config.train.batch_size=abc"],
            "--config.train.batch_size='abc': must be a whole number from 1 to",
        ),
        (["--config=missing.py"], "--config=missing.py: no such file"),
        (
            ["--config=raises.py"],
            "--config=raises.py: the file raised OSError: no disk",
        ),
        (["--config=bset"], "did you mean best?"),
        (["--config"], "--config=: no such file"),
        (["--log=tensorbord"], "--log=tensorbord: must be tensorboard or wandb"),
        (["--log="], "--log=: must be tensorboard or wandb"),
        (["--flagfile=missing.txt"], "--flagfile: "),
        (["--flagfile=flags.txt"], "did you mean --config.model.latent_dim?"),
        (["--config=exits.py"], "--config=exits.py: the file raised SystemExit"),
        (["--config=" + "a" * 300], "no such file"),
        (["--workdir=" + "a" * 300], "cannot be written"),
        (
            ["--workdir=~nobody-of-that-name/run"],
            "--workdir=~nobody-of-that-name/run: ",
        ),
        (["--workdir=dangling"], "a link to nowhere"),
        (["--workdir=caf\udce9"], "in folders whose names are UTF-8"),
        (["--name=m2"], "Unknown command line flag 'name'"),
        (["--labels=" + "9" * 30], "must be whole numbers"),
        (["--dataset=my/images"], "or data of your own: folder:DIR"),
        (["--dataset=folder:"], "or data of your own: folder:DIR"),
        (["--dataset=digits", "--config.dataset=mnist"], "give one of the two"),
        (["--dataset=digits", "--data_dir=there"], "leave --data_dir out"),
        (["--data_dir", "config.d", "--dataset=digits"], "leave --data_dir out"),
    ],
)
def test_a_bad_flag_gets_one_line_and_exit_status_2(tmp, args, message):
    start = time.monotonic()
    done = run(*args, cwd=tmp)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert time.monotonic() - start < 30  # and not after loading JAX and the data


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data_dir=nowhere"], "nowhere"),
        (["--workdir=file"], "is not a folder"),
        (["--labels=7"], "--labels=7: "),
        (["--num_processes=2"], "--num_processes and --process_id need the --coord"),
    ],
)
def test_bad_input_gets_one_line_and_exit_status_2(tmp, small_data, args, message):
    # A flag that comes later wins, as on any command line.
    done = run(f"--data_dir={small_data}", "--labels=8", *TINY, *args, cwd=tmp)
    assert done.returncode == 2, done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in done.stderr
    assert not (tmp / "checkpoints").exists()


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpshort"])
def test_help_has_every_flag_and_recipe_on_one_page_and_exits_with_0(tmp, flag):
    done = run("--config=missing.py", flag, cwd=tmp)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("usage: python -m ssl_vae.main ")
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 80
    flags = main.FLAGS.get_flags_for_module(main.__name__)
    assert len(flags) > 5
    for name in ["config", *(flag.name for flag in flags)]:
        assert f"\n  --{name}" in done.stdout
    for name in recipes.names():
        assert f"{name}," in done.stdout.replace(" (default)", "")


def test_helpfull_has_the_flags_of_libraries_too(tmp):
    done = run("--helpfull", cwd=tmp)
    assert done.returncode == 0, done.stderr
    assert "--verbosity" in done.stdout


@pytest.mark.parametrize("module", ["predict", "report", "export", "datasets"])
def test_the_help_of_a_module_shows_commands_that_are_its_own(tmp, module):
    program = [sys.executable, "-m", f"ssl_vae.{module}", "--help"]
    done = subprocess.run(program, cwd=tmp, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(f"  python -m ssl_vae.{module} " in line for line in lines) >= 2
    assert max(map(len, lines)) <= 80


def test_a_run_prints_its_table_and_the_same_command_repeats_it(small_data, tmp_path):
    args = ["--labels=8,40", f"--data_dir={small_data}", "--workdir=run", *TINY]
    args += ["--config.train.num_epochs=2", f"--config={recipe_file(tmp_path)}"]
    args += ["--log=tensorboard"]
    first = run(*args, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert "test accuracy" in lines[0]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["8", "3", "svm_rbf"],
        ["40", "3", "svm_rbf"],
    ]
    assert "Traceback" not in first.stderr
    assert "to follow it: tensorboard --logdir=" in first.stderr
    assert list((tmp_path / "run" / "tensorboard" / "M1").iterdir())
    again = run(*args, cwd=tmp_path)
    assert again.stdout == first.stdout
    assert "finished" in again.stderr


def recipe_file(folder):
    """A recipe of the user's own, built on one of the project's."""
    path = folder / "mine.py"
    path.write_text(
        "from ssl_vae import config\n"
        "def get_config():\n"
        "    mine = config.load(config.recipe_path('m1'))\n"
        "    mine.recipe, mine.model.latent_dim = 'mine', 3\n"
        "    return mine\n"
    )
    return path


def test_sigterm_saves_the_state_and_exits_with_143(small_data, tmp_path):
    args = ["--labels=8", f"--data_dir={small_data}", "--workdir=run", *TINY]
    args += ["--config.train.num_epochs=1000000"]
    log = tmp_path / "run" / "metrics.jsonl"
    with subprocess.Popen(
        command(*args), cwd=tmp_path, stderr=subprocess.PIPE
    ) as process:
        while not (log.exists() and log.stat().st_size):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert b"stopped: saved at step" in stderr
    assert b"Traceback" not in stderr
    assert any((tmp_path / "run" / "steps").iterdir())


def test_a_field_on_the_command_line_holds_for_few_labels_too(tmp, small_data):
    done = run(
        f"--config={recipes.recipe_path('m1_m2')}",
        "--labels=8",
        "--config.model.hidden=(7,)",
        "--config.m1_workdir=nowhere",
        f"--data_dir={small_data}",
        cwd=tmp,
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == (
        "recipe: up to 100 labels model.hidden=(7,), train.num_epochs=60 (few)"
    )
    assert "nowhere: no run is there" in lines[-1]
    assert "Traceback" not in done.stderr
