"""Seconds an epoch of M2 and of M1+M2's second stage, and splits side by side.

    python benchmarks/joint.py

Trains on random numbers of the shapes of MNIST: 60 000 images, and codes of 16 units.
The contestants take turns; figures are medians over the rounds, ratios within a round.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from ssl_vae import config as recipes
from ssl_vae import devices, train
from ssl_vae.batches import Examples, steps_per_epoch
from ssl_vae.models import M2

NUM_IMAGES, NUM_LABELED, PIXELS, UNITS, CLASSES = 60_000, 600, 784, 16, 10
NUM_STEPS = 20


def contestant(
    recipe_name: str, *, num_runs: int, one_by_one: bool = True
) -> tuple[Callable[[], None], int]:
    """A call that trains NUM_STEPS steps, and how many steps an epoch has."""
    recipe = recipes.load(recipes.recipe_path(recipe_name))
    second_stage = "m1" in recipe
    model = M2(
        UNITS if second_stage else PIXELS,
        CLASSES,
        NUM_LABELED / NUM_IMAGES,
        gaussian=second_stage,
        **recipes.model_fields(recipe.model),
    )
    x = jax.random.uniform(jax.random.key(0), [NUM_IMAGES, model.pixels])
    y = jnp.arange(NUM_IMAGES, dtype=jnp.int32) % CLASSES
    rows = jnp.broadcast_to(
        jnp.arange(NUM_IMAGES, dtype=jnp.int32), (num_runs, NUM_IMAGES)
    )
    examples = [
        Examples(x, rows[:, NUM_LABELED:]),
        Examples((x, y), rows[:, :NUM_LABELED]),
    ]
    labeled = recipe.train.labeled_batch_size
    batch_sizes = [recipe.train.batch_size - labeled, labeled]
    tx = optax.adam(recipe.train.learning_rate)
    keys = jax.random.split(jax.random.key(1), num_runs)
    steps = train.for_each_run(
        partial(
            train.train_steps,
            num_steps=NUM_STEPS,
            batch_sizes=batch_sizes,
            loss_fn=model.loss,
            tx=tx,
            mesh=devices.data_mesh(),
        ),
        one_by_one=one_by_one,
    )
    compiled = jax.jit(steps, donate_argnums=0)
    state = jax.vmap(lambda key: train.init_state(model.init(key), tx))(keys)

    def run() -> None:
        nonlocal state
        state, _ = compiled(state, examples, keys)
        jax.block_until_ready(state)

    return run, steps_per_epoch(examples, batch_sizes)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    contestants = {
        "M2 on pixels": contestant("m2", num_runs=1),
        "M1+M2, second stage": contestant("m1_m2", num_runs=1),
        "  3 splits one by one": contestant("m1_m2", num_runs=3),
        "  3 splits with vmap": contestant("m1_m2", num_runs=3, one_by_one=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for run, _ in contestants.values():
        run()  # compiles
    for _ in range(rounds):
        for name, (run, _) in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    for name, (_, per_epoch) in contestants.items():
        epoch = statistics.median(seconds[name]) * per_epoch / NUM_STEPS
        print(f"{name:24} {epoch:6.1f} s/epoch")
    one, together = (seconds[name] for name in list(contestants)[2:])
    ratio = statistics.median(b / a for a, b in zip(one, together, strict=True))
    print(f"vmap takes {ratio:.2f} times as long as one by one")


if __name__ == "__main__":
    main()
