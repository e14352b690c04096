"""Arithmetic: what the default recipe would do on 8 to 256 chips of a TPU v5e.

    python benchmarks/pod.py

No TPU is asked. Operations and bytes of memory come from XLA's cost analysis of the
compiled training step, everything else from the figures of the chip below. Prints the
tables of docs/scaling.md.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scaling import line
from throughput import HIDDEN, LATENT, PIXELS, RECIPE, flop_per_image

from ssl_vae import config as recipes
from ssl_vae import devices, train
from ssl_vae.models import M1

# Of a v5e chip, cloud.google.com/tpu/docs/v5e: bfloat16 operations a second, bytes a
# second of its memory, and of one of its four links in one direction (1600 Gbit/s).
COMPUTE, MEMORY, LINK = 197e12, 819e9, 50e9
# Seconds to the next chip, jax-ml.github.io/scaling-book/sharding.
HOP = 1e-6
CHIPS_A_HOST = 8
# Rows and columns of the slices that can be had. Sides below 16 are not closed to a
# ring, so a chip in a corner has two links, and no more than two are counted on.
SLICES = [(1, 1), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)]
LINKS = 2
BATCH_SIZES = [240, 1000, 8192]


class Step(NamedTuple):
    """Cost of a training step on one chip: a fixed part, and one for every image."""

    flop: tuple[float, float]
    bytes: tuple[float, float]  # read from and written to memory
    params: int

    def seconds(self, batch_size: float) -> tuple[float, float]:
        """Of its operations and of its memory, which run side by side."""
        flop, moved = (a + b * batch_size for a, b in (self.flop, self.bytes))
        return flop / COMPUTE, moved / MEMORY


def step_cost(batch_sizes: tuple[int, ...] = (64, 256, 1024)) -> Step:
    """By XLA's analysis of the step compiled for these batches.

    Raises:
      ValueError: where it does not grow in a straight line.
    """
    model = M1((1, PIXELS, 1), **recipes.model_fields(RECIPE.model))
    tx = train.adam(RECIPE.train.learning_rate, decay_steps=None)
    key = jax.random.key(0)
    state = jax.eval_shape(lambda key: train.init_state(model.init(key), tx), key)
    mesh = devices.data_mesh(jax.devices()[:1])
    step = jax.jit(partial(train.train_step, loss_fn=model.loss, tx=tx, mesh=mesh))
    found = []
    for batch_size in batch_sizes:
        images = jax.ShapeDtypeStruct((batch_size, PIXELS), jnp.float32)
        found.append(step.lower(state, [images], key).compile().cost_analysis())
    flop, moved = (
        _line(batch_sizes, [each[name] for each in found])
        for name in ("flops", "bytes accessed")
    )
    return Step(flop, moved, sum(leaf.size for leaf in jax.tree.leaves(state.params)))


def _line(sizes: tuple[int, ...], amounts: list[float]) -> tuple[float, float]:
    intercept, slope = line(sizes, amounts)
    if not np.allclose(intercept + slope * np.array(sizes), amounts, rtol=0.01):
        raise ValueError(f"{amounts} for batches of {sizes}: no straight line")
    return intercept, slope


def all_reduce(params: int, rows: int, columns: int) -> tuple[float, float]:
    """Bytes that a chip sends so that all have the sum of the gradients; seconds.

    Rings along the rows and then the columns: every chip gives away all but its own
    part of the sums, and then of the finished gradients.
    """
    num_chips = rows * columns
    sent = 2 * (num_chips - 1) / num_chips * 4 * params
    return sent, sent / (LINKS * LINK) + 2 * (rows + columns - 2) * HOP


class Row(NamedTuple):
    """A batch on a slice."""

    batch_size: int  # rounded up to a multiple of the chips
    num_chips: int
    compute: float  # seconds, all of them
    memory: float
    all_reduce: float

    @property
    def seconds(self) -> float:
        """A step: gradients are exchanged once they are there."""
        return max(self.compute, self.memory) + self.all_reduce

    @property
    def speed(self) -> float:
        """Images a second."""
        return self.batch_size / self.seconds


def rows_of(step: Step, batch_size: int) -> list[Row]:
    """A batch on every slice."""
    found = []
    for rows, columns in SLICES:
        num_chips = rows * columns
        share = math.ceil(batch_size / num_chips)
        _, seconds = all_reduce(step.params, rows, columns)
        found.append(Row(share * num_chips, num_chips, *step.seconds(share), seconds))
    return found


def cost_table(step: Step) -> str:
    """The step in operations and bytes, by XLA and by hand."""
    products = flop_per_image(PIXELS, HIDDEN, LATENT)
    # Weights are read in both passes, gradients written; Adam reads weights, gradients
    # and two moments, and writes all but the gradients.
    arrays = 10 * 4 * step.params
    return "\n".join(
        [
            "| of a step | fixed | for every image |",
            "| --- | --- | --- |",
            f"| MFLOP, XLA | {step.flop[0] / 1e6:.1f} | {step.flop[1] / 1e6:.2f} |",
            f"| MFLOP, matrix products by hand | 0 | {products / 1e6:.2f} |",
            f"| MB of memory, XLA | {step.bytes[0] / 1e6:.1f} |"
            f" {step.bytes[1] / 1e6:.3f} |",
            f"| MB, 10 arrays like the {step.params:,} weights | {arrays / 1e6:.1f}"
            " | |",
            f"| MB of gradients to sum | {4 * step.params / 1e6:.1f} | 0 |",
        ]
    )


def slice_table(step: Step) -> str:
    """Every batch on every slice."""
    lines = [
        "| batch | chips | operations, µs | memory, µs | all-reduce, µs | step, µs |"
        " million images/s | of one chip | streamed, GB/s a host |",
        "|" + " --- |" * 9,
    ]
    for batch_size in BATCH_SIZES:
        rows = rows_of(step, batch_size)
        for row in rows:
            hosts = math.ceil(row.num_chips / CHIPS_A_HOST)
            times = row.compute, row.memory, row.all_reduce, row.seconds
            cells = [
                str(row.batch_size),
                str(row.num_chips),
                *(f"{1e6 * seconds:.0f}" for seconds in times),
                f"{row.speed / 1e6:.2f}",
                f"{row.speed / rows[0].speed:.1f}",
                f"{row.speed * PIXELS / hosts / 1e9:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def end_table(step: Step) -> str:
    """Where scaling ends, by batch: what comes within 5 % of the fastest; half use."""
    lines = [
        "| batch | chips beyond which little is gained | most chips half used |",
        "|" + " --- |" * 3,
    ]
    for batch_size in BATCH_SIZES:
        rows = [row for row in rows_of(step, batch_size) if row.num_chips <= batch_size]
        most = max(row.speed for row in rows)
        enough = next(row for row in rows if row.speed > 0.95 * most)
        half = [row for row in rows if row.speed >= row.num_chips * rows[0].speed / 2]
        cells = batch_size, enough.num_chips, half[-1].num_chips
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def batch_table(step: Step) -> str:
    """The batch whose own work takes as long as what every step has to do anyway."""
    lines = ["| chips | batch |", "|" + " --- |" * 2]
    for rows, columns in SLICES:
        fixed = step.bytes[0] / MEMORY + all_reduce(step.params, rows, columns)[1]
        batch_size = rows * columns * fixed / (step.bytes[1] / MEMORY)
        lines.append(f"| {rows * columns} | {round(batch_size, -2):,.0f} |")
    return "\n".join(lines)


TABLES = [cost_table, slice_table, end_table, batch_table]


def main() -> None:
    """Prints the tables."""
    step = step_cost()
    print("\n\n".join(table(step) for table in TABLES))


if __name__ == "__main__":
    main()
