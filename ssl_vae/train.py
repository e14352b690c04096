"""Training: one pure step, and a part of an epoch as `lax.scan`.

Knows no model: a loss is `loss_fn(params, *batch, key=key, step=step)`, which returns
(loss, metrics); it gives `params` to networks by `copies.apply` alone. A batch has a
part from every set of examples: all images, say, and the labeled ones. The step number
is the whole position of a run. It gives every set's shuffle and the key of the noise,
so a run that stops at any step and goes on repeats the same numbers.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ssl_vae import copies, devices, finite
from ssl_vae.batches import (
    Block,
    Examples,
    batches_of_steps,
    split_key,
)

Metrics = dict[str, Any]
LossFn = Callable[..., tuple[jax.Array, Metrics]]


class TrainState(NamedTuple):
    """All that training changes. With a leading axis on every array: several runs."""

    step: jax.Array  # int32 scalar: optimizer steps done
    params: Any
    opt_state: optax.OptState


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
    mesh: Mesh,
) -> tuple[TrainState, Metrics]:
    """One optimizer step, pure. The step's own key is folded from the run's `key`.

    The metrics have an entry "finite": see `finite.of_step`.
    """
    key = jax.random.fold_in(key, state.step)
    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    params = copies.for_mesh(state.params, mesh)
    (loss, metrics), grads = grad_fn(params, *batch, key=key, step=state.step)
    grads = copies.summed(grads)
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
        return train_step(state, batch, key_noise, loss_fn=loss_fn, tx=tx, mesh=mesh)

    state, metrics = jax.lax.scan(step, state, batches)
    found = finite.of_steps(metrics.pop("finite"), state)
    means = jax.tree.map(lambda metric: jnp.mean(metric, axis=0), metrics)
    return state, means | {"finite": found}


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
