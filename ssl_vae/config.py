"""Recipes: Python files with a `get_config()`. Finding, checking and comparing them."""

import difflib
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict

from ssl_vae import fields
from ssl_vae.errors import InputError
from ssl_vae.fields import LATER

# Which rows a run's results have, how well its models are measured, and where the
# images are kept meanwhile: these fields do not change what is trained.
ROW_FIELDS = ("labels", "num_splits", "importance_samples", "data.placement")
# Where the images were taken from and what their classes are called: which images they
# are and of which class, a digest says.
_SAID_BY_DIGEST = (
    "dataset",
    "dataset.class_names",
    "dataset.image_shape",
    "dataset.images_sha256",
)


def recipe_path(name: str) -> Path:
    """The file of a recipe that comes with the project, e.g. "m1"."""
    package = Path(__file__).parent
    in_wheel, in_checkout = package / "configs", package.parent / "configs"
    return (in_wheel if in_wheel.is_dir() else in_checkout) / f"{name}.py"


def names() -> list[str]:
    """Names of the recipes that come with the project."""
    return sorted(path.stem for path in recipe_path("m1").parent.glob("*.py"))


def _find(path: str | Path) -> Path | None:
    """A file; or, where there is none, the project's recipe of that name.

    Outside a checkout "best" and "configs/best.py" name the recipe that is installed.
    """
    if _is_file(path):
        return Path(path)
    said = str(path)
    name = said.removeprefix("configs/").removesuffix(".py")
    known = name in names() and said in (name, f"configs/{name}.py")
    return recipe_path(name) if known else None


def _is_file(path: str | Path) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # a name that no file can have
        return False


def load(path: str | Path) -> ConfigDict:
    """The recipe in a Python file, locked: fields can be changed but not added.

    Args:
      path: A file with `get_config()`, or the name of a recipe that comes with the
        project. It is run: use only files that you trust.

    Raises:
      InputError: for a file that is missing, raises, or returns something else.
    """
    file = _find(path)
    if file is None:
        close = difflib.get_close_matches(Path(path).stem, names(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(
            f"--config={path}: no such file, nor one of the recipes that come with the"
            f" project: {', '.join(names())}{hint}"
        )
    try:
        get_config = runpy.run_path(str(file)).get("get_config")
        config = get_config() if get_config else None
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"--config={path}: the file raised {reason}") from error
    if get_config is None:
        raise InputError(f"--config={path}: the file defines no get_config()")
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"--config={path}: get_config() returned a {type(config).__name__}, not a"
            " ml_collections.ConfigDict"
        )
    if isinstance(config, FrozenConfigDict):
        config = ConfigDict(config)
    return config.lock()


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields by dotted name: {"model": {"hidden": h}} becomes {"model.hidden": h}."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def nearest(name: str, known: Mapping[str, Any]) -> str:
    """A hint that names the known field closest to a mistyped one, or nothing."""
    # The last part counts most: people forget the group more often than the field.
    by_last = {field.rsplit(".", 1)[-1]: field for field in known}
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    if not close:
        last = difflib.get_close_matches(name.rsplit(".", 1)[-1], by_last, n=1)
        close = [by_last[field] for field in last]
    return f"; did you mean --config.{close[0]}?" if close else ""


def validate(config: ConfigDict) -> None:
    """Refuses a recipe with a missing or unknown field or a value out of range.

    Raises:
      InputError: naming the field, its value and what it may hold.
    """
    flat = flatten(config)
    name = flat.get("model.name")
    if not isinstance(name, str) or name not in fields.FIELDS:
        given = ": the recipe does not set it" if name is None else f"={name!r}"
        raise InputError(
            f"--config.model.name{given}: must be {' or '.join(fields.FIELDS)}"
        )
    if "student" in config and "graph" in config:
        raise InputError("a recipe has a group student or a group graph, not both")
    checks = _checks(config)
    groups = {field.partition(".")[0] for field in checks}
    for field in [*flat, *sorted(set(config) - groups)]:  # a group may be empty
        if field not in checks:
            raise InputError(f"--config.{field}: no such field{nearest(field, checks)}")
    values = LATER | flat
    for field, (ok, text) in checks.items():
        if field not in values:
            raise InputError(f"--config.{field}: the recipe does not set it ({text})")
        if not ok(values[field]):
            raise InputError(f"--config.{field}={values[field]!r}: must be {text}")


def _checks(config: ConfigDict) -> dict[str, fields.Check]:
    flat = flatten(config)
    return fields.of_recipe(flat["model.name"], set(config), flat)


def allowed(config: ConfigDict, field: str) -> str:
    """What a field of a recipe may hold, in words; raises as `validate`."""
    validate(config)
    return _checks(config)[field][1]


def value(config: Mapping[str, Any] | ConfigDict, field: str) -> Any:
    """A field by its dotted name; recipes of before may lack it."""
    return (LATER | flatten(config))[field]


def learns_labels(config: ConfigDict) -> bool:
    """Whether the recipe's model is trained anew for every choice of the labels."""
    return "labeled_batch_size" in config.get("train", {})


def model_fields(group: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a model from a recipe's group that describes one: all but the name."""
    return {name: value for name, value in group.items() if name != "name"}


def at(config: ConfigDict, num_labels: int) -> ConfigDict:
    """The recipe as it is for a number of labels: with its group `few`, or without."""
    resolved = ConfigDict(config.to_dict())
    if "few" in config:
        few = flatten(resolved.few)
        with resolved.unlocked():
            del resolved.few
        if num_labels <= few.pop("labels"):
            resolved.update_from_flattened_dict(few)
    return resolved


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What makes two runs different, one phrase a field; rows of results aside.

    Args:
      old: Content of one run's config.json.
      new: Content of the other's.
    """
    before, now = (
        {name.removeprefix("config."): value for name, value in flatten(run).items()}
        for run in (old, new)
    )
    values = {
        field: [run.get(field, LATER.get(field, "absent")) for run in (before, now)]
        for field in sorted(before.keys() | now.keys())
        if field not in ROW_FIELDS + _SAID_BY_DIGEST
    }
    return [
        f"{field} is {there!r} there and {here!r} here"
        for field, (there, here) in values.items()
        if there != here
    ]
