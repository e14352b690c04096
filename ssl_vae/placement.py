"""Where the training images are: on the devices, or read part by part as needed."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssl_vae import evaluate
from ssl_vae.batches import Examples, Streamed
from ssl_vae.datasets import Dataset
from ssl_vae.errors import InputError
from ssl_vae.models import Params

SHARE = 0.5  # of a device's memory that the images may take: training needs some too
OF_CONTAINER = Path("/sys/fs/cgroup/memory.max")  # bytes that Linux lets it have
CHUNK = 10 * evaluate.EVALUATION_BATCH  # images that are mapped at a time


@jax.jit  # one array more at a time, not three
def pixels(images: Any) -> jax.Array:
    """uint8 images [N, H, W, C] -> float32 pixels in [0, 1], [N, H * W * C]."""
    return jnp.asarray(images).reshape(len(images), -1).astype(jnp.float32) / 255


@dataclass(frozen=True, eq=False)
class OnDevice:
    """Arrays [N, ...], one row an image, that lie on the device."""

    arrays: Any

    def examples(self, rows: np.ndarray, own: Any = None) -> Examples:
        """A set of examples: these rows, and more of each run's own."""
        return Examples(self.arrays, *jax.tree.map(jnp.asarray, (rows, own)))

    def take(self, rows: np.ndarray) -> Any:
        """The arrays of a few rows, [len(rows), ...]."""
        return jax.tree.map(lambda array: array[rows], self.arrays)

    def map(self, function: Callable[..., Any], params: Params) -> Any:
        """`function(params, arrays)` of all rows, see `evaluate.map_images`."""
        return evaluate.map_images(function, params, self.arrays)

    def seen_as(self, view: Callable[[Any], Any]) -> "OnDevice":
        """The same with a function of each row in its place."""

        def of_batch(_: Any, arrays: Any) -> Any:
            return view(arrays)

        return OnDevice(self.map(of_batch, {}))


@dataclass(frozen=True, eq=False)
class OnHost:
    """Arrays [N, ...], one row an image, that go to the device part by part.

    Attributes:
      arrays: What has a `shape` and gives a NumPy array for an array of rows.
      prepare: Applied on the device to some rows of them.
    """

    arrays: Any
    prepare: Callable[[Any], Any] = lambda arrays: arrays

    def examples(self, rows: np.ndarray, own: Any = None) -> Streamed:
        """A set of examples: these rows, and more of each run's own."""
        if own is None:
            return Streamed(self._read, np.asarray(rows, np.int32), self.prepare)

        def read(rows: np.ndarray) -> Any:
            run = np.arange(len(rows)).reshape(-1, *[1] * (rows.ndim - 1))
            return self._read(rows), jax.tree.map(lambda array: array[run, rows], own)

        def prepare(both: Any) -> Any:
            return self.prepare(both[0]), both[1]

        return Streamed(read, np.asarray(rows, np.int32), prepare)

    def take(self, rows: np.ndarray) -> Any:
        """What the device makes of a few rows, [len(rows), ...]."""
        return self.prepare(jax.tree.map(jnp.asarray, self._read(rows)))

    def map(self, function: Callable[..., Any], params: Params) -> Any:
        """`function(params, prepared)` of all rows, NumPy arrays [N, ...]."""
        num = len(jax.tree.leaves(self.arrays)[0])
        parts = []
        for start in range(0, num, CHUNK):
            some = self.take(np.arange(start, min(start + CHUNK, num)))
            parts.append(jax.device_get(evaluate.map_images(function, params, some)))
        return jax.tree.map(lambda *each: np.concatenate(each), *parts)

    def seen_as(self, view: Callable[[Any], Any]) -> "OnHost":
        """The same with a function of each row in its place."""
        return OnHost(self.arrays, lambda arrays: view(self.prepare(arrays)))

    def _read(self, rows: np.ndarray) -> Any:
        return jax.tree.map(lambda array: array[rows], self.arrays)


Placed = OnDevice | OnHost


def place(data: Dataset, wanted: str, *, more: int = 0) -> Placed:
    """The training images as pixels, where they are wanted.

    Args:
      data: The images.
      wanted: "device", "stream", or "auto": on the device if they are in memory, fit
        there, and this process works alone.
      more: Floats that training holds of each image beside its pixels.

    Raises:
      InputError: where they are wanted on the device and do not fit.
    """
    images = data.train_images
    size = 4 * (images.size + more * len(images) + data.test_images.size)
    room = int(SHARE * _device_memory())
    several = jax.process_count() > 1
    if wanted == "device" and (size > room or several):
        why = (
            f"{len(images)} images, and those of the test, take {size / 1e9:.2f} GB"
            f" there and {room / 1e9:.2f} GB are to be had"
        )
        if several:
            why = "each of several processes holds a share of the images"
        raise InputError(f"--config.data.placement=device: {why}; use auto or stream")
    in_file = not isinstance(images, np.ndarray)
    if wanted == "stream" or (wanted == "auto" and (in_file or size > room)) or several:
        return OnHost(images, pixels)
    return OnDevice(pixels(images[:]))


def labeled_examples(placed: Placed, labels: np.ndarray, rows: np.ndarray) -> Examples:
    """Examples with their labels; they are few, and all on the device.

    Args:
      placed: All training images.
      labels: Of them, int32 [N].
      rows: Which of them, int [runs, n].
    """
    some, places = np.unique(rows, return_inverse=True)
    arrays = placed.take(some), jnp.asarray(labels[some])
    return Examples(arrays, jnp.asarray(places.reshape(rows.shape)))


def placed_like(like: Placed, arrays: Any) -> Placed:
    """Arrays [N, ...] of all images, placed as the images are."""
    if isinstance(like, OnHost):
        return OnHost(jax.tree.map(np.asarray, arrays))
    return OnDevice(arrays)


def _device_memory() -> int:
    """Bytes of memory of a device."""
    stats = jax.local_devices()[0].memory_stats() or {}
    of_machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no container, or "max"
        of_machine = min(of_machine, int(OF_CONTAINER.read_text()))
    return int(stats.get("bytes_limit", of_machine))
