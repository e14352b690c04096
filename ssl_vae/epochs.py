"""Training a part of an epoch at a time: its compiled steps, and the loop over them."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from ssl_vae import devices, feed, finite
from ssl_vae.batches import Examples, Streamed, steps_per_epoch
from ssl_vae.errors import InputError
from ssl_vae.train import LossFn, Metrics, TrainState, for_each_run, train_steps

STEPS_PER_SCAN = 100  # a second or less: how often the log moves, a stop is heard
# All of a vector register, where there is AVX-512; LLVM by itself takes half. It saves
# 2 to 5 % of a step at batch 240 on a Zen 5; without AVX-512 no difference was seen.
CPU_OPTIONS: dict[str, Any] = {"xla_cpu_prefer_vector_width": 512}

Advance = Callable[[TrainState], tuple[TrainState, Metrics]]


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
    on_cpu = jax.default_backend() == "cpu"
    if several:
        function = for_each_run(function, one_by_one=on_cpu)
    return jax.jit(
        function, donate_argnums=0, compiler_options=CPU_OPTIONS if on_cpu else None
    )


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
