"""Every field of a recipe, and what it may hold."""

import re
from collections.abc import Callable, Mapping, Set
from typing import Any

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
M1_MODEL: dict[str, Check] = {
    "model.name": _choice("m1"),
    "model.latent_dim": _whole(1, 10_000),
    "model.hidden": _several(1, 100_000),
    "model.kl_weight": _real(0, 1000),
    "model.gradient_weight": _real(0, 1000),
    "model.dtype": _choice("float32", "bfloat16"),
}
M1_TRAIN: dict[str, Check] = _TRAIN | {"train.kl_warmup": _real(0, 1)}
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
    | M1_MODEL
    | M1_TRAIN
    | {
        "num_seeds": _whole(1, 10_000),
        "m1_workdir": _text(),
        "classifier.name": _choice("svm_rbf"),
        "classifier.C": _real(0, 1e9, open_low=True),
        "classifier.standardize": _flag(),
        "classifier.cross_validate": _flag(),
        "classifier.shifted": _flag(),
    },
    "m2": _COMMON | _M2 | {"model.name": _choice("m2")},
    "m1_m2": _COMMON
    | _M2
    | {"model.name": _choice("m1_m2"), "m1_workdir": _text()}
    | {f"m1.{field}": check for field, check in (M1_MODEL | M1_TRAIN).items()},
}
# A recipe of m1 with a group `student` also trains a network that its SVMs teach.
STUDENT: dict[str, Check] = {
    field.replace("train.", "student."): check for field, check in _TRAIN.items()
} | {
    "student.labeled_batch_size": _whole(1, 1_000_000),
    "num_seeds": (lambda v: v == 1, "1 where a network is taught by the SVMs"),
}
# A recipe of m1 with a group `graph` smooths what its SVMs say over one of the images.
GRAPH: dict[str, Check] = {
    "graph.num_neighbors": _whole(1, 1000),
    "graph.strength": _real(0, 1000, open_low=True),
}
# Fields that recipes and runs of before do not have, and what they mean by that.
LATER = {
    "data.placement": "auto",
    "num_seeds": 1,
    "m1_workdir": "",
    "model.dtype": "float32",
    "train.kl_warmup": 0.0,
    "classifier.shifted": False,
    "m1.model.dtype": "float32",
    "m1.train.kl_warmup": 0.0,
}
# A group `few` changes fields of the groups model and train where there are at most
# `few.labels` labels.
FEW = "few."


def of_recipe(name: str, groups: Set[str], flat: Mapping[str, Any]) -> dict[str, Check]:
    """Every field that a recipe has to have, and what it may hold.

    Args:
      name: Of its model, one of FIELDS.
      groups: Names of its groups of fields, an empty one's too.
      flat: Its fields by dotted name.
    """
    checks = dict(FIELDS[name])
    if name == "m1" and "student" in groups:
        checks |= STUDENT
    if name == "m1" and "graph" in groups:
        checks |= GRAPH
    if "few" in groups and "train.labeled_batch_size" in flat:
        may_change = {
            FEW + field: check
            for field, check in checks.items()
            if field.startswith(("model.", "train.")) and field != "model.name"
        }
        checks |= {field: may_change[field] for field in may_change.keys() & flat}
        checks[FEW + "labels"] = _whole(0, 1_000_000_000)
    return checks
