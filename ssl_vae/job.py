"""A plan under way, and what comes of it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from ssl_vae import config as recipes
from ssl_vae import placement
from ssl_vae.clock import Clock
from ssl_vae.devices import data_mesh
from ssl_vae.models import M1, Model, Params
from ssl_vae.placement import OnHost, Placed
from ssl_vae.plan import Plan
from ssl_vae.processes import Team
from ssl_vae.results import Row
from ssl_vae.stage import Stage

logger = logging.getLogger("ssl_vae")


class Keys(NamedTuple):
    """Random keys of a training, and one for whatever comes after it."""

    init: jax.Array
    train: jax.Array
    rest: jax.Array

    @classmethod
    def of(cls, key: jax.Array) -> "Keys":
        """Three keys from one, which is consumed."""
        return cls(*jax.random.split(key, 3))

    @classmethod
    def of_seeds(cls, seeds: range) -> "Keys":
        """Keys of runs of these seeds, with a leading axis if there are several."""
        if len(seeds) == 1:
            return cls.of(jax.random.key(seeds[0]))
        return jax.vmap(lambda seed: cls.of(jax.random.key(seed)))(
            np.array(seeds, np.uint32)
        )


@dataclass(frozen=True)
class Job:
    """A plan under way.

    Attributes:
      plan: What is to be done.
      clock: Told where the time goes.
      stop: Asked about once a second in training, and before each SVM, there from
        several threads; where it is True the state is saved and `Stopped` raised.
      follow: Told of a training's folder when its log begins and when it has grown.
      team: The processes that carry it out.
      mesh: The devices of all of them.
      train_images: Pixels in [0, 1], [N, pixels], on the device or on the way there.
      test_images: float32 in [0, 1], [M, pixels].
    """

    plan: Plan
    clock: Clock
    stop: Callable[[], bool]
    follow: Callable[[Stage], None]
    team: Team
    mesh: jax.sharding.Mesh
    train_images: Placed
    test_images: jax.Array

    @classmethod
    def begin(
        cls,
        plan: Plan,
        *,
        clock: Clock,
        stop: Callable[[], bool],
        follow: Callable[[Stage], None],
        team: Team,
    ) -> "Job":
        """Puts the images of a plan where they are wanted.

        Raises:
          InputError: where they are wanted on the device and do not fit.
        """
        train_images = placement.place(
            plan.data,
            recipes.value(plan.recipe, "data.placement"),
            more=_floats_of_view(plan),
        )
        if isinstance(train_images, OnHost):
            logger.info("data: the training images are streamed to the device")
        test_images = placement.pixels(plan.data.test_images)
        images = train_images, test_images
        return cls(plan, clock, stop, follow, team, data_mesh(), *images)


def _floats_of_view(plan: Plan) -> int:
    """Of an image, as M1 is trained on it, beside its pixels."""
    group = plan.recipe.get("m1", plan.recipe).model
    if not plan.trains_m1 or not group.get("gradient_weight"):
        return 0
    return M1(plan.data.image_shape, **recipes.model_fields(group)).view_dim


class Outcome(NamedTuple):
    """New rows of results, and the model that stands for the run."""

    rows: list[Row]
    model: Model
    params: Params
    vae: dict[str, Any]  # its figures, for results.json
    test_features: np.ndarray  # float32 [M, latent], its features of the test images
    test_probs: np.ndarray  # [M, K], probabilities of their classes
