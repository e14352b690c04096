"""The wheel: what it holds, and that it is whole without the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BESIDE_CODE = {".html", ".css", ".md", ".typed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_its_pages_and_recipes_and_nothing_else(wheel):
    package = ROOT / "ssl_vae"
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.suffix in BESIDE_CODE | {".py"}
    } | {f"ssl_vae/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == wanted
    for name in ("py.typed", "configs/best.py", "report/templates/report.html"):
        assert f"ssl_vae/{name}" in names


def test_the_wheel_says_its_command_license_and_extras(wheel):
    with zipfile.ZipFile(wheel) as file:
        said = {
            name.rpartition("/")[2]: file.read(name).decode()
            for name in file.namelist()
            if ".dist-info/" in name
        }
    assert "ssl-vae = ssl_vae.main:run" in said["entry_points.txt"]
    assert said["LICENSE"].startswith("MIT License")
    for extra in ("cuda", "export", "tensorboard", "tpu", "wandb"):
        assert f"Provides-Extra: {extra}\n" in said["METADATA"]


def test_the_unpacked_wheel_finds_its_recipes_in_any_folder(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "installed")
    code = (
        "from ssl_vae import config\n"
        "print(config.recipe_path('m1'))\n"
        "print(config.load('configs/best.py').recipe, config.load('m2').recipe)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        str(tmp_path / "installed" / "ssl_vae" / "configs" / "m1.py"),
        "best m2",
    ], done.stderr
