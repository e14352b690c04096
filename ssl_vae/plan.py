"""What a run will do, checked in full before anything slow or lasting happens.

Needs neither JAX nor scikit-learn, so bad input is answered within a second.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from ssl_vae import config as recipes
from ssl_vae import datasets
from ssl_vae.datasets import Dataset
from ssl_vae.errors import InputError
from ssl_vae.labels import check_num_labels
from ssl_vae.results import Results
from ssl_vae.workdir import FORMAT_VERSION, Stage, Workdir, read_json

logger = logging.getLogger("ssl_vae")

VALIDATION_IMAGES = 10_000  # at most, and at most a sixth of the training images


@dataclass(frozen=True)
class FirstStage:
    """The first of two models: where it is and how it is, or is to be, trained."""

    stage: Stage
    model: ConfigDict
    train: ConfigDict


@dataclass(frozen=True)
class Plan:
    """A run whose recipe, data and folder are sound and belong together."""

    recipe: ConfigDict
    data: Dataset
    workdir: Workdir
    before: Results | None  # what the run has found so far
    missing: list[int]  # numbers of labels that it has still to measure, ascending
    first: FirstStage | None  # the M1 that M1+M2 stands on

    @property
    def finished(self) -> Results | None:
        """The run's results, if they hold all that is asked for."""
        return None if self.missing else self.before

    def batch_sizes(self, num_labels: int) -> list[int]:
        """Images a step: of all of them; or of the unlabeled and of the labeled."""
        settings = recipes.at(self.recipe, num_labels).train
        if not recipes.learns_labels(self.recipe):
            return [settings.batch_size]
        labeled = settings.labeled_batch_size
        return [settings.batch_size - labeled, min(labeled, num_labels)]

    def student_batch_sizes(self, num_labels: int) -> list[int]:
        """Images a step of a student: of all of them, and of the labeled."""
        settings = self.recipe.student
        labeled = settings.labeled_batch_size
        return [settings.batch_size - labeled, min(labeled, num_labels)]

    def steps_per_epoch(self, num_labels: int) -> int:
        """Whole batches of all training images; or of the unlabeled ones."""
        num_images = len(self.data.train_images)
        if recipes.learns_labels(self.recipe):
            num_images -= num_labels
        return num_images // self.batch_sizes(num_labels)[0]

    def is_newest(self, num_labels: int) -> bool:
        """Whether the run has no results for more labels than these."""
        rows = self.before.results if self.before else []
        return all(row.labels <= num_labels for row in rows)


def make_plan(
    config: ConfigDict | int | Sequence[int] | None = None,
    workdir: str | Path | None = None,
    data_dir: str | Path | None = None,
) -> Plan:
    """Reads and checks what `experiment.run_experiment` is given; writes nothing.

    Args:
      config: A recipe; or one or several numbers of labels for the default recipe;
        None is the default recipe as it is.
      workdir: Where the run goes; by default
        checkpoints/<recipe>-<dataset>-seed<seed>.
      data_dir: Where the data lies, see `datasets.load`.

    Raises:
      InputError: for anything that the caller can mend.
    """
    recipe = _resolve(config)
    for num_labels in recipe.labels:
        _check_training(recipes.at(recipe, num_labels))
    if workdir is not None:
        Workdir(workdir).check()
    data = _load_data(recipe, data_dir)  # which may have to be fetched
    name = f"{recipe.recipe}-{data.name}-seed{recipe.seed}"
    run = Workdir(workdir or Path("checkpoints") / name)
    run.check()
    before = Results.load(run.results)
    missing = _missing(recipe, before)
    first = _first_stage(recipe, run, data) if missing and "m1" in recipe else None
    plan = Plan(recipe, data, run, before, missing, first)
    run.check_owner(recipe.to_dict(), data.identity)
    logger.info("workdir: %s", run.path)
    if plan.finished:
        logger.info("this run is finished: its stored numbers follow")
    return plan


def _resolve(config: ConfigDict | int | Sequence[int] | None) -> ConfigDict:
    """A checked recipe from whatever the caller named it by."""
    if isinstance(config, ConfigDict):
        recipe = config
    else:
        recipe = recipes.load(recipes.recipe_path("m1"))
        if config is not None:
            counts = config if isinstance(config, Sequence) else [config]
            recipe.labels = tuple(int(count) for count in counts)
    recipes.validate(recipe)
    recipe = ConfigDict(recipe.to_dict())  # the caller's stays as it is
    if recipe.get("m1_workdir"):  # one run, whatever folder the command is given in
        try:
            recipe.m1_workdir = str(Path(recipe.m1_workdir).expanduser().resolve())
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"--config.m1_workdir={recipe.m1_workdir}: {error}"
            ) from None
    return recipe


def _load_data(recipe: ConfigDict, data_dir: str | Path | None) -> Dataset:
    """The recipe's images, after checking that its numbers fit them."""
    data = datasets.load(recipe.dataset, data_dir)
    if recipe.evaluate_on == "validation":
        data = without_validation(data)
    for num_labels in recipe.labels:
        check_num_labels(data.train_labels, num_labels)
        num_images = len(data.train_images)
        _check_batches(recipes.at(recipe, num_labels), num_labels, num_images)
    if (few := recipe.get("few")) and min(recipe.labels) <= few.labels:
        fields = recipes.flatten(few)
        del fields["labels"]
        changes = ", ".join(f"{name}={value}" for name, value in fields.items())
        logger.info("recipe: up to %d labels %s (few)", few.labels, changes)
    logger.info(
        "data: %s, %d training and %d test images of %s, %d classes (%s)",
        data.name,
        len(data.train_images),
        len(data.test_images),
        " x ".join(str(size) for size in data.train_images.shape[1:]),
        data.num_classes,
        data.source,
    )
    return data


def without_validation(data: Dataset) -> Dataset:
    """The data with a part of the training images in place of the test images."""
    num_held_out = min(VALIDATION_IMAGES, len(data.train_images) // 6)
    return data.holdout(num_held_out // data.num_classes * data.num_classes)


def _check_training(recipe: ConfigDict) -> None:
    """Refuses numbers that do not go together; the recipe is for a number of labels."""
    for name in ("train", "student"):
        settings = recipe.get(name, {})
        labeled = settings.get("labeled_batch_size", 0)
        if labeled >= settings.get("batch_size", 1):
            raise InputError(
                f"--config.{name}.labeled_batch_size={labeled}: must leave room for"
                f" unlabeled images in a batch of {settings.batch_size}; raise"
                f" --config.{name}.batch_size"
            )
    warmup, num_epochs = recipe.train.get("warmup_epochs", 0), recipe.train.num_epochs
    if warmup >= num_epochs:
        raise InputError(
            f"--config.train.warmup_epochs={warmup}: must be fewer than the epochs of"
            f" training, {num_epochs}"
        )


def _check_batches(recipe: ConfigDict, num_labels: int, num_images: int) -> None:
    """Refuses a batch that there are too few images for; `recipe` is for num_labels."""
    size, of, there = recipe.train.batch_size, "training", num_images
    if recipes.learns_labels(recipe):
        size -= recipe.train.labeled_batch_size
        of, there = "unlabeled", num_images - num_labels
    if size > there:
        raise InputError(
            f"--config.train.batch_size={recipe.train.batch_size}: has {size} {of}"
            f" images, and with --labels={num_labels} there are {there}"
        )
    others = {
        "m1.train": recipe.get("m1", {}).get("train"),
        "student": recipe.get("student"),
    }
    for name, settings in others.items():
        if settings and settings.batch_size > num_images:
            raise InputError(
                f"--config.{name}.batch_size={settings.batch_size}: there are"
                f" {num_images} training images"
            )


def _first_stage(recipe: ConfigDict, run: Workdir, data: Dataset) -> FirstStage:
    """The M1 of M1+M2: this run's own, or that of a finished run of the same data."""
    if not recipe.m1_workdir:
        return FirstStage(run.stage("m1"), recipe.m1.model, recipe.m1.train)
    flag = f"--config.m1_workdir={recipe.m1_workdir}"
    try:
        there = Workdir(recipe.m1_workdir)
        if not there.config.exists():
            raise InputError("no run is there; leave the field empty to train an M1")
        content = read_json(there.config)
    except (InputError, OSError) as error:
        raise InputError(f"{flag}: {error}") from None
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        raise InputError(f"{flag}: no run of this version of ssl_vae")
    model = recipes.m1_fields(content.get("config"))
    if model is None:
        raise InputError(f"{flag}: not the folder of a run of the model m1")
    unlike = recipes.differences(
        {"dataset": content.get("dataset")}, {"dataset": data.identity}
    )
    if unlike:
        raise InputError(f"{flag}: trained on other images: {'; '.join(unlike)}")
    if not there.stage().weights.exists():
        raise InputError(
            f"{flag}: that run is not finished; its own command again goes on with it"
        )
    return FirstStage(there.stage(), ConfigDict(model), recipe.m1.train)


def _missing(recipe: ConfigDict, before: Results | None) -> list[int]:
    """The numbers of labels asked for that were not measured as is asked for."""

    def known(num_labels: int) -> bool:
        row = before.row(num_labels) if before else None
        if before is None or row is None or len(row.split_seeds) < recipe.num_splits:
            return False
        figures = row.vae or [before.vae]
        asked = recipe.importance_samples
        return all(each.get("importance_samples") == asked for each in figures)

    return sorted({n for n in recipe.labels if not known(n)})
