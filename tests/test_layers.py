"""The house: which file stands on which floor, and who may import whom."""

import ast
from pathlib import Path

import pytest

import ssl_vae

PACKAGE = Path(ssl_vae.__file__).parent
FLOORS = [
    [
        "errors",
        "distributions",
        "gradients",
        "augment",
        "clock",
        "batches",
        "devices",
        "fields",
        "files",
        "finite",
    ],
    [
        "networks",
        "copies",
        "datasets",
        "labels",
        "config",
        "inputs",
        "feed",
        "processes",
        "bucket",
        "stops",
        "stage",
    ],
    ["models", "classifiers", "workdir", "splits", "compiled", "usage", "train"],
    ["epochs", "checkpoint", "evaluate", "progress", "results", "checked"],
    ["report", "plan", "trained", "fitting", "placement"],
    ["job", "sinks", "suggest", "dry_run", "semisupervised"],
    ["loop", "follow", "estimators"],
    ["extractor"],
    ["svms"],
    ["features_first", "joint", "self_training"],
    ["experiment"],
    ["main", "predict", "export", "__init__"],
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ONE_DOOR = {
    "tensorflow_datasets": "datasets",
    "sklearn.svm": "classifiers",
    "orbax": "checkpoint",
    "fsspec": "bucket",
    "absl.app": "main",
    "ml_collections.config_flags": "main",
    "matplotlib": "report",
    "jinja2": "report",
    "safetensors": "export",
    "onnx": "export",
    "tensorboardX": "sinks",
    "wandb": "sinks",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path: Path) -> set[str]:
    """Full names of everything that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_from_lower_floors(path):
    room = room_of(path)
    for name in imports_of(path):
        if not name.startswith("ssl_vae."):
            continue
        other = name.split(".")[1]
        assert other == room or FLOOR_OF[other] < FLOOR_OF[room], f"{room} <- {other}"


def test_every_file_stands_on_a_floor():
    assert {room_of(path) for path in FILES} == set(FLOOR_OF)


@pytest.mark.parametrize("library", ONE_DOOR)
def test_a_library_enters_through_one_door(library):
    doors = {
        room_of(path)
        for path in FILES
        if any(f"{name}.".startswith(f"{library}.") for name in imports_of(path))
    }
    assert doors == {ONE_DOOR[library]}
