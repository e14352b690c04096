"""What a run will do, checked in full before anything slow or lasting happens.

Needs no JAX, nor scikit-learn but for its digits: bad input is answered at once.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ssl_vae import bucket
from ssl_vae import config as recipes
from ssl_vae.checked import check_training, load_data, steps_per_epoch
from ssl_vae.datasets import Dataset
from ssl_vae.errors import InputError
from ssl_vae.results import Results
from ssl_vae.splits import Splits
from ssl_vae.workdir import FORMAT_VERSION, Stage, Workdir, read_json

logger = logging.getLogger("ssl_vae")


@dataclass(frozen=True)
class Plan:
    """A run whose recipe, data and folder are sound and belong together."""

    recipe: ConfigDict
    data: Dataset
    workdir: Workdir
    before: Results | None  # what the run has found so far
    missing: list[int]  # numbers of labels that it has still to measure, ascending
    given_m1: Workdir | None  # whose VAE is still to be taken, if any

    @property
    def finished(self) -> Results | None:
        """The run's results, if they hold all that is asked for."""
        return None if self.missing else self.before

    @property
    def trains_m1(self) -> bool:
        """Whether a VAE of all images is still to be trained."""
        stage = _m1_stage(self.recipe, self.workdir)
        return not (stage is None or self.given_m1 or stage.weights.exists())

    @property
    def sha256(self) -> str:
        """Hex digest of what is left to be done: of recipe, data and rows."""
        rows = [(num_labels, self.is_newest(num_labels)) for num_labels in self.missing]
        parts = self.recipe.to_dict(), self.data.identity, rows
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @property
    def seeds(self) -> range:
        """Of the VAEs that the recipe asks for."""
        first = self.recipe.seed
        return range(first, first + recipes.value(self.recipe, "num_seeds"))

    def splits(self, num_labels: int) -> Splits:
        """Which images keep their label, and which a classifier is measured on."""
        return Splits(self.data, num_labels)

    def split_seeds(self, num_labels: int) -> range:
        """Of the splits that are measured: no fewer than before, where anew."""
        asked = self.splits(num_labels).number(self.recipe.num_splits)
        row = self.before.row(num_labels) if self.before else None
        return range(max(asked, len(row.split_seeds) if row else 0))

    def batch_sizes(self, num_labels: int, group: str = "train") -> list[int]:
        """Images a step: of all or of the unlabeled; and of the labeled, if any.

        Args:
          num_labels: How many images keep their label.
          group: Of the recipe, which tells how something is trained.
        """
        settings = recipes.at(self.recipe, num_labels)[group]
        if "labeled_batch_size" not in settings:
            return [settings.batch_size]
        labeled = settings.labeled_batch_size
        given = self.splits(num_labels).num_given
        return [settings.batch_size - labeled, min(labeled, given)]

    def steps_per_epoch(self, num_labels: int) -> int:
        """Whole batches of all training images; or of the unlabeled ones."""
        recipe = recipes.at(self.recipe, num_labels)
        return steps_per_epoch(recipe, num_labels, self.data)

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
    for num_labels in recipe.labels:  # before the data, which may have to be fetched
        check_training(recipes.at(recipe, num_labels))
    if workdir is not None:
        Workdir(workdir).check(may_be_finished=True)
    data = load_data(recipe, data_dir)
    name = f"{recipe.recipe}-{data.name}-seed{recipe.seed}"
    run = Workdir(workdir or Path("checkpoints") / name)
    run.check(may_be_finished=True)
    before = Results.load(run.results)
    m1_run = _m1_run(recipe, run, data) if before is None else None
    if theirs := _fields_of_m1(recipe, run, m1_run):
        group = recipe.m1 if "m1" in recipe else recipe
        group.model, group.train = theirs.model, theirs.train
    run.check_owner(recipe.to_dict(), data.identity)
    stage = _m1_stage(recipe, run)
    given_m1 = None if stage is None or stage.weights.exists() else m1_run
    missing = _missing(recipe, data, run, before)
    plan = Plan(recipe, data, run, before, missing, given_m1)
    if given_m1:
        logger.info("M1: taken, with its fields, from %s", given_m1.name)
    logger.info("workdir: %s", run.name)
    if plan.finished:
        logger.info("this run is finished: its stored numbers follow")
    else:
        run.check()
        _check_founded(recipe, run, before)
    return plan


def _resolve(config: ConfigDict | int | Sequence[int] | None) -> ConfigDict:
    """A checked recipe from whatever the caller named it by."""
    if isinstance(config, ConfigDict):
        recipe = config
    else:
        recipe = recipes.load(recipes.recipe_path("m1"))
        if config is not None:
            recipe.labels = _label_counts(config)
    recipes.validate(recipe)
    recipe = ConfigDict(recipe.to_dict())  # the caller's stays as it is
    # One run, whatever folder the command is given in.
    kind, _, path = recipe.dataset.partition(":")
    if kind in ("folder", "npz"):
        recipe.dataset = f"{kind}:{_absolute('dataset', path)}"
    if recipe.get("m1_workdir"):
        recipe.m1_workdir = _absolute("m1_workdir", recipe.m1_workdir)
    return recipe


def _label_counts(given: Any) -> tuple[int, ...]:
    """Whole numbers, of Python or NumPy, one or several."""
    try:
        several = isinstance(given, Iterable)
        return tuple(index(count) for count in (given if several else [given]))
    except TypeError:
        raise InputError(
            f"{given!r} is no recipe, as ssl_vae.config.load reads it, and no number of"
            " labels or several"
        ) from None


def _absolute(field: str, path: str) -> str:
    if bucket.is_url(path):
        return path
    try:
        return str(Path(path).expanduser().resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"--config.{field}={path}: {error}") from None


def _m1_stage(recipe: ConfigDict, run: Workdir) -> Stage | None:
    """Where a run has its VAE of all images; None for M2, which has none."""
    if "m1" in recipe:
        return run.stage("m1")
    return None if recipes.learns_labels(recipe) else run.stage()


def _fields_of_m1(
    recipe: ConfigDict, run: Workdir, m1_run: Workdir | None
) -> ConfigDict | None:
    """`model` and `train` of a VAE that is taken: of its run, or noted in this one."""
    if m1_run:
        return m1_run.recipe()
    if not recipe.get("m1_workdir") or not run.config.exists():
        return None
    mine = run.recipe()
    return mine.get("m1", mine)


def _m1_run(recipe: ConfigDict, run: Workdir, data: Dataset) -> Workdir | None:
    """The finished run of the same images whose VAE is taken, if one is named.

    Once it is taken there is a copy in the run's own folder, which is all that counts.
    """
    copy = _m1_stage(recipe, run)
    if copy is None or not recipe.get("m1_workdir"):
        return None
    flag = f"--config.m1_workdir={recipe.m1_workdir}"
    if recipes.value(recipe, "num_seeds") != 1:
        raise InputError(f"{flag}: is one VAE; leave --config.num_seeds at 1")
    try:
        there = Workdir(copy.path if copy.weights.exists() else recipe.m1_workdir)
        if not there.config.exists():
            raise InputError("no run is there; leave the field empty to train an M1")
        content, theirs = read_json(there.config), there.recipe()
    except (InputError, OSError) as error:
        raise InputError(f"{flag}: {error}") from None
    if content.get("format_version") != FORMAT_VERSION:
        raise InputError(f"{flag}: no run of this version of ssl_vae")
    if theirs.model.name != "m1":
        raise InputError(f"{flag}: not the folder of a run of the model m1")
    _check_same_images(flag, content.get("dataset"), data)
    if recipes.value(theirs, "num_seeds") != 1:
        raise InputError(f"{flag}: holds VAEs of several seeds; give a run of one")
    if not there.stage().weights.exists():
        raise InputError(
            f"{flag}: that run is not finished; its own command again goes on with it"
        )
    return there


def _check_same_images(flag: str, dataset: Any, data: Dataset) -> None:
    """Refuses an M1 of other images; `dataset` is what its config.json says of them.

    Labels do not matter, but where it does not tell the digest of the images alone.
    """
    there = dataset.get("images_sha256") if isinstance(dataset, dict) else None
    if there == data.images_sha256:
        return
    unlike = recipes.differences({"dataset": dataset}, {"dataset": data.identity})
    size = dataset.get("image_shape") if isinstance(dataset, dict) else None
    if size != list(data.image_shape):
        unlike = [f"image_shape is {size} there and {list(data.image_shape)} here"]
    if unlike:
        raise InputError(
            f"{flag}: trained on other images: {'; '.join(unlike)}; leave the"
            " field empty to train an M1"
        )


def _is_founded(recipe: ConfigDict, run: Workdir) -> bool:
    """Whether a run's VAE of all images is there, or goes on from a saved state."""
    stage = _m1_stage(recipe, run)
    return stage is None or stage.weights.exists() or stage.steps.exists()


def _check_founded(recipe: ConfigDict, run: Workdir, before: Results | None) -> None:
    """Refuses to go on where a run's VAE is gone, and models or numbers are of it."""
    models = [stage for stage in run.stages() if stage.weights.exists()]
    if not _is_founded(recipe, run) and (before or models):
        raise InputError(
            f"--workdir={run.name}: its VAE of all images is gone, and what is left is"
            " of that one; choose another --workdir"
        )


def _kept(
    recipe: ConfigDict, data: Dataset, run: Workdir, num_labels: int
) -> list[Path]:
    """What a finished run has of its classifier, which is of so many labels."""
    first = run.stage_of_splits(num_labels, run.groups_of_splits(num_labels, 1)[0])
    if recipes.learns_labels(recipe):
        m1 = [run.stage("m1").weights] if "m1" in recipe else []
        return [*m1, first.weights]
    names = "vae_weights", "classifier.skops", "classifier.json"
    paths = [run.path / name for name in names]
    if "graph" in recipe:
        paths.append(run.graph(num_labels))
    if "student" in recipe:
        whole = run.stage_of_whole(num_labels)
        paths.append((whole if data.cross_validated else first).weights)
    return paths


def _missing(
    recipe: ConfigDict, data: Dataset, run: Workdir, before: Results | None
) -> list[int]:
    """The numbers of labels asked for that were not measured as is asked for.

    And that of the classifier which the run keeps, where a file of it is gone that can
    be made anew.
    """

    def known(num_labels: int) -> bool:
        row = before.row(num_labels) if before else None
        if before is None or row is None:
            return False
        if len(row.split_seeds) < Splits(data, num_labels).number(recipe.num_splits):
            return False
        figures = row.vae or [before.vae]
        asked = recipe.importance_samples
        return all(each.get("importance_samples") == asked for each in figures)

    missing = {n for n in recipe.labels if not known(n)}
    if before and before.results and _is_founded(recipe, run):
        newest = before.results[-1].labels
        if not all(path.exists() for path in _kept(recipe, data, run, newest)):
            missing.add(newest)
    return sorted(missing)
