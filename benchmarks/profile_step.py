"""What limits a training step of the default recipe, part by part.

    python benchmarks/profile_step.py --rounds=20

The step is timed whole and with one part taken out or put in another way; what then is
missing is that part. Parts overlap, so the shares need not add up. All variants take
turns within one process, in random order. What counts is the processor time of all
threads, in the cheapest turn of each: others on the machine hardly lengthen it, and the
differences are small. A core that waits for another does not count. Trains on random
images of the shape of Fashion-MNIST.
"""

import argparse
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import optax
from throughput import (
    HIDDEN,
    LATENT,
    MATRIX,
    PIXELS,
    RECIPE,
    flop_per_image,
    matrix_product,
)

from ssl_vae import config as recipes
from ssl_vae import devices, distributions, networks, train
from ssl_vae.batches import Examples, shuffled
from ssl_vae.models import M1

NUM_IMAGES, NUM_STEPS = 60_000, 20
MODEL = M1((1, PIXELS, 1), **recipes.model_fields(RECIPE.model))
ADAM = train.adam(RECIPE.train.learning_rate, decay_steps=None)

Turn = Callable[[], None]


def training(
    images: jax.Array,
    batch_size: int,
    *patches: Any,
    model: M1 = MODEL,
    tx: optax.GradientTransformation = ADAM,
    num_calls: int = 1,
) -> Turn:
    """A turn of NUM_STEPS steps, in so many calls of one compiled scan.

    Args:
      images: float32 [N, pixels].
      batch_size: Images a step.
      *patches: Changes of the project's functions, in force while JAX traces them.
      model: What is trained.
      tx: The optimizer.
      num_calls: Divides NUM_STEPS.
    """
    steps = partial(
        train.train_steps,
        num_steps=NUM_STEPS // num_calls,
        batch_sizes=[batch_size],
        loss_fn=model.loss,
        tx=tx,
        mesh=devices.data_mesh(),
    )
    examples = [Examples(images, jnp.arange(len(images)))]
    state = train.init_state(model.init(jax.random.key(0)), tx)
    key = jax.random.key(1)
    with contextlib.ExitStack() as stack:
        for each in patches:
            stack.enter_context(each)
        compiled = (
            jax.jit(steps, donate_argnums=0).lower(state, examples, key).compile()
        )

    def turn() -> None:
        nonlocal state
        for _ in range(num_calls):
            state, _ = compiled(state, examples, key)
        jax.block_until_ready(state)

    return turn


def products(batch_size: int) -> Turn:
    """The matrix products of NUM_STEPS steps and nothing else, of the same shapes."""
    encoder, decoder = [PIXELS, *HIDDEN, 2 * LATENT], [LATENT, *HIDDEN[::-1], PIXELS]
    shapes = [*zip(encoder, encoder[1:]), *zip(decoder, decoder[1:])]  # noqa: B905
    keys = iter(jax.random.split(jax.random.key(0), 3 * len(shapes)))
    layers = [
        (
            jax.random.normal(next(keys), (batch_size, before)),
            jax.random.normal(next(keys), (before, after)),
            jax.random.normal(next(keys), (batch_size, after)),
        )
        for before, after in shapes
    ]

    def step(total: jax.Array, _: None) -> tuple[jax.Array, None]:
        for i, (x, weights, gradient) in enumerate(layers):
            # What the sum gives to the operands is nothing, but XLA does not know it.
            gradient += 0 * total
            total += jnp.max((x + 0 * total) @ weights)
            total += jnp.max(x.T @ gradient)
            if i:  # nobody asks for the gradient of the image
                total += jnp.max(gradient @ weights.T)
        return total, None

    run = jax.jit(lambda total: jax.lax.scan(step, total, length=NUM_STEPS)[0])
    return lambda: run(jnp.float32(0)).block_until_ready()


def variants(images: jax.Array, batch_size: int) -> dict[str, Turn]:
    """The turns by what they leave out; the first leaves out nothing."""
    this = partial(training, images, batch_size)

    def same_noise(_: Any, mean: jax.Array, logvar: jax.Array) -> jax.Array:
        return mean + jnp.exp(0.5 * logvar) * 0.5

    def linear(x: jax.Array) -> jax.Array:
        return x

    def first_images(examples: Examples, rows: jax.Array) -> Any:
        return examples.arrays[: len(rows)]

    return {
        "whole step": this(),
        "Adam (SGD in its place)": this(tx=optax.sgd(1e-6)),
        "softplus of hidden layers": this(patch.object(networks, "softplus", linear)),
        "softplus of the loss": this(patch.object(distributions, "softplus", linear)),
        "random numbers": this(
            patch.object(distributions, "gaussian_sample", same_noise)
        ),
        "gather of the batch": this(patch.object(Examples, "take", first_images)),
    }


def measure(turns: dict[str, Turn], rounds: int) -> dict[str, float]:
    """Processor seconds of the cheapest turn of each."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for turn in turns.values():
        turn()  # warms up
    for _ in range(rounds):
        for name in random.sample(list(turns), len(turns)):
            start = time.process_time()
            turns[name]()
            seconds[name].append(time.process_time() - start)
    return {name: min(each) for name, each in seconds.items()}


def main() -> None:
    """Prints the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=RECIPE.train.batch_size)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    images = jax.random.uniform(jax.random.key(2), [NUM_IMAGES, PIXELS])
    rows, key = jnp.arange(NUM_IMAGES), jax.random.key(3)
    shuffle = jax.jit(partial(shuffled, num_sets=1))
    turns = variants(images, args.batch)
    taken_out = list(turns)[1:]
    turns |= {
        "bfloat16": training(
            images, args.batch, model=replace(MODEL, dtype="bfloat16")
        ),
        "one step a call": training(images, args.batch, num_calls=NUM_STEPS),
        "products": products(args.batch),
        "large product": matrix_product("jax"),
        "shuffle": lambda: shuffle(rows, key, jnp.int32(0)).block_until_ready(),
    }
    seconds = measure(turns, args.rounds)
    whole = seconds["whole step"]
    flop = flop_per_image(PIXELS, HIDDEN, LATENT) * args.batch * NUM_STEPS
    rate = 2 * MATRIX**3 / seconds["large product"]
    shares = {
        "its matrix products at the rate of a large one": flop / rate,
        "what they lose for being small": seconds["products"] - flop / rate,
        **{name: whole - seconds[name] for name in taken_out},
        "on top, the shuffle of an epoch": (
            seconds["shuffle"] * NUM_STEPS * args.batch / NUM_IMAGES
        ),
        "on top, products in bfloat16": seconds["bfloat16"] - whole,
        "on top, a call from Python for every step": seconds["one step a call"] - whole,
    }
    print(f"batch {args.batch}: {1e3 * whole / NUM_STEPS:.2f} ms of processor time a"
          f" step, least of {args.rounds} turns of {NUM_STEPS};\nlarge product"
          f" {rate / 1e9:.0f} GFLOP/s a core; shares of the step:\n")  # fmt: skip
    for name, part in shares.items():
        print(f"{name:50}{part / whole:6.1%}")


if __name__ == "__main__":
    main()
