"""A plan under way, and what comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_vae import train
from ssl_vae.clock import Clock
from ssl_vae.models import Model, Params
from ssl_vae.plan import Plan
from ssl_vae.results import Row
from ssl_vae.workdir import Stage


class Stopped(Exception):
    """The run was asked to stop; what it had is saved and the same call goes on."""


class Keys(NamedTuple):
    """Random keys of a training, and one for whatever comes after it."""

    init: jax.Array
    train: jax.Array
    rest: jax.Array

    @classmethod
    def of(cls, key: jax.Array) -> "Keys":
        """Three keys from one, which is consumed."""
        return cls(*jax.random.split(key, 3))


@dataclass(frozen=True)
class Job:
    """A plan under way.

    Attributes:
      plan: What is to be done.
      clock: Told where the time goes.
      stop: Asked about once a second; True saves the state and raises `Stopped`.
      follow: Told of a training's folder when its log begins and when it has grown.
      mesh: The devices.
      train_images: float32 in [0, 1], [N, pixels].
      test_images: float32 in [0, 1], [M, pixels].
    """

    plan: Plan
    clock: Clock
    stop: Callable[[], bool]
    follow: Callable[[Stage], None]
    mesh: jax.sharding.Mesh
    train_images: jax.Array
    test_images: jax.Array

    @classmethod
    def begin(
        cls,
        plan: Plan,
        *,
        clock: Clock,
        stop: Callable[[], bool],
        follow: Callable[[Stage], None],
    ) -> "Job":
        """Puts the images of a plan on the device."""
        images = plan.data.train_images, plan.data.test_images
        images_there = map(_to_device, images)
        return cls(plan, clock, stop, follow, train.data_mesh(), *images_there)


def _to_device(images: np.ndarray) -> jax.Array:
    """uint8 images [N, H, W, C] -> float32 pixels in [0, 1], [N, H * W * C]."""
    return jnp.asarray(images.reshape(len(images), -1)).astype(jnp.float32) / 255


class Outcome(NamedTuple):
    """New rows of results, and the model that stands for the run."""

    rows: list[Row]
    model: Model
    params: Params
    vae: dict[str, Any]  # its figures, for results.json
    test_features: np.ndarray  # float32 [M, latent], its features of the test images
    test_probs: np.ndarray  # [M, K], probabilities of their classes
