"""The loop around `train`: one training with its checkpoints, log and progress."""

import sys
from collections.abc import Sequence
from functools import partial

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from ssl_vae import checkpoint, train
from ssl_vae.batches import Examples, steps_per_epoch
from ssl_vae.job import Job, Keys, Stopped
from ssl_vae.models import Model, Params
from ssl_vae.progress import Progress
from ssl_vae.workdir import Stage


class Diverged(ArithmeticError):
    """Training met a loss that is not a finite number; the last good state is kept."""


def trained_params(
    job: Job,
    stage: Stage,
    model: Model,
    settings: ConfigDict,
    examples: Sequence[Examples],
    batch_sizes: Sequence[int],
    keys: Keys,
    *,
    title: str = "training",
    steps_per_scan: int = train.STEPS_PER_SCAN,
) -> Params:
    """The weights that a training ends with: read, or trained on from its newest state.

    Args:
      job: What it is part of.
      stage: Its folder.
      model: Gives `init` and `loss`.
      settings: The recipe's group `train`.
      examples: Sets of training examples, see `train.compile_steps`.
      batch_sizes: Examples a step of each set.
      keys: Of one run; or with a leading axis, as `examples` then have, of several.
      title: What the progress bar calls it.
      steps_per_scan: How often the log moves and `job.stop` is asked.

    Returns:
      Parameters, with a leading axis if there are several runs.

    Raises:
      Stopped: after `job.stop` said so.
      Diverged: when the loss is not finite.
    """
    init = jax.vmap(model.init) if keys.init.ndim else model.init
    params = jax.jit(init)(keys.init)
    if stage.weights.exists():
        return checkpoint.load_weights(stage.weights, params)
    per_epoch = steps_per_epoch(examples, batch_sizes)
    num_steps = settings.num_epochs * per_epoch
    tx = optimizer(settings, num_steps)
    start = partial(train.init_state, tx=tx)
    fresh = jax.vmap(start)(params) if keys.init.ndim else start(params)
    stage.path.mkdir(parents=True, exist_ok=True)
    with checkpoint.Checkpoints(stage.steps) as checkpoints:
        state = checkpoints.restore(fresh) or fresh
        stage.trim_log(train.steps_done(state))
        if train.steps_done(state) < num_steps:
            with job.clock.part("compile"):
                advance = train.compile_steps(
                    state,
                    examples,
                    keys.train,
                    batch_sizes=batch_sizes,
                    loss_fn=model.loss,
                    tx=tx,
                    mesh=job.mesh,
                    steps_per_scan=steps_per_scan,
                )
            progress = Progress(
                sys.stderr,
                title,
                step=train.steps_done(state),
                steps_per_epoch=per_epoch,
                num_epochs=settings.num_epochs,
            )
            save_every = settings.checkpoint_every * per_epoch
            with job.clock.part("train"), progress:
                state = _fit(
                    job,
                    stage,
                    advance,
                    state,
                    checkpoints,
                    progress,
                    num_steps,
                    save_every,
                )
    checkpoint.save_weights(stage.weights, state.params)
    return state.params


def _fit(
    job: Job,
    stage: Stage,
    advance: train.Advance,
    first: train.TrainState,
    checkpoints: checkpoint.Checkpoints,
    progress: Progress,
    num_steps: int,
    save_every: int,
) -> train.TrainState:
    """The state after the last step; logs, shows and saves on the way."""
    state = first
    for state, metrics in train.fit(advance, first, num_steps=num_steps):
        step = train.steps_done(state)
        if not np.isfinite(metrics["loss"]).all():
            raise Diverged(
                f"the loss is {metrics['loss']} at step {step} of {progress.title}; try"
                " a smaller learning_rate for it in another --workdir"
            )
        stage.log({"step": step} | {name: m.tolist() for name, m in metrics.items()})
        progress.update(step, float(np.mean(metrics["loss"])))
        stopped = job.stop()
        if stopped or step % save_every == 0:
            checkpoints.save(step, state)
        if stopped and step < num_steps:
            raise Stopped(f"saved at step {step} of {num_steps}")
    return state


def optimizer(settings: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """Adam with the recipe's learning rate, constant or falling to 0 along a cosine."""
    rate = settings.learning_rate
    if settings.schedule == "cosine":
        return optax.adam(optax.cosine_decay_schedule(rate, num_steps))
    return optax.adam(rate)
