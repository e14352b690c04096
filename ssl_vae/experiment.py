"""`run_experiment`: the one place where data, model, training and classifier meet."""

import math
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from sklearn.pipeline import Pipeline

from ssl_vae import checkpoint, evaluate, models, report, train
from ssl_vae.classifiers import svm
from ssl_vae.clock import Clock
from ssl_vae.labels import choose_labeled
from ssl_vae.models import M1
from ssl_vae.models.m1 import Params
from ssl_vae.plan import Plan, make_plan
from ssl_vae.progress import Progress
from ssl_vae.results import Results, Row
from ssl_vae.workdir import FORMAT_VERSION

PACKAGES = ["jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "scikit-learn"]


class Keys(NamedTuple):
    """The random keys of a run, all from its seed."""

    init: jax.Array
    train: jax.Array
    elbo: jax.Array


class Stopped(Exception):
    """The run was asked to stop; what it had is saved and the same call goes on."""


class Diverged(ArithmeticError):
    """Training met a loss that is not a finite number; the last good state is kept."""


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
      stop: Asked about once a second; True saves the state and stops.

    Returns:
      The content of results.json.

    Raises:
      InputError: for anything that the caller can mend; before any long work.
      Stopped: after `stop` said so.
      Diverged: when the loss is not finite.
    """
    clock = Clock()
    with clock.part("data"):
        plan = make_plan(config, workdir, data_dir)
    if plan.finished:
        return plan.finished
    return carry_out(plan, clock=clock, command=command, stop=stop)


def carry_out(
    plan: Plan, *, clock: Clock, command: str, stop: Callable[[], bool]
) -> Results:
    """What a plan leaves to be done, see `run_experiment`."""
    recipe, data, run = plan.recipe, plan.data, plan.workdir
    mesh = train.data_mesh()
    train.check_batch_size(recipe.train.batch_size, mesh)
    run.claim(recipe.to_dict(), plan.dataset)
    model = models.build(pixels=data.train_images[0].size, **recipe.model)
    images = _to_device(data.train_images), _to_device(data.test_images)

    keys = Keys(*jax.random.split(jax.random.key(recipe.seed), 3))
    params = _trained_params(plan, model, images[0], keys, mesh, clock, stop)
    with clock.part("features"):
        vae, features = _measure_vae(plan, model, params, *images, keys.elbo)
    with clock.part("classifier"):
        rows, classifier = _fit_classifiers(plan, *features, stop)
    before = plan.before.results if plan.before else []
    if not before or rows[-1].labels >= before[-1].labels:
        svm.save_svm(classifier, run.classifier)
    by_labels = {row.labels: row for row in [*before, *rows]}
    results = Results(
        format_version=FORMAT_VERSION,
        recipe=recipe.recipe,
        model=recipe.model.name,
        seed=recipe.seed,
        dataset=plan.dataset,
        vae=vae,
        results=[by_labels[n] for n in sorted(by_labels)],
        seconds=clock.read(plan.before.seconds if plan.before else {}),
        device=f"{jax.default_backend()} x{jax.device_count()}",
        versions={name: metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        command=command,
    )
    results.save(run.results)
    report.save_pictures(run.path, model, params, data, features[1])
    return results


def _to_device(images: np.ndarray) -> jax.Array:
    """uint8 images [N, H, W, C] -> float32 pixels in [0, 1], [N, H * W * C]."""
    return jnp.asarray(images.reshape(len(images), -1)).astype(jnp.float32) / 255


def _trained_params(
    plan: Plan,
    model: M1,
    images: jax.Array,
    keys: Keys,
    mesh: jax.sharding.Mesh,
    clock: Clock,
    stop: Callable[[], bool],
) -> Params:
    """The run's final weights: read, or trained on from its newest checkpoint."""
    params = model.init(keys.init)
    if plan.workdir.weights.exists():
        return checkpoint.load_weights(plan.workdir.weights, params)
    tx = optax.adam(plan.recipe.train.learning_rate)
    with checkpoint.Checkpoints(plan.workdir.steps) as checkpoints:
        fresh = train.init_state(params, tx)
        state = checkpoints.restore(fresh) or fresh
        plan.workdir.trim_log(int(state.step))
        with clock.part("compile"):
            advance = train.compile_steps(
                state,
                images,
                keys.train,
                batch_size=plan.recipe.train.batch_size,
                loss_fn=model.loss,
                tx=tx,
                mesh=mesh,
            )
        with clock.part("train"):
            state = _fit(plan, advance, state, checkpoints, stop)
    checkpoint.save_weights(plan.workdir.weights, state.params)
    return state.params


def _fit(
    plan: Plan,
    advance: train.Advance,
    first: train.TrainState,
    checkpoints: checkpoint.Checkpoints,
    stop: Callable[[], bool],
) -> train.TrainState:
    """The state after the last epoch; logs, shows and saves on the way."""
    state, num_steps = first, plan.num_steps
    save_every = plan.recipe.train.checkpoint_every * plan.steps_per_epoch
    with Progress(
        sys.stderr,
        step=int(first.step),
        steps_per_epoch=plan.steps_per_epoch,
        num_epochs=plan.recipe.train.num_epochs,
    ) as progress:
        for state, metrics in train.fit(advance, first, num_steps=num_steps):
            step = int(state.step)
            if not math.isfinite(metrics["loss"]):
                raise Diverged(
                    f"the loss is {metrics['loss']} at step {step}; try a smaller"
                    " --config.train.learning_rate in another --workdir"
                )
            plan.workdir.log({"step": step} | metrics)
            progress.update(step, metrics)
            stopped = stop()
            if stopped or step % save_every == 0:
                checkpoints.save(step, state)
            if stopped and step < num_steps:
                raise Stopped(f"saved at step {step} of {num_steps}")
    return state


def _measure_vae(
    plan: Plan,
    model: M1,
    params: Params,
    train_images: jax.Array,
    test_images: jax.Array,
    key_elbo: jax.Array,
) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray]]:
    """Figures of the VAE for results.json, and the features of both sets of images."""
    features = partial(model.features, params)
    train_features, test_features = (
        np.asarray(evaluate.map_images(features, images))
        for images in (train_images, test_images)
    )
    vae = {
        "latent_dim": model.latent_dim,
        "active_units": evaluate.active_units(test_features),
        "epochs": plan.recipe.train.num_epochs,
        "steps": plan.num_steps,
        "test_elbo": evaluate.mean_elbo(
            lambda x, key: model.elbo(params, x, key=key).elbo,
            test_images,
            key=key_elbo,
        ),
    }
    return vae, (train_features, test_features)


def _fit_classifiers(
    plan: Plan,
    train_features: np.ndarray,
    test_features: np.ndarray,
    stop: Callable[[], bool],
) -> tuple[list[Row], Pipeline]:
    """A row per missing number of labels, and the last one's classifier of split 0."""
    data, settings = plan.data, plan.recipe.classifier.to_dict()
    name = settings.pop("name")
    split_seeds = list(range(plan.recipe.num_splits))
    rows = []
    for num_labels in plan.missing:
        classifiers = []
        for split_seed in split_seeds:
            if stop():
                raise Stopped(f"in the classifiers for {num_labels} labels")
            rows_chosen = choose_labeled(
                data.train_labels, num_labels, split_seed=split_seed
            )
            labeled = train_features[rows_chosen], data.train_labels[rows_chosen]
            classifiers.append(svm.fit_svm(*labeled, **settings))
        accuracy = [c.score(test_features, data.test_labels) for c in classifiers]
        mean, std = evaluate.summarize(accuracy)
        rows.append(
            Row(
                labels=num_labels,
                classifier=name,
                protocol="inductive",
                split_seeds=split_seeds,
                test_accuracy=accuracy,
                test_accuracy_mean=mean,
                test_accuracy_std=std,
            )
        )
    return rows, classifiers[0]
