"""The M1 of a run: a VAE of all training images, which serves as feature extractor."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ssl_vae import config as recipes
from ssl_vae import evaluate
from ssl_vae.batches import Examples
from ssl_vae.classifiers.calibrated import CalibratedSVM
from ssl_vae.job import Job, Keys
from ssl_vae.loop import Training, trained_params
from ssl_vae.models import M1, Params
from ssl_vae.workdir import Stage


class Extracted(NamedTuple):
    """A trained M1 with what it makes of a run's images."""

    model: M1
    params: Params
    vae: dict[str, Any]  # its figures, for results.json
    train_features: np.ndarray  # float32 [N, latent]
    test_features: np.ndarray  # float32 [M, latent]


def extract(job: Job, keys: Keys) -> Extracted:
    """Trains the run's own M1, or reads it, and takes features of all images."""
    plan, recipe = job.plan, job.plan.recipe
    model, params = trained_m1(
        job, plan.workdir.stage(), recipe.model, recipe.train, keys
    )
    with job.clock.part("features"):
        vae, test_features = evaluate.vae_figures(
            model,
            params,
            job.test_images,
            key=keys.rest,
            num_samples=recipe.importance_samples,
        )
        epochs = recipe.train.num_epochs
        vae |= {"epochs": epochs, "steps": epochs * plan.steps_per_epoch(0)}
        train_features = evaluate.map_images(model.features, params, job.train_images)
    return Extracted(model, params, vae, np.asarray(train_features), test_features)


def fitted_svm(job: Job, extracted: Extracted, labeled: np.ndarray) -> CalibratedSVM:
    """The recipe's SVM for a choice of labeled training images, int [n]."""
    settings = job.plan.recipe.classifier.to_dict()
    del settings["name"]
    labels = job.plan.data.train_labels[labeled]
    return CalibratedSVM.fitted(extracted.train_features[labeled], labels, **settings)


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
