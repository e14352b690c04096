"""The M1 of a run: a VAE of all training images, which serves as feature extractor."""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssl_vae import config as recipes
from ssl_vae import evaluate
from ssl_vae.batches import Examples
from ssl_vae.job import Job, Keys
from ssl_vae.loop import Training, trained_params
from ssl_vae.models import M1, Params
from ssl_vae.workdir import Stage


def trained_m1(
    job: Job,
    stage: Stage,
    group: ConfigDict,
    settings: ConfigDict,
    keys: Keys,
    *,
    title: str = "training",
) -> tuple[M1, Params]:
    """The model and its weights: read, or trained on all training images.

    Args:
      job: What it is part of.
      stage: Its folder.
      group: The recipe's group that describes it.
      settings: The recipe's group that tells how it is trained.
      keys: Of the run.
      title: What the progress bar calls it.
    """
    model = M1(job.plan.data.image_shape, **recipes.model_fields(group))
    examples = [Examples(_views(model, job), jnp.arange(len(job.train_images)))]
    training = Training(
        stage, model, settings, examples, [settings.batch_size], keys, title
    )
    return model, trained_params(job, training)


def _views(model: M1, job: Job) -> jax.Array:
    """What the model's loss is given of all training images."""
    if not model.gradient_weight:
        return job.train_images

    def view(_: Any, images: jax.Array) -> jax.Array:
        return model.view(images)

    with job.clock.part("features"):
        return jnp.asarray(evaluate.map_images(view, {}, job.train_images))
