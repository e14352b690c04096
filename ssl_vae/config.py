"""Recipes: Python files with a `get_config()`. Finding, checking and comparing them."""

import difflib
import re
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ssl_vae.errors import InputError

Check = tuple[Callable[[Any], bool], str]


def _whole(low: int, high: int) -> Check:
    def ok(value: Any) -> bool:
        return type(value) is int and low <= value <= high

    return ok, f"a whole number from {low} to {high}"


def _real(low: float, high: float, *, open_low: bool = False) -> Check:
    def ok(value: Any) -> bool:
        if type(value) not in (int, float) or not low <= value <= high:
            return False
        return not (open_low and value == low)

    return ok, f"a number {'above' if open_low else 'from'} {low:g} and up to {high:g}"


def _choice(*values: Any) -> Check:
    return (lambda v: v in values), " or ".join(repr(v) for v in values)


def _several(low: int, high: int) -> Check:
    def ok(value: Any) -> bool:
        of_kind = isinstance(value, tuple) and 0 < len(value) <= 100
        return of_kind and all(type(v) is int and low <= v <= high for v in value)

    return ok, f"a tuple of whole numbers from {low} to {high}, such as (600, 600)"


def _labels() -> Check:
    # The data set says which numbers will do, and what is usual where there are none.
    def ok(value: Any) -> bool:
        of_kind = isinstance(value, tuple) and len(value) <= 100
        return of_kind and all(type(v) is int for v in value)

    return ok, "whole numbers, such as --labels=100,600"


def _flag() -> Check:
    return (lambda v: type(v) is bool), "True or False"


def _name() -> Check:
    def ok(value: Any) -> bool:
        return (
            isinstance(value, str) and re.fullmatch(r"[\w-]+", value, re.A) is not None
        )

    return ok, "a name of letters, digits, '-' and '_'"


def _dataset() -> Check:
    def ok(value: Any) -> bool:
        own = r"[\w-]+|(folder|npz):.+|tfds:[\w/.:-]+"
        return isinstance(value, str) and re.fullmatch(own, value, re.A) is not None

    return ok, (
        "a name such as fashion_mnist or digits, or data of your own: folder:DIR or"
        " npz:FILE, or tfds:NAME"
    )


def _text() -> Check:
    return (lambda v: isinstance(v, str)), "text"


_TRAIN: dict[str, Check] = {
    "train.num_epochs": _whole(1, 1_000_000),
    "train.batch_size": _whole(1, 1_000_000),
    "train.learning_rate": _real(0, 10, open_low=True),
    "train.schedule": _choice("constant", "cosine"),
    "train.checkpoint_every": _whole(1, 1_000_000),
}
_COMMON: dict[str, Check] = {
    "recipe": _name(),
    "seed": _whole(0, 2**31 - 1),
    "dataset": _dataset(),
    "data.placement": _choice("auto", "device", "stream"),
    "evaluate_on": _choice("test", "validation"),
    "labels": _labels(),
    "num_splits": _whole(1, 10_000),
    "importance_samples": _whole(1, 1_000_000),
    "model.latent_dim": _whole(1, 10_000),
    "model.hidden": _several(1, 100_000),
} | _TRAIN
_M1_MODEL: dict[str, Check] = {
    "model.name": _choice("m1"),
    "model.latent_dim": _whole(1, 10_000),
    "model.hidden": _several(1, 100_000),
    "model.kl_weight": _real(0, 1000),
    "model.gradient_weight": _real(0, 1000),
    "model.dtype": _choice("float32", "bfloat16"),
}
_M2: dict[str, Check] = {
    "model.alpha": _real(0, 1e6),
    "train.labeled_batch_size": _whole(1, 1_000_000),
    "train.warmup_epochs": _whole(0, 1_000_000),
}
# Every field of a recipe, with what it may hold, by the name of its model. Training of
# M2 and its kin depends on the labels: they alone have `train.labeled_batch_size`. A
# group `m1` tells how the first of two models is trained.
FIELDS: dict[str, dict[str, Check]] = {
    "m1": _COMMON
    | _M1_MODEL
    | {
        "num_seeds": _whole(1, 10_000),
        "classifier.name": _choice("svm_rbf"),
        "classifier.C": _real(0, 1e9, open_low=True),
        "classifier.standardize": _flag(),
        "classifier.cross_validate": _flag(),
    },
    "m2": _COMMON | _M2 | {"model.name": _choice("m2")},
    "m1_m2": _COMMON
    | _M2
    | {"model.name": _choice("m1_m2"), "m1_workdir": _text()}
    | {f"m1.{field}": check for field, check in (_M1_MODEL | _TRAIN).items()},
}
# A recipe of m1 with a group `student` also trains a network that its SVMs teach.
STUDENT: dict[str, Check] = {
    field.replace("train.", "student."): check for field, check in _TRAIN.items()
} | {
    "student.labeled_batch_size": _whole(1, 1_000_000),
    "num_seeds": (lambda v: v == 1, "1 where a network is taught by the SVMs"),
}
# Fields that recipes and runs of before do not have, and what they mean by that.
_LATER = {
    "data.placement": "auto",
    "num_seeds": 1,
    "model.dtype": "float32",
    "m1.model.dtype": "float32",
}
# A group `few` changes fields of the groups model and train where there are at most
# `few.labels` labels.
FEW = "few."
# Which rows a run's results have, how well its models are measured, and where the
# images are kept meanwhile: these fields do not change what is trained.
ROW_FIELDS = ("labels", "num_splits", "importance_samples", "data.placement")
# Where the images were taken from and what their classes are called: which images they
# are and of which class, a digest says.
_SAID_BY_DIGEST = ("dataset", "dataset.class_names", "dataset.image_shape")


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
    if name not in FIELDS:
        given = f"={name!r}" if name else ": the recipe does not set it"
        raise InputError(f"--config.model.name{given}: must be {' or '.join(FIELDS)}")
    fields = FIELDS[name]
    if "student" in config and name == "m1":
        fields = fields | STUDENT
    if "few" in config and learns_labels(config):
        may_change = {
            FEW + field: check
            for field, check in fields.items()
            if field.startswith(("model.", "train.")) and field != "model.name"
        }
        fields = fields | {f: c for f, c in may_change.items() if f in flat}
        fields[FEW + "labels"] = _whole(0, 1_000_000_000)
    for field in flat:
        if field not in fields:
            raise InputError(f"--config.{field}: no such field{nearest(field, fields)}")
    values = _LATER | flat
    for field, (ok, text) in fields.items():
        if field not in values:
            raise InputError(f"--config.{field}: the recipe does not set it ({text})")
        if not ok(values[field]):
            raise InputError(f"--config.{field}={values[field]!r}: must be {text}")


def value(config: Mapping[str, Any] | ConfigDict, field: str) -> Any:
    """A field by its dotted name; recipes of before may lack it."""
    return (_LATER | flatten(config))[field]


def learns_labels(config: ConfigDict) -> bool:
    """Whether the recipe's model is trained anew for every choice of the labels."""
    return "labeled_batch_size" in config.get("train", {})


def model_fields(group: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a model from a recipe's group that describes one: all but the name."""
    return {name: value for name, value in group.items() if name != "name"}


def m1_fields(config: Any) -> dict[str, Any] | None:
    """Fields of the model m1 in the recipe of a config.json; None for any other."""
    group = config.get("model") if isinstance(config, Mapping) else None
    if not isinstance(group, Mapping):
        return None
    model = {k: tuple(v) if isinstance(v, list) else v for k, v in group.items()}
    checks = {f.removeprefix("model."): check for f, check in _M1_MODEL.items()}
    model = {"dtype": _LATER["model.dtype"]} | model
    if model.keys() != checks.keys():
        return None
    return model if all(checks[k][0](v) for k, v in model.items()) else None


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
    fields = sorted(before.keys() | now.keys())
    values = {
        field: [run.get(field, _LATER.get(field, "absent")) for run in (before, now)]
        for field in fields
        if field not in ROW_FIELDS + _SAID_BY_DIGEST
    }
    return [
        f"{field} is {there!r} there and {here!r} here"
        for field, (there, here) in values.items()
        if there != here
    ]
