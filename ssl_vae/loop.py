"""The loop around `train`: one training with its checkpoints, log and progress."""

import math
import sys
from collections.abc import Sequence

import jax
import optax
from ml_collections import ConfigDict

from ssl_vae import checkpoint, train
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
    examples: Sequence[train.Examples],
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
    steps_per_epoch = train.steps_per_epoch(examples, batch_sizes)
    num_steps = settings.num_epochs * steps_per_epoch
    tx = optimizer(settings, num_steps)

    def start(key: jax.Array) -> train.TrainState:
        return train.init_state(model.init(key), tx)

    start_all = jax.vmap(start) if keys.init.ndim else start
    fresh = jax.jit(start_all)(keys.init)
    if stage.weights.exists():
        return checkpoint.load_weights(stage.weights, fresh.params)
    stage.path.mkdir(parents=True, exist_ok=True)
    with checkpoint.Checkpoints(stage.steps) as checkpoints:
        first = checkpoints.restore(fresh) or fresh
        stage.trim_log(train.steps_done(first))
        with job.clock.part("compile"):
            advance = train.compile_steps(
                first,
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
            step=train.steps_done(first),
            steps_per_epoch=steps_per_epoch,
            num_epochs=settings.num_epochs,
        )
        save_every = settings.checkpoint_every * steps_per_epoch
        with job.clock.part("train"), progress:
            for state, metrics in train.fit(advance, first, num_steps=num_steps):
                step = train.steps_done(state)
                if not math.isfinite(metrics["loss"]):
                    raise Diverged(
                        f"the loss is {metrics['loss']} at step {step}; try a smaller"
                        " --config.train.learning_rate in another --workdir"
                    )
                stage.log({"step": step} | metrics)
                progress.update(step, metrics)
                stopped = job.stop()
                if stopped or step % save_every == 0:
                    checkpoints.save(step, state)
                if stopped and step < num_steps:
                    raise Stopped(f"saved at step {step} of {num_steps}")
    checkpoint.save_weights(stage.weights, state.params)
    return state.params


def duration(
    settings: ConfigDict, num_examples: int, batch_size: int
) -> dict[str, int]:
    """Epochs and optimizer steps of a training, for results.json."""
    epochs = settings.num_epochs
    return {"epochs": epochs, "steps": epochs * (num_examples // batch_size)}


def optimizer(settings: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """Adam with the recipe's learning rate, constant or falling to 0 along a cosine."""
    rate = settings.learning_rate
    if settings.schedule == "cosine":
        return optax.adam(optax.cosine_decay_schedule(rate, num_steps))
    return optax.adam(rate)
