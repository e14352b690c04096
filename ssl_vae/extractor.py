"""The M1 of a run: a VAE of all training images, which serves as feature extractor."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ssl_vae import config as recipes
from ssl_vae import evaluate
from ssl_vae.epochs import STEPS_PER_SCAN
from ssl_vae.job import Job, Keys
from ssl_vae.loop import Training, trained_params
from ssl_vae.models import M1, Params
from ssl_vae.stage import Stage


class Extracted(NamedTuple):
    """A trained M1 with what it makes of a run's images."""

    model: M1
    params: Params
    vae: dict[str, Any]  # its figures, for results.json
    train_features: np.ndarray  # float32 [N, latent]
    test_features: np.ndarray  # float32 [M, latent]


def extract(job: Job, keys: Keys) -> Iterator[Extracted]:
    """Trains the run's own M1, or reads it, and takes features of all images.

    Args:
      job: What it is part of.
      keys: Of the M1, or with a leading axis of several, trained side by side.

    Yields:
      One for each M1; none in a process that follows another, which has all further
      use of them.
    """
    stage, recipe = job.plan.workdir.stage(), job.plan.recipe
    model, params = trained_m1(job, stage, recipe.model, recipe.train, keys)
    if not job.team.leads:
        return
    if not keys.init.ndim:
        yield _extracted(job, model, params, keys.rest)
        return
    for i, key in enumerate(keys.rest):
        mine: Params = jax.tree.map(lambda array, i=i: array[i], params)
        yield _extracted(job, model, mine, key)


def _extracted(job: Job, model: M1, params: Params, key: jax.Array) -> Extracted:
    """What a trained M1 makes of a run's images."""
    plan, recipe = job.plan, job.plan.recipe
    with job.clock.part("features"):
        vae, test_features = evaluate.vae_figures(
            model,
            params,
            job.test_images,
            key=key,
            num_samples=recipe.importance_samples,
        )
        epochs = recipe.train.num_epochs
        vae |= {"epochs": epochs, "steps": epochs * plan.steps_per_epoch(0)}
        train_features = job.train_images.map(model.features, params)
    return Extracted(model, params, vae, np.asarray(train_features), test_features)


def trained_m1(
    job: Job,
    stage: Stage,
    group: ConfigDict,
    settings: ConfigDict,
    keys: Keys,
    *,
    title: str = "training",
) -> tuple[M1, Params]:
    """The model and its weights: read, or taken, or trained on all training images.

    Args:
      job: What it is part of.
      stage: Its folder.
      group: The recipe's group that describes it.
      settings: The recipe's group that tells how it is trained.
      keys: Of the run, or with a leading axis of several.
      title: What the progress bar calls it.

    Returns:
      The model, and weights with a leading axis if there are several runs.
    """
    if job.plan.given_m1 and job.team.leads:
        job.plan.given_m1.copy_m1_to(stage)
    rows = np.arange(len(job.plan.data.train_images))
    num_steps = settings.num_epochs * (len(rows) // settings.batch_size)
    model = M1(
        job.plan.data.image_shape,
        warmup_steps=round(settings.get("kl_warmup", 0.0) * num_steps),
        **recipes.model_fields(group),
    )
    images = job.train_images
    if model.gradient_weight and not stage.weights.exists():
        with job.clock.part("features"):
            images = images.seen_as(model.view)
    examples = [images.examples(np.tile(rows, (*keys.init.shape, 1)))]
    training = Training(
        stage,
        model,
        settings,
        examples,
        [settings.batch_size],
        keys,
        title,
        steps_per_scan=max(10, STEPS_PER_SCAN // keys.init.size),
    )
    return model, trained_params(job, training)
