"""Training: one pure step, an epoch as `lax.scan`, and the loop over epochs.

Knows no model: a loss is `loss_fn(params, *batch, key=key, step=step)`, which returns
(loss, metrics). A batch has a part from every set of examples: all images, say, and the
labeled ones. The step number is the whole position of a run. It gives every set's
shuffle and the key of the noise, so a run that stops at any step and goes on repeats
the same numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from ssl_vae import devices, feed, finite
from ssl_vae.batches import (
    Block,
    Examples,
    Streamed,
    batches_of_steps,
    split_key,
    steps_per_epoch,
)
from ssl_vae.errors import InputError

Metrics = dict[str, Any]
LossFn = Callable[..., tuple[jax.Array, Metrics]]

STEPS_PER_SCAN = 100  # about a second: how often the log moves and a stop is heard


class TrainState(NamedTuple):
    """All that training changes. With a leading axis on every array: several runs."""

    step: jax.Array  # int32 scalar: optimizer steps done
    params: Any
    opt_state: optax.OptState


Advance = Callable[[TrainState], tuple[TrainState, Metrics]]


@lru_cache(maxsize=32)  # one object for one rule: `compile_steps` shares by identity
def adam(
    learning_rate: float, *, decay_steps: int | None
) -> optax.GradientTransformation:
    """Adam; with `decay_steps` its learning rate falls to 0 along a cosine."""
    if decay_steps is None:
        return optax.adam(learning_rate)
    return optax.adam(optax.cosine_decay_schedule(learning_rate, decay_steps))


def init_state(params: Any, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.zeros([], jnp.int32), params, tx.init(params))


def train_step(
    state: TrainState,
    batch: Sequence[Any],
    key: jax.Array,
    *,
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
) -> tuple[TrainState, Metrics]:
    """One optimizer step, pure. The step's own key is folded from the run's `key`.

    The metrics have an entry "finite": see `finite.of_step`.
    """
    key = jax.random.fold_in(key, state.step)
    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, metrics), grads = grad_fn(state.params, *batch, key=key, step=state.step)
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integers
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = metrics | {"finite": finite.of_step(loss, grads)}
    return TrainState(state.step + 1, params, opt_state), metrics


def train_steps(
    state: TrainState,
    examples: Sequence[Examples | Block],
    key: jax.Array,
    *,
    num_steps: int,
    batch_sizes: Sequence[int],
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    mesh: Mesh,
) -> tuple[TrainState, Metrics]:
    """`num_steps` steps within one epoch, as one `lax.scan` on the device.

    Args:
      state: Where to begin.
      examples: Sets that every batch has a part from, see `batches.batches_of_steps`.
      key: The run's key; split into one for each set's shuffles and one for noise.
      num_steps: Must not reach beyond the end of the epoch that `state.step` is in.
      batch_sizes: Examples a step of each set, multiples of the mesh's devices.
      loss_fn: `loss_fn(params, *batch, key=key, step=step) -> (loss, metrics)`.
      tx: The optax transformation.
      mesh: One axis, "data".

    Returns:
      The state after the last step, and the metrics averaged over the steps, but for
      the entry "finite", which is a `finite.Finite`.
    """
    key_sets, key_noise = split_key(key, len(examples))
    first, *rest = examples
    batches = batches_of_steps(
        first,
        cast(list[Examples], rest),
        key_sets,
        state.step,
        num_steps=num_steps,
        batch_sizes=batch_sizes,
    )

    def step(state: TrainState, batch: Sequence[Any]) -> tuple[TrainState, Metrics]:
        batch = jax.lax.with_sharding_constraint(batch, devices.split(mesh))
        batch = [each.take(mine) for each, mine in zip(examples, batch, strict=True)]
        return train_step(state, batch, key_noise, loss_fn=loss_fn, tx=tx)

    state, metrics = jax.lax.scan(step, state, batches)
    found = finite.of_steps(metrics.pop("finite"), state)
    means = jax.tree.map(lambda metric: jnp.mean(metric, axis=0), metrics)
    return state, means | {"finite": found}


def check_batch_sizes(
    batch_sizes: Sequence[int], mesh: Mesh, *, group: str = "train"
) -> None:
    """Refuses batches that the devices cannot share evenly.

    Args:
      batch_sizes: Images a step of each set, the second of labeled ones.
      mesh: The devices.
      group: Of the recipe, which the sizes are from.

    Raises:
      InputError: with all numbers.
    """
    if not any(size % mesh.size for size in batch_sizes):
        return
    first, *labeled = batch_sizes
    parts, remedy = f"{first} images", "choose a multiple"
    if labeled:
        parts += f" and {labeled[0]} labeled ones"
        remedy = "choose it and labeled_batch_size so that both are multiples"
    raise InputError(
        f"--config.{group}.batch_size: {parts} a step cannot be shared evenly by"
        f" {mesh.size} devices; {remedy}"
    )


def compile_steps(
    state: TrainState,
    examples: Sequence[Examples | Streamed],
    key: jax.Array,
    *,
    batch_sizes: Sequence[int],
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    mesh: Mesh,
    steps_per_scan: int = STEPS_PER_SCAN,
) -> Advance:
    """The compiled function that takes a state one part of an epoch further.

    An epoch takes every example of the first set once, less the remainder that does not
    fill a batch; the shuffle is new each time. Its parts are `steps_per_scan` steps
    long, but for a shorter last one.

    Several runs are trained by one call when every array of the state, the keys and the
    rows of the examples have a leading axis: one after the other on a CPU, whose cores
    one run keeps busy, and at once with `vmap` on an accelerator.

    Args:
      state: Any state of the run, or of several; gives shapes only.
      examples: Sets of training examples, see `train_steps`.
      key: The run's key, or one for each run.
      batch_sizes: Examples a step of each set, see `check_batch_sizes`.
      loss_fn: `loss_fn(params, *batch, key=key, step=step) -> (loss, metrics)`.
      tx: The optax transformation.
      mesh: One axis, "data".
      steps_per_scan: Steps between two returns to Python.

    Returns:
      `advance(state) -> (state, metrics)`; the state it is given is consumed.
    """
    first, *rest = examples
    num_epoch = steps_per_epoch(examples, batch_sizes)
    whole = min(steps_per_scan, num_epoch)
    if isinstance(first, Streamed):
        at = feed.streamed(
            first,
            key,
            batch_size=batch_sizes[0],
            num_epoch=num_epoch,
            num_part=whole,
            num_sets=len(examples),
            mesh=mesh,
        )
    else:
        at = feed.resident(
            devices.replicate(mesh, first),
            key,
            num_epoch=num_epoch,
            num_sets=len(examples),
            mesh=mesh,
        )
    state, others, on_all = devices.replicate(mesh, (state, tuple(rest), key))
    steps = partial(
        _jitted_steps,
        tuple(batch_sizes),
        loss_fn,
        tx,
        mesh,
        several=state.step.ndim > 0,
    )

    def compiled(begin: int, num_steps: int) -> Any:
        traced = steps(num_steps=num_steps).lower(state, (at(begin), *others), on_all)
        return traced.compile()

    last = num_epoch - num_epoch % whole
    by_length = {whole: compiled(0, whole)}
    if last < num_epoch:
        by_length[num_epoch - last] = compiled(last, num_epoch - last)

    def advance(state: TrainState) -> tuple[TrainState, Metrics]:
        step = steps_done(state)
        steps = by_length[min(whole, num_epoch - step % num_epoch)]
        return steps(devices.replicate(mesh, state), (at(step), *others), on_all)

    return advance


@lru_cache(maxsize=32)  # the same training of other data is not compiled again
def _jitted_steps(
    batch_sizes: tuple[int, ...],
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    mesh: Mesh,
    *,
    several: bool,
    num_steps: int,
) -> Any:
    """`train_steps`, or `for_each_run` of it, under `jax.jit`."""
    function: Callable[..., Any] = partial(
        train_steps,
        num_steps=num_steps,
        batch_sizes=batch_sizes,
        loss_fn=loss_fn,
        tx=tx,
        mesh=mesh,
    )
    if several:
        one_by_one = jax.default_backend() == "cpu"
        function = for_each_run(function, one_by_one=one_by_one)
    return jax.jit(function, donate_argnums=0)


def for_each_run(steps: Callable[..., Any], *, one_by_one: bool) -> Callable[..., Any]:
    """`train_steps` of runs with a leading axis on all but the arrays they share.

    Args:
      steps: `train_steps` with everything set but state, examples and key.
      one_by_one: `lax.map` over the runs, or else `vmap`. The numbers are the same.
    """

    def several(
        state: TrainState, examples: Sequence[Examples | Block], key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        each = [e if isinstance(e, Block) else (e.rows, e.own) for e in examples]

        def one(run: Any) -> Any:
            state, each, key = run
            mine = [
                own if isinstance(own, Block) else Examples(all_runs.arrays, *own)
                for all_runs, own in zip(examples, each, strict=True)
            ]
            return steps(state, mine, key)

        runs = state, each, key
        return jax.lax.map(one, runs) if one_by_one else jax.vmap(one)(runs)

    return several


def steps_done(state: TrainState) -> int:
    """Optimizer steps of the run; several runs are always at the same step."""
    return int(np.ravel(state.step)[0])


def fit(
    advance: Advance, state: TrainState, *, num_steps: int
) -> Iterator[tuple[TrainState, dict[str, np.ndarray]]]:
    """Trains from `state` to `num_steps` steps in all, part of an epoch at a time.

    Args:
      advance: From `compile_steps`.
      state: Where to begin: a fresh state or one from a checkpoint. Consumed.
      num_steps: A multiple of the steps of an epoch.

    Yields:
      The state, which the next part consumes, and the part's mean metrics, float32:
      scalars, or one a run if there are several.

    Raises:
      finite.NotFinite: after the part with the first one, which is not yielded.
    """
    while (before := steps_done(state)) < num_steps:
        state, metrics = advance(state)
        metrics = jax.device_get(metrics)
        done = range(before, steps_done(state))
        finite.check(metrics.pop("finite"), state, state.params, done)
        for name, metric in metrics.items():
            if not np.isfinite(metric).all():
                raise finite.NotFinite(
                    f"{name} is not finite by step {steps_done(state)}"
                )
        yield state, metrics
