"""Training: one pure step, an epoch as `lax.scan`, and the loop over epochs.

Knows no model: a loss is `loss_fn(params, batch, key=key) -> (loss, metrics)`. The step
number is the whole position of a run. It gives the shuffle of its epoch and the key of
its noise, so a run that stops at any step and goes on repeats the same numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ssl_vae.errors import InputError

Metrics = dict[str, jax.Array]
LossFn = Callable[..., tuple[jax.Array, Metrics]]

STEPS_PER_SCAN = 100  # about a second: how often the log moves and a stop is heard


class TrainState(NamedTuple):
    """All that training changes."""

    step: jax.Array  # int32 scalar: optimizer steps done
    params: Any
    opt_state: optax.OptState


Advance = Callable[[TrainState], tuple[TrainState, Metrics]]


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Devices (default: all) on one axis, "data": batches are split, weights copied."""
    devices = devices or jax.devices()
    # Auto: the compiler propagates shardings, which linen's layers rely on.
    return jax.make_mesh(
        (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices
    )


def replicate(mesh: Mesh, tree: Any) -> Any:
    """The arrays of `tree`, whole on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def init_state(params: Any, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.zeros([], jnp.int32), params, tx.init(params))


def train_step(
    state: TrainState,
    batch: jax.Array,
    key: jax.Array,
    *,
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
) -> tuple[TrainState, Metrics]:
    """One optimizer step, pure. The step's own key is folded from the run's `key`."""
    key = jax.random.fold_in(key, state.step)
    grad_fn = jax.grad(loss_fn, has_aux=True)
    grads, metrics = grad_fn(state.params, batch, key=key)
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integers
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), metrics


def train_steps(
    state: TrainState,
    images: jax.Array,
    key: jax.Array,
    *,
    num_steps: int,
    batch_size: int,
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    mesh: Mesh,
) -> tuple[TrainState, Metrics]:
    """`num_steps` steps within one epoch, as one `lax.scan` on the device.

    Args:
      state: Where to begin.
      images: All training images, [N, ...], resident on every device.
      key: The run's key. Shuffles use one half of it, the steps' noise the other.
      num_steps: Must not reach beyond the end of the epoch that `state.step` is in.
      batch_size: Images a step, a multiple of the mesh's devices.
      loss_fn: `loss_fn(params, batch, key=key) -> (loss, metrics)`.
      tx: The optax transformation.
      mesh: One axis, "data".

    Returns:
      The state after the last step, and the metrics averaged over the steps.
    """
    key_shuffle, key_noise = jax.random.split(key)
    epoch, first = jnp.divmod(state.step, len(images) // batch_size)
    order = jax.random.permutation(jax.random.fold_in(key_shuffle, epoch), len(images))
    rows = jax.lax.dynamic_slice(
        order, (first * batch_size,), (num_steps * batch_size,)
    )
    split = NamedSharding(mesh, PartitionSpec("data"))

    def step(state: TrainState, rows: jax.Array) -> tuple[TrainState, Metrics]:
        batch = images[jax.lax.with_sharding_constraint(rows, split)]
        return train_step(state, batch, key_noise, loss_fn=loss_fn, tx=tx)

    state, metrics = jax.lax.scan(step, state, rows.reshape(num_steps, batch_size))
    return state, jax.tree.map(lambda metric: jnp.mean(metric, axis=0), metrics)


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Refuses a batch that the devices cannot share evenly.

    Raises:
      InputError: with both numbers.
    """
    if batch_size % mesh.size:
        raise InputError(
            f"--config.train.batch_size={batch_size}: must be a multiple of the"
            f" {mesh.size} devices"
        )


def compile_steps(
    state: TrainState,
    images: jax.Array,
    key: jax.Array,
    *,
    batch_size: int,
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    mesh: Mesh,
    steps_per_scan: int = STEPS_PER_SCAN,
) -> Advance:
    """The compiled function that takes a state one part of an epoch further.

    An epoch takes every image once, less the remainder that does not fill a batch; the
    shuffle is new each time. Its parts are `steps_per_scan` steps long, but for a
    shorter last one.

    Args:
      state: Any state of the run; gives shapes only.
      images: Training images, float32 [N, ...].
      key: The run's key.
      batch_size: Images a step, see `check_batch_size`.
      loss_fn: `loss_fn(params, batch, key=key) -> (loss, metrics)`.
      tx: The optax transformation.
      mesh: One axis, "data".
      steps_per_scan: Steps between two returns to Python.

    Returns:
      `advance(state) -> (state, metrics)`; the state it is given is consumed.
    """
    state, images, key = replicate(mesh, (state, images, key))
    steps_per_epoch = len(images) // batch_size
    whole = min(steps_per_scan, steps_per_epoch)
    steps = partial(
        train_steps, batch_size=batch_size, loss_fn=loss_fn, tx=tx, mesh=mesh
    )
    compiled = {
        num_steps: jax.jit(partial(steps, num_steps=num_steps), donate_argnums=0)
        .lower(state, images, key)
        .compile()
        for num_steps in {whole, steps_per_epoch % whole} - {0}
    }

    def advance(state: TrainState) -> tuple[TrainState, Metrics]:
        left = steps_per_epoch - int(state.step) % steps_per_epoch
        return compiled[min(whole, left)](replicate(mesh, state), images, key)

    return advance


def fit(
    advance: Advance, state: TrainState, *, num_steps: int
) -> Iterator[tuple[TrainState, dict[str, float]]]:
    """Trains from `state` to `num_steps` steps in all, part of an epoch at a time.

    Args:
      advance: From `compile_steps`.
      state: Where to begin: a fresh state or one from a checkpoint. Consumed.
      num_steps: A multiple of the steps of an epoch.

    Yields:
      The state, which the next part consumes, and the part's mean metrics.
    """
    while int(state.step) < num_steps:
        state, metrics = advance(state)
        yield state, {name: float(value) for name, value in metrics.items()}
