"""The first set of examples of a training, part of an epoch by part."""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ssl_vae import devices
from ssl_vae.batches import Block, Examples, Streamed, shuffled

READ_AHEAD = 2  # parts that lie ready while one is trained on

Feed = Callable[[int], Examples | Block]


def resident(
    first: Examples, key: jax.Array, *, num_epoch: int, num_sets: int, mesh: Mesh
) -> Feed:
    """Examples that all lie on the device, in the order of the epoch of a step.

    Args:
      first: The set, or that of several runs.
      key: The run's key, or one for each run.
      num_epoch: Steps of an epoch.
      num_sets: Sets of examples that a batch has a part from.
      mesh: The devices.
    """
    order_of = _order_of(key, num_sets)
    epoch, order = -1, first.rows

    def at(step: int) -> Examples:
        nonlocal epoch, order
        if step // num_epoch != epoch:
            epoch = step // num_epoch
            order = devices.replicate(mesh, order_of(first.rows, jnp.int32(epoch)))
        return first._replace(rows=order)

    return at


def streamed(
    first: Streamed,
    key: jax.Array,
    *,
    batch_size: int,
    num_epoch: int,
    num_part: int,
    num_sets: int,
    mesh: Mesh,
) -> Feed:
    """The same, read as it is needed; each device is given its share of the batches.

    Args:
      first: The set, or that of several runs.
      key: The run's key, or one for each run.
      batch_size: Examples a step.
      num_epoch: Steps of an epoch.
      num_part: Steps of its parts, but for a shorter last one.
      num_sets: Sets of examples that a batch has a part from.
      mesh: The devices.
    """
    order_of = _order_of(key, num_sets)
    parts_of_epoch = -(-num_epoch // num_part)
    sharding = devices.split(mesh, axis=first.rows.ndim)

    @lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return np.asarray(order_of(jnp.asarray(first.rows), jnp.int32(epoch)))

    def part(number: int) -> Block:
        epoch, position = divmod(int(number), parts_of_epoch)
        begin = position * num_part
        num_steps = min(num_part, num_epoch - begin)
        rows = order(epoch)[..., begin * batch_size :][..., : num_steps * batch_size]
        rows = rows.reshape(*rows.shape[:-1], num_steps, batch_size)
        return Block(devices.scattered(sharding, rows, first.read), first.prepare)

    ahead: Iterator[Block] = iter(())
    expected = -1

    def at(step: int) -> Block:
        nonlocal ahead, expected
        epoch, position = divmod(step, num_epoch)
        number = epoch * parts_of_epoch + position // num_part
        if number != expected:
            ahead = _read_ahead(part, number)
        expected = number + 1
        return next(ahead)

    return at


def _read_ahead(part: Callable[[int], Block], first: int) -> Iterator[Block]:
    """The parts from one on, read in a thread of its own while others are used."""
    import grain  # late: it takes a second, and few trainings need it

    numbers = grain.MapDataset.range(first, np.iinfo(np.int64).max)
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=READ_AHEAD)
    return iter(numbers.map(part).to_iter_dataset(options))


def _order_of(key: jax.Array, num_sets: int) -> Callable[..., jax.Array]:
    """The function of rows and an epoch that shuffles them, for one run or for all."""
    order = _jitted_order(num_sets, several=key.ndim > 0)
    return lambda rows, epoch: order(rows, key, epoch)


@lru_cache(maxsize=32)  # compiled once for all trainings of a shape
def _jitted_order(num_sets: int, *, several: bool) -> Callable[..., jax.Array]:
    def of_runs(rows: jax.Array, key: jax.Array, epoch: jax.Array) -> jax.Array:
        one = partial(shuffled, epoch=epoch, num_sets=num_sets)
        return jax.lax.map(lambda run: one(*run), (rows, key))

    return jax.jit(of_runs if several else partial(shuffled, num_sets=num_sets))
