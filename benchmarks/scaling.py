"""How the cost of the default recipe grows: with batch, images, widths and devices.

    python benchmarks/scaling.py --rounds=7        or one table:  --sweep=num_images

Every row is a process of its own that takes turns with the other rows and with a large
matrix product, in random order; see throughput.py. A turn trains on some thousand
random images, in the table of images on all of them. Quoted are medians over the
rounds, and ratios and shares within a round. Devices are simulated: they share the same
cores, so that table tells what splitting a batch costs, not what more hardware gains.
Memory is the most that a process has held, as Linux counts it.
"""

import argparse
import json
import math
import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from throughput import (
    HIDDEN,
    LATENT,
    MATRIX,
    PIXELS,
    RECIPE,
    THREADS,
    Contestant,
    flop_per_image,
    serve,
)

IMAGES_A_TURN = 6_000
MATRIX_PRODUCT = [str(Path(__file__).with_name("throughput.py")), "--serve=matrix jax"]


class Case(NamedTuple):
    """What a row trains, and on what."""

    batch_size: int = RECIPE.train.batch_size
    num_images: int = 15_000
    latent_dim: int = LATENT
    width: int = HIDDEN[0]
    num_devices: int = 1
    whole_epochs: bool = False

    @property
    def num_steps(self) -> int:
        """Of a turn."""
        images = self.num_images if self.whole_epochs else IMAGES_A_TURN
        return max(1, images // self.batch_size)

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return (self.width,) * len(HIDDEN)

    @property
    def flop(self) -> int:
        """Of a turn's matrix products."""
        each = flop_per_image(PIXELS, self.hidden, self.latent_dim)
        return each * self.batch_size * self.num_steps


# The first row of each is what the others are compared with: the default recipe, but
# for the devices: eight of them then have its batch each.
SWEEPS: dict[str, list[Case]] = {
    "batch_size": [
        Case(batch_size=n) for n in (Case().batch_size, 25, 50, 100, 500, 1000, 3000)
    ],
    "latent_dim": [Case(latent_dim=n) for n in (LATENT, 2, 50, 200)],
    "width": [Case(width=n) for n in (HIDDEN[0], 150, 300, 1200)],
    "num_devices": [Case(batch_size=800, num_devices=n) for n in (1, 2, 4, 8)],
    "num_images": [
        Case(num_images=n, whole_epochs=True)
        for n in (60_000, 7_500, 15_000, 30_000, 120_000)
    ],
}


def training(case: Case) -> Callable[[], None]:
    """A turn of a case: a part of an epoch as `run_experiment` trains it."""
    import jax
    import jax.numpy as jnp

    from ssl_vae import config as recipes
    from ssl_vae import devices, epochs, train
    from ssl_vae.batches import Examples
    from ssl_vae.models import M1

    fields = recipes.model_fields(RECIPE.model)
    fields |= {"latent_dim": case.latent_dim, "hidden": case.hidden}
    model = M1((1, PIXELS, 1), **fields)
    tx = train.adam(RECIPE.train.learning_rate, decay_steps=None)
    state = train.init_state(model.init(jax.random.key(0)), tx)
    random_bytes = np.random.default_rng(0).bytes(case.num_images * PIXELS)
    images = np.frombuffer(random_bytes, np.uint8).reshape(-1, PIXELS)
    pixels = jnp.asarray(images).astype(jnp.float32) / 255
    advance = epochs.compile_steps(
        state,
        [Examples(pixels, jnp.arange(len(pixels)))],
        jax.random.key(1),
        batch_sizes=[case.batch_size],
        loss_fn=model.loss,
        tx=tx,
        mesh=devices.data_mesh(),
        steps_per_scan=case.num_steps,
    )

    def turn() -> None:
        nonlocal state
        state, _ = advance(state)
        jax.block_until_ready(state)

    return turn


def contestant(case: Case) -> Contestant:
    """The process of a case."""
    devices = f"--xla_force_host_platform_device_count={case.num_devices}"
    command = __file__, f"--serve={json.dumps(case)}"
    return Contestant(str(case), *command, env={"XLA_FLAGS": devices})


def peak_memory(pid: int) -> int:
    """The most memory that a process has held, bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def line(sizes: Sequence[float], amounts: Sequence[float]) -> tuple[float, float]:
    """Intercept and slope of the straight line that is nearest, by least squares."""
    intercept, slope = np.polynomial.Polynomial.fit(sizes, amounts, 1).convert().coef
    return float(intercept), float(slope)


def growth(sizes: Sequence[float], amounts: Sequence[float]) -> float:
    """The exponent b of amounts ~ sizes**b."""
    return line([*map(math.log, sizes)], [*map(math.log, amounts)])[1]


def measure(name: str, cases: list[Case], rounds: int) -> None:
    """Prints one table, and for images how time and memory grow."""
    rows = [contestant(case) for case in cases]
    matrix = Contestant("matrix", *MATRIX_PRODUCT)
    for _ in range(rounds):
        for one in random.sample([*rows, matrix], len(rows) + 1):
            one.take_turn()
    memory = [peak_memory(row.pid) for row in rows]
    for one in [*rows, matrix]:
        one.close()
    rates = [2 * MATRIX**3 / s for s in matrix.seconds]
    print(f"\n{name:>12}{'steps/s':>10}{'images/s':>10}{'ratio':>8}{'share':>8}"
          f"{'memory':>10}    ({rounds} rounds, {THREADS} cores, large product"
          f" {statistics.median(rates) / 1e9:.0f} GFLOP/s)")  # fmt: skip
    first = _speeds(cases[0], rows[0])
    in_order = sorted(zip(cases, rows, memory, strict=True), key=lambda row: row[0])
    for case, row, held in in_order:
        speeds = _speeds(case, row)
        ratio = statistics.median(a / b for a, b in zip(speeds, first, strict=True))
        share = statistics.median(
            case.flop / s / rate for s, rate in zip(row.seconds, rates, strict=True)
        )
        speed = statistics.median(speeds)
        print(f"{getattr(case, name):12,}{speed / case.batch_size:10.1f}{speed:10.0f}"
              f"{ratio:8.2f}{share:8.0%}{held / 1e6:7.0f} MB", flush=True)  # fmt: skip
    if name == "num_images":
        sizes = [case.num_images for case in cases]
        seconds = [statistics.median(row.seconds) for row in rows]
        intercept, slope = line(sizes, memory)
        print(f"seconds an epoch grow as images ** {growth(sizes, seconds):.2f}; memory"
              f" is {intercept / 1e6:.0f} MB and {slope:.0f} bytes an image, of which"
              f" the pixels in float32 are {4 * PIXELS}")  # fmt: skip


def _speeds(case: Case, row: Contestant) -> list[float]:
    """Images a second of every round."""
    return [case.batch_size * case.num_steps / s for s in row.seconds]


def main() -> None:
    """Prints the tables, or serves as one row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweep", choices=SWEEPS, action="append", help="one table")
    parser.add_argument("--rounds", type=int, default=7, help="turns of every row")
    parser.add_argument("--serve", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(training(Case(*args.serve)))
        return
    for name in args.sweep or SWEEPS:
        measure(name, SWEEPS[name], args.rounds)


if __name__ == "__main__":
    main()
