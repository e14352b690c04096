"""Every recipe's programs lower for TPU and CUDA, though no such device is at hand.

What XLA is handed: training steps on one device and on a mesh of eight, and all that is
measured on a trained model. Compiling and running them takes the device itself.
"""

import functools
import re
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from jax import export
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from ssl_vae import config as recipes
from ssl_vae import evaluate, train
from ssl_vae.batches import Examples
from ssl_vae.models import M1, M1M2, M2, Model, Student

PLATFORMS = ("tpu", "cuda")
RECIPES = sorted(p.stem for p in recipes.recipe_path("m1").parent.glob("*.py"))
SHAPE, NUM_CLASSES, NUM_IMAGES, BATCH, LABELED = (4, 4, 1), 3, 48, 16, 8
RUNS, STEPS = 2, 2


class Training(NamedTuple):
    """A training of a recipe: its model and what a step takes of which sets."""

    model: Any
    settings: Any
    examples: list[Examples]
    several: bool


def shapes(function: Any, *args: Any) -> Any:
    """What a function would return, as shapes: nothing is compiled or run."""
    return jax.eval_shape(function, *args)


def pixels(num_images: int = NUM_IMAGES) -> Any:
    return jax.ShapeDtypeStruct((num_images, 16), jnp.float32)


def small(group: Any) -> dict[str, Any]:
    """The fields of a model, with narrow layers."""
    fields = recipes.model_fields(group)
    return fields | {"hidden": (8,) * len(fields["hidden"]), "latent_dim": 4}


@functools.cache
def models(name: str) -> dict[str, Model | Student]:
    """The models that a recipe trains, in that order."""
    recipe = recipes.load(recipes.recipe_path(name))
    if not recipes.learns_labels(recipe):
        found: dict[str, Any] = {"train": M1(SHAPE, **small(recipe.model))}
        if "student" in recipe:
            found["student"] = Student(SHAPE, NUM_CLASSES, 9, channels=(4, 4), hidden=8)
        return found
    m2 = partial(M2, num_classes=NUM_CLASSES, labeled_fraction=0.2, warmup_steps=2)
    if "m1" not in recipe:
        return {"train": m2(16, **small(recipe.model))}
    m1 = M1(SHAPE, **small(recipe.m1.model))
    kept = jnp.array([0, 2])
    second = m2(2, gaussian=True, **small(recipe.model))
    m1_params = jax.tree.map(jnp.zeros_like, shapes(m1.init, jax.random.key(0)))
    both = M1M2(m1, m1_params, kept, second)
    return {"m1.train": m1, "train": both}


def training(name: str, group: str) -> Training:
    """What `extractor`, `joint` and `self_training` set up, on a few blank images."""
    model = models(name)[group]
    recipe = recipes.load(recipes.recipe_path(name))
    settings = recipe.m1.train if group == "m1.train" else recipe[group]
    if isinstance(model, M1):
        rows = jnp.arange(NUM_IMAGES)
        view = shapes(model.view, pixels())
        return Training(model, settings, [Examples(view, rows)], False)
    rows = jnp.tile(jnp.arange(NUM_IMAGES), (RUNS, 1))
    labels = jnp.zeros([NUM_IMAGES], jnp.int32)
    code = shapes(model.code, pixels()) if isinstance(model, M1M2) else pixels()
    teacher = jnp.zeros([RUNS, NUM_IMAGES, NUM_CLASSES])
    own = teacher if isinstance(model, Student) else None
    few = Examples((code, labels), rows[:, :LABELED])
    return Training(model, settings, [Examples(code, rows, own), few], True)


def lowered(function: Any, *args: Any, mesh: Any = None) -> export.Exported:
    """A jitted function for all `PLATFORMS`; arrays whole on every device of a mesh."""
    if mesh is not None:
        whole = NamedSharding(mesh, PartitionSpec())
        args = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=whole), args
        )
    exported = export.export(function, platforms=PLATFORMS)(*args)
    assert exported.platforms == PLATFORMS
    return exported


def lowered_steps(name: str, group: str, num_devices: int) -> export.Exported:
    """The training steps that `epochs.compile_steps` compiles on an accelerator."""
    model, settings, examples, several = training(name, group)
    mesh = AbstractMesh((num_devices,), ("data",), axis_types=(AxisType.Auto,))
    decay = 20 if settings.schedule == "cosine" else None
    tx = train.adam(settings.learning_rate, decay_steps=decay)
    steps = partial(
        train.train_steps,
        num_steps=STEPS,
        batch_sizes=(BATCH, LABELED)[: len(examples)],
        loss_fn=model.loss,
        tx=tx,
        mesh=mesh,
    )
    begin: Any = lambda key: train.init_state(model.init(key), tx)  # noqa: E731
    key = jax.random.key(0)
    if several:
        key = jax.random.split(key, RUNS)
        begin = jax.vmap(begin)
        steps = train.for_each_run(steps, one_by_one=False)
    jitted = jax.jit(steps, donate_argnums=0)
    return lowered(jitted, shapes(begin, key), examples, key, mesh=mesh)


EVERY = [(name, group) for name in RECIPES for group in models(name)]


@pytest.mark.parametrize("name, group", EVERY)
def test_the_training_steps_of_every_recipe_lower_for_eight_devices(name, group):
    exported = lowered_steps(name, group, num_devices=8)
    assert exported.nr_devices == 8
    # The devices share a batch; of several runs each is shared by all devices.
    wanted = r'sharding_constraint %\S+ <@mesh, \[({\?}, )?{"data"}\]>'
    assert re.search(wanted, exported.mlir_module())


def test_the_training_steps_lower_for_one_device():
    assert lowered_steps("m1", "train", num_devices=1).nr_devices == 1


@pytest.mark.parametrize("name, group", EVERY)
def test_all_that_is_measured_of_every_recipe_lowers(name, group):
    model, x = models(name)[group], pixels(5)
    params = shapes(model.init, jax.random.key(0))
    keys = jax.random.split(jax.random.key(0), 5)
    if hasattr(model, "features"):
        lowered(evaluate.map_images, model.features, params, x)
        lowered(evaluate.elbos, model.elbo, params, x, keys)
        lowered(evaluate.log_likelihoods, model.log_weight, 3, params, x, keys)
        lowered(jax.jit(model.reconstruct), params, x)
    if hasattr(model, "class_logits"):
        inputs = shapes(model.code, x) if isinstance(model, M1M2) else x
        lowered(evaluate.map_images, model.class_logits, params, inputs)
    if isinstance(model, M1):
        lowered(evaluate.map_images, model.encode, params, x)
        lowered(jax.jit(model.view), x)
