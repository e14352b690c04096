"""Which examples a step takes: shuffled passes over sets of them.

A run's key and a step's number alone decide, so a run that goes on after a stop meets
the batches that it would have met, wherever the examples are kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Examples(NamedTuple):
    """A set of examples: some rows of arrays that lie on the device."""

    arrays: Any  # an array [N, ...] or a tree of them; several runs share it
    rows: jax.Array  # int32 [n], which of the N belong to the set
    own: Any = None  # more arrays [N, ...], which each of several runs has for itself

    def take(self, rows: jax.Array) -> Any:
        """The examples at `rows`, [len(rows), ...]; if there are own: a pair."""
        taken = (self.arrays, self.own) if self.own is not None else self.arrays
        return jax.tree.map(lambda array: array[rows], taken)


class Streamed(NamedTuple):
    """A set of examples that is kept off the device and goes there part by part."""

    read: Callable[[np.ndarray], Any]  # of rows int [...] -> NumPy arrays [..., ...]
    rows: np.ndarray  # int32 [n], or [runs, n]: which examples belong to the set
    prepare: Callable[[Any], Any]  # on the device, of a batch of what was read


@partial(
    jax.tree_util.register_dataclass, data_fields=["arrays"], meta_fields=["prepare"]
)
@dataclass(frozen=True)
class Block:
    """The examples of one part of an epoch, batch by batch.

    Attributes:
      arrays: [num_steps, batch_size, ...] each.
      prepare: See `Streamed`.
    """

    arrays: Any
    prepare: Callable[[Any], Any]

    def take(self, batch: Any) -> Any:
        """The examples of a step, [batch_size, ...]."""
        return self.prepare(batch)


def split_key(key: jax.Array, num_sets: int) -> tuple[list[jax.Array], jax.Array]:
    """The run's keys for each set's shuffles, and for the noise of the steps."""
    *key_sets, key_noise = jax.random.split(key, num_sets + 1)
    return key_sets, key_noise


def steps_per_epoch(
    examples: Sequence[Examples | Streamed], batch_sizes: Sequence[int]
) -> int:
    """Whole batches in the first set of examples."""
    return examples[0].rows.shape[-1] // batch_sizes[0]


def shuffled(
    rows: jax.Array, key: jax.Array, epoch: jax.Array, *, num_sets: int
) -> jax.Array:
    """The first set's rows, int32 [n], in the order of an epoch of the run `key`."""
    key_sets, _ = split_key(key, num_sets)
    return jax.random.permutation(jax.random.fold_in(key_sets[0], epoch), rows)


def batches_of_steps(
    first: Examples | Block,
    rest: Sequence[Examples],
    key_sets: Sequence[jax.Array],
    step: jax.Array,
    *,
    num_steps: int,
    batch_sizes: Sequence[int],
) -> list[Any]:
    """What the steps from `step` on `take` of every set, within one epoch.

    Args:
      first: A pass over this set is an epoch. Its rows are in that epoch's order, see
        `shuffled`; or it is the block of these steps.
      rest: The other sets, which are passed over at their own pace.
      key_sets: Keys of the sets' shuffles, see `split_key`.
      step: int32 scalar.
      num_steps: Must not reach beyond the end of the epoch that `step` is in.
      batch_sizes: Examples a step of each set.

    Returns:
      For each set of examples, rows int32 [num_steps, its batch size]; for a block,
      its arrays.
    """
    others = zip(rest, key_sets[1:], batch_sizes[1:], strict=True)
    return [
        first.arrays
        if isinstance(first, Block)
        else _in_order(
            first.rows, step, num_steps=num_steps, batch_size=batch_sizes[0]
        ),
        *(
            _at_own_pace(each.rows, key, step, num_steps=num_steps, batch_size=size)
            for each, key, size in others
        ),
    ]


def _in_order(
    ordered: jax.Array, step: jax.Array, *, num_steps: int, batch_size: int
) -> jax.Array:
    position = step % (len(ordered) // batch_size)
    part = jax.lax.dynamic_slice_in_dim(
        ordered, position * batch_size, num_steps * batch_size
    )
    return part.reshape(num_steps, batch_size)


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
