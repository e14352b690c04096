"""What saving costs: states of the default recipe, digests included, beside training.

    python benchmarks/saving.py

Trains from one save to the next, saves as a run does, and so on, on random images of
the shape of Fashion-MNIST. What counts is the processor time of all threads: the files
are written in the background, while the training goes on. A second column has the
seconds for which the training waits.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import jax

from ssl_vae import checkpoint, devices, epochs, train
from ssl_vae import config as recipes
from ssl_vae.batches import Examples
from ssl_vae.models import M1

NUM_IMAGES, SHAPE = 60_000, (28, 28, 1)
RECIPE = recipes.load(recipes.recipe_path("m1"))


def main() -> None:
    """Prints a line a round, and the share of saving in the median."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    flags = parser.parse_args()
    settings = RECIPE.train
    model = M1(SHAPE, **recipes.model_fields(RECIPE.model))
    tx = train.adam(settings.learning_rate, decay_steps=None)
    state = train.init_state(model.init(jax.random.key(0)), tx)
    images = jax.random.uniform(jax.random.key(1), (NUM_IMAGES, 28 * 28))
    advance = epochs.compile_steps(
        state,
        [Examples(images, jax.numpy.arange(NUM_IMAGES))],
        jax.random.key(2),
        batch_sizes=[settings.batch_size],
        loss_fn=model.loss,
        tx=tx,
        mesh=devices.data_mesh(),
    )
    between = settings.checkpoint_every * (NUM_IMAGES // settings.batch_size)
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(1, flags.rounds + 2):
            start = time.process_time()
            for after, _ in epochs.fit(advance, state, num_steps=i * between):
                state = after
            trained = time.process_time() - start
            with checkpoint.Checkpoints(Path(folder)) as checkpoints:
                start, begun = time.process_time(), time.perf_counter()
                checkpoints.save(i * between, state)
                waited = time.perf_counter() - begun
            saved = time.process_time() - start  # the state is on the disk
            if i > 1:  # the first save sets Orbax up
                shares.append(saved / trained)
                print(
                    f"{settings.checkpoint_every} epochs {trained:6.2f} s"
                    f"  saving {saved:6.3f} s ({100 * shares[-1]:.2f} %)"
                    f"  waited {waited:6.3f} s",
                    flush=True,
                )
    print(f"saving costs {100 * statistics.median(shares):.2f} % of training")


if __name__ == "__main__":
    main()
