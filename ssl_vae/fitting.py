"""Models fitted to arrays in memory: no folder, no log, and shared compiled code.

JAX compiles anew for every shape and for every function object, which takes longer than
many a fit to a small set. So models with the same hyper-parameters are one object here,
arrays are padded to a multiple of ROWS rows, and short epochs are run several in a go.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ssl_vae import devices, epochs, evaluate, train
from ssl_vae.batches import Examples
from ssl_vae.errors import InputError
from ssl_vae.finite import NotFinite
from ssl_vae.models import M1, M1M2, M2, Model, Params, Student

ROWS = 256

m1 = lru_cache(maxsize=32)(M1)
m2 = lru_cache(maxsize=32)(M2)
student = lru_cache(maxsize=32)(Student)


@lru_cache(maxsize=32)
def m1_m2(first: M1, second: M2) -> M1M2:
    """The second of two models, for codes: it holds no weights of the first."""
    return M1M2(first, {}, np.arange(second.pixels), second)


class Schedule(NamedTuple):
    """How long and how fast a model is trained."""

    num_epochs: int
    batch_size: int
    learning_rate: float  # Adam's at first; it falls to 0 along a cosine


class ExampleSet(NamedTuple):
    """Some rows of arrays that every batch has a part from."""

    arrays: Any  # a NumPy array [N, ...] or a tree of them
    rows: np.ndarray  # int [n], at least one
    batch_size: int

    @property
    def num_batches(self) -> int:
        """Batches of a pass, the last of them filled up."""
        return math.ceil(len(self.rows) / self.batch_size)

    def passes(self, num: int) -> Examples:
        """So many passes as one, on the device, filled up to whole batches.

        Every row takes part, and none more than once oftener than another.
        """
        times, more = divmod(num * self.num_batches * self.batch_size, len(self.rows))
        # Not the first rows once more: they may be those of one class.
        some = np.random.default_rng(0).permutation(self.rows)[:more]
        return self._on_device(np.append(np.tile(self.rows, times), some))

    def repeated(self) -> Examples:
        """The rows on the device, all of them as often as it takes to fill a batch."""
        times = math.ceil(self.batch_size / len(self.rows))
        return self._on_device(np.tile(self.rows, times))

    def _on_device(self, rows: np.ndarray) -> Examples:
        return Examples(
            jax.tree.map(lambda array: jnp.asarray(_padded(array)), self.arrays),
            jnp.asarray(rows, jnp.int32),
        )


def train_params(
    model: Model | Student,
    sets: Sequence[ExampleSet],
    schedule: Schedule,
    *,
    key: jax.Array,
) -> Params:
    """Trained parameters as NumPy arrays.

    Args:
      model: From `m1`, `m2`, `m1_m2` or `student`.
      sets: What its loss is given, see `epochs.compile_steps`. An epoch is a pass over
        the first.
      schedule: Its batch size is that of all sets together.
      key: Consumed.

    Raises:
      InputError: where a number is no longer finite.
    """
    key_init, key_train = jax.random.split(key)
    num_steps = schedule.num_epochs * sets[0].num_batches
    tx = train.adam(schedule.learning_rate, decay_steps=num_steps)
    num_passes = _passes_in_a_go(schedule.num_epochs, sets[0].num_batches)
    first, rest = sets[0].passes(num_passes), [each.repeated() for each in sets[1:]]
    state = _first_state(model, tx, key_init)
    advance = epochs.compile_steps(
        state,
        [first, *rest],
        key_train,
        batch_sizes=[each.batch_size for each in sets],
        loss_fn=model.loss,
        tx=tx,
        mesh=devices.data_mesh(jax.devices()[:1]),
    )
    try:
        for now, _ in epochs.fit(advance, state, num_steps=num_steps):
            state = now
    except NotFinite as fault:
        raise InputError(
            f"learning_rate={schedule.learning_rate}: {fault}; try less"
        ) from None
    params: Params = jax.device_get(state.params)
    return params


def _passes_in_a_go(num_epochs: int, num_batches: int) -> int:
    """Passes over a small set that make a scan of up to 100 steps."""
    most = min(num_epochs, max(1, epochs.STEPS_PER_SCAN // num_batches))
    return next(n for n in range(most, 0, -1) if num_epochs % n == 0)


@partial(jax.jit, static_argnums=(0, 1))
def _first_state(
    model: Model | Student, tx: optax.GradientTransformation, key: jax.Array
) -> train.TrainState:
    return train.init_state(model.init(key), tx)


def in_parts(function: Callable[..., Any], *arrays: Any) -> Any:
    """A function of rows, applied to ROWS of them at a time; NumPy arrays come back.

    The last part is padded: it is compiled once for any number of rows, and what comes
    of a row does not depend on how many others there are.

    Args:
      function: From arrays [ROWS, ...] to arrays [ROWS, ...], row by row.
      *arrays: NumPy arrays [N, ...] or trees of them, N above 0.
    """
    num_rows = len(jax.tree.leaves(arrays)[0])
    parts = []
    for start in range(0, num_rows, ROWS):
        part = jax.tree.map(lambda array, i=start: array[i : i + ROWS], arrays)
        parts.append(jax.device_get(function(*jax.tree.map(_padded, part))))
    return jax.tree.map(lambda *each: np.concatenate(each)[:num_rows], *parts)


def map_rows(function: Callable[..., Any], params: Params, *arrays: Any) -> Any:
    """`evaluate.map_images` of NumPy arrays [N, ...], see `in_parts`."""
    params = jax.device_put(params)
    return in_parts(partial(evaluate.map_images, function, params), *arrays)


def elbos(model: Model, params: Params, x: np.ndarray) -> np.ndarray:
    """The ELBO of images x [N, pixels], nats, [N]; one draw each, always the same."""
    params, key = jax.device_put(params), jax.random.key(0)

    def part(x: np.ndarray, numbers: np.ndarray) -> jax.Array:
        keys = jax.vmap(partial(jax.random.fold_in, key))(numbers)
        return evaluate.elbos(model.elbo, params, x, keys)

    return np.asarray(in_parts(part, x, np.arange(len(x), dtype=np.uint32)))


def views(model: M1, x: np.ndarray) -> np.ndarray:
    """What M1's `loss` takes in place of images x, [N, view_dim], see `M1.view`."""
    if not model.gradient_weight:
        return x
    return np.asarray(in_parts(jax.jit(model.view), x))


def _padded(array: np.ndarray) -> np.ndarray:
    """The array with rows of 0 behind it, up to a multiple of ROWS."""
    fill = -len(array) % ROWS
    return np.pad(array, [(0, fill), *[(0, 0)] * (array.ndim - 1)])
