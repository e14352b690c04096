"""Which examples a step takes: shuffled passes over sets that lie on the device.

A run's key and a step's number alone decide, so a run that goes on after a stop meets
the batches that it would have met.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Examples(NamedTuple):
    """A set of examples: some rows of arrays that lie on the device."""

    arrays: Any  # an array [N, ...] or a tree of them; several runs share it
    rows: jax.Array  # int32 [n], which of the N belong to the set
    own: Any = None  # more arrays [N, ...], which each of several runs has for itself

    def take(self, rows: jax.Array) -> Any:
        """The examples at `rows`, [len(rows), ...]; if there are own: a pair."""
        taken = (self.arrays, self.own) if self.own is not None else self.arrays
        return jax.tree.map(lambda array: array[rows], taken)


def split_key(key: jax.Array, num_sets: int) -> tuple[list[jax.Array], jax.Array]:
    """The run's keys for each set's shuffles, and for the noise of the steps."""
    *key_sets, key_noise = jax.random.split(key, num_sets + 1)
    return key_sets, key_noise


def steps_per_epoch(examples: Sequence[Examples], batch_sizes: Sequence[int]) -> int:
    """Whole batches in the first set of examples."""
    return examples[0].rows.shape[-1] // batch_sizes[0]


def shuffled(
    rows: jax.Array, key: jax.Array, epoch: jax.Array, *, num_sets: int
) -> jax.Array:
    """The first set's rows, int32 [n], in the order of an epoch of the run `key`."""
    key_sets, _ = split_key(key, num_sets)
    return jax.random.permutation(jax.random.fold_in(key_sets[0], epoch), rows)


def rows_of_steps(
    examples: Sequence[Examples],
    key_sets: Sequence[jax.Array],
    first: jax.Array,
    *,
    num_steps: int,
    batch_sizes: Sequence[int],
) -> list[jax.Array]:
    """Which rows of every set the steps from `first` on take, within one epoch.

    Args:
      examples: A pass over the first set is an epoch, and its rows are in that epoch's
        order, see `shuffled`; the others are passed over at their own pace.
      key_sets: Keys of the sets' shuffles, see `split_key`.
      first: int32 scalar, a step.
      num_steps: Must not reach beyond the end of the epoch that `first` is in.
      batch_sizes: Examples a step of each set.

    Returns:
      For each set, int32 [num_steps, its batch size].
    """
    ordered, size = examples[0].rows, batch_sizes[0]
    position = first % (len(ordered) // size)
    part = jax.lax.dynamic_slice_in_dim(ordered, position * size, num_steps * size)
    rest = zip(examples[1:], key_sets[1:], batch_sizes[1:], strict=True)
    return [
        part.reshape(num_steps, size),
        *(
            _at_own_pace(each.rows, key, first, num_steps=num_steps, batch_size=size)
            for each, key, size in rest
        ),
    ]


def _at_own_pace(
    rows: jax.Array,
    key: jax.Array,
    first: jax.Array,
    *,
    num_steps: int,
    batch_size: int,
) -> jax.Array:
    """Passes over all rows, each shuffled anew, less what fills no batch."""
    steps_per_pass = len(rows) // batch_size
    first_pass, position = jnp.divmod(first, steps_per_pass)

    def one_pass(number: jax.Array) -> jax.Array:
        order = jax.random.permutation(jax.random.fold_in(key, number), rows)
        return order[: steps_per_pass * batch_size].reshape(-1, batch_size)

    num_passes = (num_steps + steps_per_pass - 2) // steps_per_pass + 1  # at most
    passes = jax.vmap(one_pass)(first_pass + jnp.arange(num_passes, dtype=first.dtype))
    batches = passes.reshape(-1, batch_size)
    return jax.lax.dynamic_slice_in_dim(batches, position, num_steps)
