"""A recipe and its data, each checked against the other.

Needs no JAX, nor scikit-learn but for its digits: bad input is answered at once.
"""

import logging
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ssl_vae import bucket, datasets
from ssl_vae import config as recipes
from ssl_vae.datasets import Dataset
from ssl_vae.errors import InputError
from ssl_vae.splits import Splits, usual_labels

logger = logging.getLogger("ssl_vae")

VALIDATION_IMAGES = 10_000  # at most, and at most a sixth of the labeled images
FEW_STEPS = 1_500  # fewer hardly train a model; on digits twice as many are better


def load_data(recipe: ConfigDict, data_dir: str | Path | None) -> Dataset:
    """The recipe's images, after checking that its numbers fit them."""
    kind, _, path = recipe.dataset.partition(":")
    source = f"{kind}:{bucket.fetched(path)}" if bucket.is_url(path) else recipe.dataset
    if data_dir and bucket.is_url(data_dir):
        data_dir = bucket.fetched(data_dir)
    data = datasets.load(source, data_dir)
    for note in data.notes:
        logger.info("data: %s", note)
    if recipe.evaluate_on == "validation":
        data = without_validation(data)
    _check_graph(recipe, data)
    recipe.labels = recipe.labels or usual_labels(data)
    for num_labels in recipe.labels:
        Splits(data, num_labels).check()
        at_labels = recipes.at(recipe, num_labels)
        check_training(at_labels)
        _check_batches(at_labels, num_labels, data)
    if (few := recipe.get("few")) and min(recipe.labels) <= few.labels:
        fields = recipes.flatten(few)
        del fields["labels"]
        changes = ", ".join(f"{name}={value}" for name, value in fields.items())
        logger.info("recipe: up to %d labels %s (few)", few.labels, changes)
    logger.info("data: %s", _description(data))
    _hint_at_few_steps(recipe, data)
    if data.cross_validated:
        logger.info(
            "data: no test images, so accuracy is by cross-validation on the labeled"
            " ones; a model has seen those too, without their labels"
        )
    return data


def steps_per_epoch(recipe: ConfigDict, num_labels: int, data: Dataset) -> int:
    """Whole batches of all training images, or of the unlabeled ones.

    Args:
      recipe: As it is for this number of labels.
      num_labels: How many images keep their label.
      data: What is trained on.
    """
    num_images, size = len(data.train_images), recipe.train.batch_size
    if recipes.learns_labels(recipe):
        num_images -= Splits(data, num_labels).num_given
        size -= recipe.train.labeled_batch_size
    return num_images // size


def _other_trainings(recipe: ConfigDict) -> dict[str, ConfigDict]:
    """The recipe's groups that train something on all images, beside `train`."""
    groups = {
        "m1.train": not recipe.get("m1_workdir") and recipe.get("m1", {}).get("train"),
        "student": recipe.get("student"),
    }
    return {name: settings for name, settings in groups.items() if settings}


def _hint_at_few_steps(recipe: ConfigDict, data: Dataset) -> None:
    """Says how many epochs would be enough where the recipe's are for larger sets."""
    taken = recipe.get("m1_workdir") and not recipes.learns_labels(recipe)
    for name in [*([] if taken else ["train"]), *_other_trainings(recipe)]:
        steps, per_epoch = min(_steps(recipe, name, n, data) for n in recipe.labels)
        if steps < FEW_STEPS:
            logger.info(
                "recipe: only %d steps of training, since the images are few; try"
                " --config.%s.num_epochs=%d",
                steps,
                name,
                -(-FEW_STEPS // per_epoch),
            )


def _steps(
    recipe: ConfigDict, name: str, num_labels: int, data: Dataset
) -> tuple[int, int]:
    """Steps of a training in all, and those of an epoch."""
    recipe = recipes.at(recipe, num_labels)
    settings = recipe.train
    per_epoch = steps_per_epoch(recipe, num_labels, data)
    if name != "train":
        settings = _other_trainings(recipe)[name]
        size = settings.batch_size - settings.get("labeled_batch_size", 0)
        per_epoch = len(data.train_images) // size
    return settings.num_epochs * per_epoch, per_epoch


def _description(data: Dataset) -> str:
    """Name, numbers and shape of the images, classes and source, for the console."""
    some = f" ({data.num_labeled} labeled)"
    return (
        f"{data.name}, {len(data.train_images)} training"
        f"{some if data.num_labeled < len(data.train_images) else ''}"
        f" and {'no' if data.cross_validated else len(data.test_images)} test images"
        f" of {' x '.join(str(size) for size in data.image_shape)},"
        f" {data.num_classes} classes ({data.source})"
    )


def without_validation(data: Dataset) -> Dataset:
    """The data with a part of the labeled images in place of the test images."""
    num_held_out = min(VALIDATION_IMAGES, data.num_labeled // 6)
    per_class = num_held_out // data.num_classes
    scarcest = int(np.min(np.bincount(data.train_labels[data.train_labels >= 0])))
    if per_class >= scarcest:
        raise InputError(
            f"--config.evaluate_on=validation: holds out {per_class} labeled images of"
            f" each class, and one has only {scarcest}; label more of it"
        )
    if not per_class:
        raise InputError(
            f"--config.evaluate_on=validation: holds out a sixth of the labeled images,"
            f" and a sixth of {data.num_labeled} is fewer than {data.num_classes}, one"
            " of each class"
        )
    return data.holdout(per_class * data.num_classes)


def check_training(recipe: ConfigDict) -> None:
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


def _check_graph(recipe: ConfigDict, data: Dataset) -> None:
    """Refuses more neighbors than an image can have."""
    num_images = len(data.train_images)
    if (graph := recipe.get("graph")) and graph.num_neighbors >= num_images:
        raise InputError(
            f"--config.graph.num_neighbors={graph.num_neighbors}: there are"
            f" {num_images} training images; choose fewer"
        )


def _check_batches(recipe: ConfigDict, num_labels: int, data: Dataset) -> None:
    """Refuses a batch that there are too few images for; `recipe` is for num_labels."""
    num_images = len(data.train_images)
    size, of, there = recipe.train.batch_size, "training", num_images
    if recipes.learns_labels(recipe):
        size -= recipe.train.labeled_batch_size
        of, there = "unlabeled", num_images - Splits(data, num_labels).num_given
    if size > there:
        most = recipe.train.batch_size - size + there
        remedy = f"choose at most {most}" if there else "leave some unlabeled"
        raise InputError(
            f"--config.train.batch_size={recipe.train.batch_size}: has {size} {of}"
            f" images, and with --labels={num_labels} there are {there}; {remedy}"
        )
    for name, settings in _other_trainings(recipe).items():
        if settings.batch_size > num_images:
            raise InputError(
                f"--config.{name}.batch_size={settings.batch_size}: there are"
                f" {num_images} training images; choose at most as many"
            )
