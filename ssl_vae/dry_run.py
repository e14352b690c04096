"""What a run would do: its recipe, its sizes and about how long it takes."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ssl_vae import config as recipes
from ssl_vae.models import M1, M2, Student
from ssl_vae.plan import Plan
from ssl_vae.processes import check_devices

# Training reaches about this part of the rate of one large matrix product on a CPU,
# on one more and on another less: see the README, "Speed". Data, compilation and
# classifiers come on top.
SHARE = 0.5
SIDE = 1024  # of the matrices whose product is timed


class Part(NamedTuple):
    """One training of a run."""

    title: str
    model: Any  # gives `init` and `loss`
    batch: tuple[Any, ...]  # shapes and dtypes of what `loss` is given
    num_steps: int
    num_runs: int  # trained side by side


def describe(plan: Plan) -> str:
    """The recipe, and a line for every training that is left to be done."""
    fields = recipes.flatten(plan.recipe)
    lines = [f"{name} = {fields[name]!r}" for name in sorted(fields)]
    lines += ["", f"workdir: {plan.workdir.name}"]
    if plan.finished:
        return "\n".join([*lines, "finished: nothing is left to be done"])
    images = len(plan.data.train_images) + len(plan.data.test_images)
    bytes_of_images = 4 * images * int(np.prod(plan.data.image_shape))
    lines.append(f"images: {bytes_of_images / 1e6:.0f} MB as float32 pixels")
    check_devices()
    parts = list(_parts(plan))
    if not parts:
        return "\n".join([*lines, "the VAE is there: only classifiers are fitted"])
    rate, total = _product_rate(), 0.0
    for part in parts:
        params = jax.eval_shape(part.model.init, jax.random.key(0))
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        steps = part.num_steps * part.num_runs
        minutes = steps * _flops_of_step(part, params) / (SHARE * rate) / 60
        total += minutes
        runs = f"{part.num_runs} times " if part.num_runs > 1 else ""
        lines.append(
            f"{part.title}: {count:,} parameters,"
            f" {12 * count * part.num_runs / 1e6:.0f} MB with Adam's,"
            f" {runs}{part.num_steps:,} steps, {_duration(minutes)}"
        )
    lines.append(
        f"training: {_duration(total)} on this machine, at {rate / 1e9:.0f}"
        " GFLOP/s; compilation, classifiers and figures come on top"
    )
    return "\n".join(lines)


def _duration(minutes: float) -> str:
    return f"about {minutes:.1f} minutes" if minutes > 0.1 else "a few seconds"


def _parts(plan: Plan) -> Iterator[Part]:
    """The trainings that a plan leaves to be done."""
    recipe = plan.recipe
    if plan.trains_m1:
        yield _m1(plan, recipe.m1 if "m1" in recipe else recipe)
    for num_labels in plan.missing:
        if recipes.learns_labels(recipe):
            yield _m2(plan, num_labels)
        elif "student" in recipe:
            yield _student(plan, num_labels)


def _m1(plan: Plan, group: ConfigDict) -> Part:
    model = M1(plan.data.image_shape, **recipes.model_fields(group.model))
    settings = group.train
    batch = (_floats(settings.batch_size, model.view_dim),)
    steps = settings.num_epochs * (len(plan.data.train_images) // settings.batch_size)
    return Part("M1", model, batch, steps, len(plan.seeds))


def _m2(plan: Plan, num_labels: int) -> Part:
    recipe = recipes.at(plan.recipe, num_labels)
    pixels = int(np.prod(plan.data.image_shape))
    if "m1" in recipe:  # of z1 at most so many units are kept
        pixels = recipe.m1.model.latent_dim
    model = M2(
        pixels,
        plan.data.num_classes,
        labeled_fraction=0.5,
        gaussian="m1" in recipe,
        **recipes.model_fields(recipe.model),
    )
    unlabeled, labeled = plan.batch_sizes(num_labels)
    batch = _floats(unlabeled, pixels), (_floats(labeled, pixels), _classes(labeled))
    steps = recipe.train.num_epochs * plan.steps_per_epoch(num_labels)
    return Part(
        f"{num_labels} labels", model, batch, steps, _untrained(plan, num_labels)
    )


def _untrained(plan: Plan, num_labels: int) -> int:
    """Of how many label splits a model is still to be trained."""
    groups = plan.workdir.groups_of_splits(
        num_labels, len(plan.split_seeds(num_labels))
    )
    stages = [
        (len(seeds), plan.workdir.stage_of_splits(num_labels, seeds))
        for seeds in groups
    ]
    kept_apart = plan.data.cross_validated and plan.is_newest(num_labels)
    if kept_apart and "student" in plan.recipe:
        stages.append((1, plan.workdir.stage_of_whole(num_labels)))
    return sum(num for num, stage in stages if not stage.weights.exists())


def _student(plan: Plan, num_labels: int) -> Part:
    data = plan.data
    pixels = int(np.prod(data.image_shape))
    unlabeled, labeled = plan.batch_sizes(num_labels, "student")
    per_epoch = len(data.train_images) // unlabeled
    steps = plan.recipe.student.num_epochs * per_epoch
    batch = (
        (_floats(unlabeled, pixels), _floats(unlabeled, data.num_classes)),
        (_floats(labeled, pixels), _classes(labeled)),
    )
    model = Student(data.image_shape, data.num_classes, num_steps=steps)
    num_runs = _untrained(plan, num_labels)
    return Part(f"{num_labels} labels", model, batch, steps, num_runs)


def _floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _classes(num: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((num,), jnp.int32)


def _flops_of_step(part: Part, params: Any) -> float:
    """As XLA counts them before it optimizes anything."""
    key, step = jax.random.key(0), jnp.int32(0)
    grad = jax.jit(jax.grad(part.model.loss, has_aux=True))
    cost: Any = grad.lower(params, *part.batch, key=key, step=step).cost_analysis()
    return float(cost["flops"])


def _product_rate() -> float:
    """Floating point operations a second of one large matrix product, measured."""
    matrix = jnp.ones([SIDE, SIDE])
    product = jax.jit(lambda a: a @ a)
    product(matrix).block_until_ready()  # compiled
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        product(matrix).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * SIDE**3 / min(seconds)
