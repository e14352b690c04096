"""The loop around `train`: one training with its checkpoints, log and progress."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from ssl_vae import checkpoint, devices, epochs, processes, train
from ssl_vae.batches import Examples, Streamed, steps_per_epoch
from ssl_vae.errors import RunError, Stopped
from ssl_vae.finite import NotFinite
from ssl_vae.job import Job, Keys
from ssl_vae.models import Model, Params, Student
from ssl_vae.progress import Progress
from ssl_vae.stage import Stage


class Diverged(RunError):
    """Training met a number that is not finite; the last good state is kept."""


@dataclass(frozen=True)
class Training:
    """A training: of what, on what, for how long, and where it goes.

    Attributes:
      stage: Its folder.
      model: Gives `init` and `loss`.
      settings: The recipe's group `train`.
      examples: Sets of training examples, see `epochs.compile_steps`.
      batch_sizes: Examples a step of each set.
      keys: Of one run; or with a leading axis, as `examples` then have, of several.
      title: What the progress bar calls it.
      steps_per_scan: How often the log moves and a stop is heard.
    """

    stage: Stage
    model: Model | Student
    settings: ConfigDict
    examples: Sequence[Examples | Streamed]
    batch_sizes: Sequence[int]
    keys: Keys
    title: str = "training"
    steps_per_scan: int = epochs.STEPS_PER_SCAN

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of a pass over the first set of examples."""
        return steps_per_epoch(self.examples, self.batch_sizes)

    @property
    def num_steps(self) -> int:
        """Optimizer steps in all."""
        return int(self.settings.num_epochs * self.steps_per_epoch)

    @property
    def tx(self) -> optax.GradientTransformation:
        """Adam, its learning rate constant or falling to 0 along a cosine."""
        cosine = self.settings.schedule == "cosine"
        return train.adam(
            self.settings.learning_rate, decay_steps=self.num_steps if cosine else None
        )

    def initial_params(self) -> Params:
        """Fresh parameters, with a leading axis if there are several runs."""
        several = self.keys.init.ndim
        init = jax.vmap(self.model.init) if several else self.model.init
        return jax.jit(init)(self.keys.init)

    def first_state(self, params: Params) -> train.TrainState:
        """The state before the first step."""
        start = partial(train.init_state, tx=self.tx)
        return jax.vmap(start)(params) if self.keys.init.ndim else start(params)

    def compiled(self, state: train.TrainState, job: Job) -> epochs.Advance:
        """What takes a state one part of an epoch further."""
        with job.clock.part("compile"):
            return epochs.compile_steps(
                state,
                self.examples,
                self.keys.train,
                batch_sizes=self.batch_sizes,
                loss_fn=self.model.loss,
                tx=self.tx,
                mesh=job.mesh,
                steps_per_scan=self.steps_per_scan,
            )


def trained_params(job: Job, training: Training) -> Params:
    """The weights that a training ends with: read, or trained on from its newest state.

    Args:
      job: What it is part of; its `stop` is asked after every part of an epoch.
      training: What is to be done.

    Returns:
      Parameters, with a leading axis if there are several runs; on one device.

    Raises:
      Stopped: after `job.stop` said so.
      Diverged: when a number is not finite.
      RunError: when a state or the weights cannot be written, or are damaged.
    """
    job.team.go()
    stage, params = training.stage, training.initial_params()
    if stage.weights.exists():
        return checkpoint.load_weights(stage.weights, params)
    fresh = devices.replicate(job.mesh, training.first_state(params))
    saved = checkpoint.Checkpoints(stage.steps)
    with saved as checkpoints, processes.ended_with_others():
        state = checkpoints.restore(fresh) or fresh
        if job.team.leads:
            stage.trim_log(epochs.steps_done(state))
            job.follow(stage)
        if epochs.steps_done(state) < training.num_steps:
            state = _fit(job, training, state, checkpoints)
    checkpoint.save_weights(stage.weights, state.params)
    return devices.own_copy(state.params)


def _fit(
    job: Job,
    training: Training,
    first: train.TrainState,
    checkpoints: checkpoint.Checkpoints,
) -> train.TrainState:
    """The state after the last step; logs, shows and saves on the way."""
    num_steps = training.num_steps
    save_every = training.settings.checkpoint_every * training.steps_per_epoch
    state, advance = first, training.compiled(first, job)
    progress = Progress(
        sys.stderr,
        training.title,
        step=epochs.steps_done(first),
        steps_per_epoch=training.steps_per_epoch,
        num_epochs=training.settings.num_epochs,
    )
    with job.clock.part("train"), progress, _diverging(training):
        for state, metrics in epochs.fit(advance, first, num_steps=num_steps):
            step = epochs.steps_done(state)
            parts = {name: metric.tolist() for name, metric in metrics.items()}
            if job.team.leads:
                training.stage.log({"step": step} | parts)
                job.follow(training.stage)
                progress.update(step, float(np.mean(metrics["loss"])))
            stopped = job.team.any(job.stop())
            if stopped or step % save_every == 0:
                checkpoints.save(step, state)
            if stopped and step < num_steps:
                raise Stopped(f"saved at step {step} of {num_steps}")
    return state


@contextmanager
def _diverging(training: Training) -> Iterator[None]:
    """Tells the user what a number that is not finite means, and what to do."""
    try:
        yield
    except NotFinite as fault:
        raise Diverged(
            f"{training.title}: {fault}; most likely its learning_rate,"
            f" {training.settings.learning_rate:g}, is too large: try a smaller one in"
            " another --workdir"
        ) from fault
