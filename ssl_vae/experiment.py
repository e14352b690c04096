"""`run_experiment`: the one place where data, model, training and classifier meet."""

import logging
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from sklearn.pipeline import Pipeline

from ssl_vae import checkpoint, datasets, evaluate, models, report, train
from ssl_vae import config as recipes
from ssl_vae.classifiers import svm
from ssl_vae.datasets import Dataset
from ssl_vae.labels import check_num_labels, choose_labeled
from ssl_vae.models.m1 import M1, Params
from ssl_vae.progress import Progress
from ssl_vae.results import Results, Row
from ssl_vae.workdir import FORMAT_VERSION, Workdir

logger = logging.getLogger("ssl_vae")

VALIDATION_IMAGES = 10_000
PACKAGES = ["jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "scikit-learn"]


class Stopped(Exception):
    """Training was asked to stop; its state is saved and the same call goes on."""


class Diverged(ArithmeticError):
    """Training met a loss that is not a finite number; the last good state is kept."""


class Clock:
    """Seconds spent in each named part of a run."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        parts = ["data", "compile", "train", "features", "classifier"]
        self._seconds = dict.fromkeys(parts, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time inside the `with` to the part."""
        start = time.monotonic()
        yield
        self._seconds[name] += time.monotonic() - start

    def read(self) -> dict[str, float]:
        """Seconds by part, and the total since the clock was made."""
        seconds = self._seconds | {"total": time.monotonic() - self._start}
        return {name: round(value, 2) for name, value in seconds.items()}


def run_experiment(
    config: ConfigDict | int | Sequence[int] | None = None,
    workdir: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    command: str = "run_experiment",
    stop: Callable[[], bool] = lambda: False,
) -> Results:
    """Trains a VAE on all training images and an SVM on the features of the labeled.

    The same call again continues a run that was stopped, and returns the numbers of a
    finished one without training. Further numbers of labels reuse the trained VAE.

    Args:
      config: A recipe; or one or several numbers of labels for the default recipe;
        None is the default recipe as it is.
      workdir: Where the run goes; by default
        checkpoints/<recipe>-<dataset>-seed<seed>.
      data_dir: Where the data lies, see `datasets.load`.
      command: How the run was started, for results.json.
      stop: Asked about once a second while training; True saves the state and stops.

    Returns:
      The content of results.json.

    Raises:
      InputError: for anything that the caller can mend; before any long work.
      Stopped: after `stop` said so.
      Diverged: when the loss is not finite.
    """
    clock = Clock()
    recipe = _resolve(config)
    if workdir is not None:
        Workdir(workdir).check()
    with clock.part("data"):
        data = _load_data(recipe, data_dir)
    run = Workdir(workdir or _default_workdir(recipe, data))
    run.check()
    run.claim(recipe.to_dict(), _describe(data))
    logger.info("workdir: %s", run.path)

    before = Results.load(run.results)
    missing = _missing_rows(recipe, before)
    if before and not missing:
        logger.info("this run is finished: its stored numbers follow")
        return before

    model = models.build(pixels=data.train_images[0].size, **recipe.model)
    images = _to_device(data.train_images), _to_device(data.test_images)
    params = _trained_params(recipe, model, images[0], run, clock, stop)
    with clock.part("features"):
        vae, features = _measure_vae(recipe, model, params, *images)
    with clock.part("classifier"):
        rows, classifier = _fit_classifiers(recipe, missing, data, *features, stop)
    if not before or missing[-1] >= before.results[-1].labels:
        svm.save_svm(classifier, run.classifier)
    report.save_pictures(run.path, model, params, data, features[1])
    results = Results(
        format_version=FORMAT_VERSION,
        recipe=recipe.recipe,
        model=recipe.model.name,
        seed=recipe.seed,
        dataset=_describe(data),
        vae=vae,
        results=_merge_rows(before, rows),
        seconds=clock.read(),
        device=f"{jax.default_backend()} x{jax.device_count()}",
        versions={name: metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        command=command,
    )
    results.save(run.results)
    return results


def _resolve(config: ConfigDict | int | Sequence[int] | None) -> ConfigDict:
    """A checked recipe from whatever the caller named it by."""
    if isinstance(config, ConfigDict):
        recipe = config
    else:
        recipe = recipes.load(recipes.recipe_path("m1"))
        if config is not None:
            recipe.labels = (config,) if isinstance(config, int) else tuple(config)
    recipes.validate(recipe)
    return recipe


def _load_data(config: ConfigDict, data_dir: str | Path | None) -> Dataset:
    """The recipe's images, after checking that its numbers fit them."""
    data = datasets.load(config.dataset, data_dir)
    if config.evaluate_on == "validation":
        data = data.holdout(VALIDATION_IMAGES)
    for num_labels in config.labels:
        check_num_labels(data.train_labels, num_labels)
    train.check_batch_size(config.train.batch_size, len(data.train_images))
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


def _default_workdir(config: ConfigDict, data: Dataset) -> Path:
    return Path("checkpoints") / f"{config.recipe}-{data.name}-seed{config.seed}"


def _describe(data: Dataset) -> dict[str, Any]:
    return {
        "name": data.name,
        "train": len(data.train_images),
        "test": len(data.test_images),
        "sha256": data.sha256,
    }


def _missing_rows(config: ConfigDict, before: Results | None) -> list[int]:
    """The numbers of labels asked for that the run has not measured on all splits."""

    def known(num_labels: int) -> bool:
        row = before.row(num_labels) if before else None
        return row is not None and len(row.split_seeds) == config.num_splits

    return sorted({n for n in config.labels if not known(n)})


def _merge_rows(before: Results | None, rows: list[Row]) -> list[Row]:
    """New rows take the place of old ones for the same number of labels."""
    by_labels = {r.labels: r for r in [*(before.results if before else []), *rows]}
    return [by_labels[n] for n in sorted(by_labels)]


def _to_device(images: np.ndarray) -> jax.Array:
    """uint8 images [N, H, W, C] -> float32 pixels in [0, 1], [N, H * W * C]."""
    return jnp.asarray(images.reshape(len(images), -1)).astype(jnp.float32) / 255


def _trained_params(
    config: ConfigDict,
    model: M1,
    images: jax.Array,
    run: Workdir,
    clock: Clock,
    stop: Callable[[], bool],
) -> Params:
    """The run's final weights: read, or trained on from its newest checkpoint."""
    key_init, key = jax.random.split(jax.random.key(config.seed))
    params = model.init(key_init)
    if run.weights.exists():
        return checkpoint.load_weights(run.weights, params)
    tx = optax.adam(config.train.learning_rate)
    with checkpoint.Checkpoints(run.steps) as checkpoints:
        fresh = train.init_state(params, tx)
        state = checkpoints.restore(fresh) or fresh
        run.trim_log(int(state.step))
        with clock.part("compile"):
            advance = train.compile_steps(
                state,
                images,
                key,
                batch_size=config.train.batch_size,
                loss_fn=model.loss,
                tx=tx,
                mesh=train.data_mesh(),
            )
        with clock.part("train"):
            state = _fit(config, advance, state, len(images), run, checkpoints, stop)
    checkpoint.save_weights(run.weights, state.params)
    return state.params


def _fit(
    config: ConfigDict,
    advance: train.Advance,
    first: train.TrainState,
    num_images: int,
    run: Workdir,
    checkpoints: checkpoint.Checkpoints,
    stop: Callable[[], bool],
) -> train.TrainState:
    """The state after the last epoch; logs, shows and saves on the way."""
    steps_per_epoch = num_images // config.train.batch_size
    num_steps = config.train.num_epochs * steps_per_epoch
    save_every = config.train.checkpoint_every * steps_per_epoch
    with Progress(
        sys.stderr,
        step=int(first.step),
        steps_per_epoch=steps_per_epoch,
        num_epochs=config.train.num_epochs,
    ) as progress:
        state = first
        for state, metrics in train.fit(advance, first, num_steps=num_steps):
            step = int(state.step)
            if not math.isfinite(metrics["loss"]):
                raise Diverged(
                    f"the loss is {metrics['loss']} at step {step}; try a smaller"
                    " --config.train.learning_rate in another --workdir"
                )
            run.log({"step": step} | metrics)
            progress.update(step, metrics)
            stopped = stop()
            if stopped or step % save_every == 0:
                checkpoints.save(step, state)
            if stopped and step < num_steps:
                raise Stopped(f"saved at step {step} of {num_steps}")
    return state


def _measure_vae(
    config: ConfigDict,
    model: M1,
    params: Params,
    train_images: jax.Array,
    test_images: jax.Array,
) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray]]:
    """Figures of the VAE for results.json, and the features of both sets of images."""
    features = partial(model.features, params)
    train_features, test_features = (
        np.asarray(evaluate.map_images(features, images))
        for images in (train_images, test_images)
    )
    # Not a key of training's: fold_in leaves those that `split` gave alone.
    key = jax.random.fold_in(jax.random.key(config.seed), 2)
    vae = {
        "latent_dim": config.model.latent_dim,
        "active_units": evaluate.active_units(test_features),
        "epochs": config.train.num_epochs,
        "steps": config.train.num_epochs
        * (len(train_images) // config.train.batch_size),
        "test_elbo": evaluate.mean_elbo(
            lambda x, key: model.elbo(params, x, key=key).elbo, test_images, key=key
        ),
    }
    return vae, (train_features, test_features)


def _fit_classifiers(
    config: ConfigDict,
    label_counts: list[int],
    data: Dataset,
    train_features: np.ndarray,
    test_features: np.ndarray,
    stop: Callable[[], bool],
) -> tuple[list[Row], Pipeline]:
    """A row per number of labels, and the classifier of the last one's first split."""
    split_seeds = list(range(config.num_splits))
    settings = {k: v for k, v in config.classifier.items() if k != "name"}
    rows = []
    for num_labels in label_counts:
        classifiers = []
        for split_seed in split_seeds:
            if stop():
                raise Stopped(f"in the classifiers for {num_labels} labels")
            labeled = choose_labeled(
                data.train_labels, num_labels, split_seed=split_seed
            )
            classifiers.append(
                svm.fit_svm(
                    train_features[labeled], data.train_labels[labeled], **settings
                )
            )
        accuracy = [c.score(test_features, data.test_labels) for c in classifiers]
        mean, std = evaluate.summarize(accuracy)
        rows.append(
            Row(
                labels=num_labels,
                classifier=config.classifier.name,
                protocol="inductive",
                split_seeds=split_seeds,
                test_accuracy=accuracy,
                test_accuracy_mean=mean,
                test_accuracy_std=std,
            )
        )
    return rows, classifiers[0]
