"""What a run will do, checked in full before anything slow or lasting happens.

Needs neither JAX nor scikit-learn, so bad input is answered within a second.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ssl_vae import config as recipes
from ssl_vae import datasets
from ssl_vae.datasets import Dataset
from ssl_vae.errors import InputError
from ssl_vae.labels import check_num_labels
from ssl_vae.results import Results
from ssl_vae.workdir import Workdir

logger = logging.getLogger("ssl_vae")

VALIDATION_IMAGES = 10_000  # at most, and at most a sixth of the training images


@dataclass(frozen=True)
class Plan:
    """A run whose recipe, data and folder are sound and belong together."""

    recipe: ConfigDict
    data: Dataset
    workdir: Workdir
    before: Results | None  # what the run has found so far
    missing: list[int]  # numbers of labels that it has still to measure, ascending

    @property
    def finished(self) -> Results | None:
        """The run's results, if they hold all that is asked for."""
        return None if self.missing else self.before

    @property
    def dataset(self) -> dict[str, Any]:
        """The data in results.json: name, number of images, digest."""
        return {
            "name": self.data.name,
            "train": len(self.data.train_images),
            "test": len(self.data.test_images),
            "sha256": self.data.sha256,
        }

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training images."""
        return len(self.data.train_images) // self.recipe.train.batch_size

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.recipe.train.num_epochs * self.steps_per_epoch


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
    if workdir is not None:
        Workdir(workdir).check()  # before the data, which may have to be fetched
    data = _load_data(recipe, data_dir)
    name = f"{recipe.recipe}-{data.name}-seed{recipe.seed}"
    run = Workdir(workdir or Path("checkpoints") / name)
    run.check()
    before = Results.load(run.results)
    plan = Plan(recipe, data, run, before, _missing(recipe, before))
    run.check_owner(recipe.to_dict(), plan.dataset)
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
    return recipe


def _load_data(recipe: ConfigDict, data_dir: str | Path | None) -> Dataset:
    """The recipe's images, after checking that its numbers fit them."""
    data = datasets.load(recipe.dataset, data_dir)
    if recipe.evaluate_on == "validation":
        num_held_out = min(VALIDATION_IMAGES, len(data.train_images) // 6)
        data = data.holdout(num_held_out // data.num_classes * data.num_classes)
    for num_labels in recipe.labels:
        check_num_labels(data.train_labels, num_labels)
    if recipe.train.batch_size > len(data.train_images):
        raise InputError(
            f"--config.train.batch_size={recipe.train.batch_size}: there are"
            f" {len(data.train_images)} training images"
        )
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


def _missing(recipe: ConfigDict, before: Results | None) -> list[int]:
    """The numbers of labels asked for that were not measured on all splits."""

    def known(num_labels: int) -> bool:
        row = before.row(num_labels) if before else None
        return row is not None and len(row.split_seeds) >= recipe.num_splits

    return sorted({n for n in recipe.labels if not known(n)})
