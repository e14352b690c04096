"""What `make` would do, without doing it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAIN = ".venv/bin/python -m ssl_vae.main"


@pytest.fixture
def make():
    """The lines that a call would run; what an outer make has set is left out."""
    if not (program := shutil.which("make")):
        pytest.skip("make is not there")

    def lines(*args):
        done = subprocess.run(
            [program, "--dry-run", "--directory", ROOT, "--no-print-directory", *args],
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    return lines


def gets_fashion_mnist(lines):
    return any("ssl_vae.datasets" in line for line in lines)


@pytest.mark.parametrize(
    "args",
    [
        "--dataset=digits",
        "--seed=1 --dataset digits --dry_run",
        "--config.dataset=digits",
        "--config.dataset npz:mine.npz",
        "--dataset=folder:fashion_mnist",
        "--dataset=fashion_mnist --data_dir=images",
        "--data_dir images",
    ],
)
def test_a_run_of_other_images_gets_no_fashion_mnist(make, args):
    lines = make("run", f"ARGS={args}")
    assert not gets_fashion_mnist(lines)
    assert lines[-1].split() == [*MAIN.split(), *args.split()]


@pytest.mark.parametrize(
    "args",
    [
        "",
        "--config=m1_quick",
        "--dataset=fashion_mnist",
        "--dataset fashion_mnist --dry_run",
        "--workdir=dataset --config.dataset=fashion_mnist",
    ],
)
def test_a_run_of_fashion_mnist_gets_it(make, args):
    lines = make("run", "LABELS=600", f"ARGS={args}")
    assert gets_fashion_mnist(lines)
    assert lines[-1].split() == [*MAIN.split(), "--labels=600", *args.split()]


def test_how_many_labels_is_for_the_data_to_say(make):
    assert make("run")[-1].split() == MAIN.split()
