"""Training speed on this machine: ssl_vae beside the same model in PyTorch.

    make bench            or    python benchmarks/throughput.py --rounds=9

Every contestant runs in a process of its own, sets itself up (compilation included) and
then waits its turn: one round times the same number of steps of each, in random order,
so a machine whose speed drifts is equally unfair to all. Quoted are medians over rounds
and ratios within a round. The matrix rate is the best of JAX and PyTorch on a large
float32 product; the share is the arithmetic of training's matrix products, see
`flop_per_image`, against that rate.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from ssl_vae import config as recipes
from ssl_vae import datasets
from ssl_vae.batches import Examples
from ssl_vae.errors import InputError

PIXELS = 784
RECIPE = recipes.load(recipes.recipe_path("m1"))
HIDDEN, LATENT = tuple(RECIPE.model.hidden), RECIPE.model.latent_dim
MATRIX = 3072
THREADS = len(os.sched_getaffinity(0))


def flop_per_image(pixels: int, hidden: tuple[int, ...], latent_dim: int) -> int:
    """Floating-point operations of M1's matrix products in training, an image.

    2 a weight in the forward pass and 4 in the backward pass, but for the weights of
    the first layer: nobody asks for the gradient of the image.
    """
    encoder = [pixels, *hidden, 2 * latent_dim]
    decoder = [latent_dim, *hidden[::-1], pixels]
    weights = sum(
        a * b
        for widths in (encoder, decoder)
        for a, b in zip(widths, widths[1:], strict=False)
    )
    return 6 * weights - 2 * pixels * hidden[0]


def load_images() -> np.ndarray:
    """Float32 [60000, 784] in [0, 1]; from the folder SSL_VAE_DATA_DIR, if it is set.

    Raises:
      InputError: where they are not there.
    """
    data = datasets.load("fashion_mnist", os.environ.get("SSL_VAE_DATA_DIR"))
    return data.train_images.reshape(-1, PIXELS).astype(np.float32) / 255


def jax_steps(batch_size: int, num_steps: int) -> Callable[[], None]:
    """The project's own training, as `run_experiment` calls it."""
    import jax
    import optax

    from ssl_vae import devices, epochs, train
    from ssl_vae.models import M1

    model = M1((1, PIXELS, 1), **recipes.model_fields(RECIPE.model))
    tx, mesh = optax.adam(RECIPE.train.learning_rate), devices.data_mesh()
    state = train.init_state(model.init(jax.random.key(0)), tx)
    images = jax.numpy.asarray(load_images())
    advance = epochs.compile_steps(
        state,
        [Examples(images, jax.numpy.arange(len(images)))],
        jax.random.key(1),
        batch_sizes=[batch_size],
        loss_fn=model.loss,
        tx=tx,
        mesh=mesh,
        steps_per_scan=num_steps,
    )

    def steps() -> None:
        nonlocal state
        state, _ = advance(state)
        jax.block_until_ready(state)

    return steps


def torch_steps(batch_size: int, num_steps: int, how: str) -> Callable[[], None]:
    """The same model, loss and optimizer as a PyTorch user would write them."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(THREADS)
    images = torch.from_numpy(load_images())
    width = HIDDEN[0]

    class VAE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Sequential(
                nn.Linear(PIXELS, width), nn.Softplus(), nn.Linear(width, width),
                nn.Softplus(),
            )  # fmt: skip
            self.mean, self.logvar = nn.Linear(width, LATENT), nn.Linear(width, LATENT)
            self.decoder = nn.Sequential(
                nn.Linear(LATENT, width), nn.Softplus(), nn.Linear(width, width),
                nn.Softplus(), nn.Linear(width, PIXELS),
            )  # fmt: skip

        def forward(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            hidden = self.hidden(x)
            mean, logvar = self.mean(hidden), self.logvar(hidden)
            logits = self.decoder(mean + torch.exp(logvar / 2) * noise)
            bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            kl = 0.5 * torch.sum(mean**2 + logvar.exp() - logvar - 1)
            return (bce + kl) / len(x)

    model = VAE()
    tx = torch.optim.Adam(model.parameters(), lr=1e-3, fused="fused" in how or None)
    loss_fn = torch.compile(model) if "compile" in how else model

    def steps() -> None:
        order = torch.randperm(len(images))[: num_steps * batch_size]
        for rows in order.split(batch_size):
            tx.zero_grad()
            loss_fn(images[rows], torch.randn(batch_size, LATENT)).backward()
            tx.step()

    return steps


def matrix_product(library: str) -> Callable[[], None]:
    """One large float32 product: the machine's practical peak."""
    shape = (MATRIX, MATRIX)
    if library == "jax":
        import jax

        a = jax.random.normal(jax.random.key(0), shape)
        product = jax.jit(lambda a: a @ a)
        return lambda: product(a).block_until_ready()
    import torch

    torch.set_num_threads(THREADS)
    b = torch.randn(shape)

    def multiply() -> None:
        torch.mm(b, b)

    return multiply


def serve(turn: Callable[[], None]) -> None:
    """Warms up, then times one turn for every line on standard input."""
    turn()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        turn()
        print(time.perf_counter() - start, flush=True)


def turn_of(name: str, batch_size: int, num_steps: int) -> Callable[[], None]:
    """What a contestant does in a turn."""
    if name.startswith("matrix"):
        return matrix_product(name.split()[1])
    if name == "ssl_vae":
        return jax_steps(batch_size, num_steps)
    return torch_steps(batch_size, num_steps, name)


class Contestant:
    """A process that takes turns; given the arguments of a command that `serve`s."""

    def __init__(self, name: str, *command: str, env: dict[str, str] | None = None):
        self.name, self.seconds = name, list[float]()
        self._process = subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | (env or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def _read(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            sys.exit(f"{self.name} ended with status {self._process.wait()}")
        return line

    def take_turn(self) -> None:
        """Times the contestant once more."""
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self.seconds.append(float(self._read()))

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def compare(batch_size: int, num_steps: int, rounds: int) -> None:
    """Prints the table for one batch size."""
    names = ["ssl_vae", "torch eager", "torch compile", "torch eager fused Adam",
             "torch compile fused Adam", "matrix jax", "matrix torch"]  # fmt: skip
    sizes = f"--batch={batch_size}", f"--steps={num_steps}"
    contestants = [
        Contestant(name, __file__, f"--serve={name}", *sizes) for name in names
    ]
    for _ in range(rounds):
        for contestant in random.sample(contestants, len(contestants)):
            contestant.take_turn()
    *training, matrix_jax, matrix_torch = contestants
    best = min([matrix_jax, matrix_torch], key=lambda c: statistics.median(c.seconds))
    rates = [2 * MATRIX**3 / s for s in best.seconds]
    flop = flop_per_image(PIXELS, HIDDEN, LATENT) * batch_size * num_steps
    print(f"\nbatch {batch_size}, {num_steps} steps a turn, {rounds} rounds, {THREADS}"
          f" cores; large product ({best.name}): {statistics.median(rates) / 1e9:.0f}"
          " GFLOP/s")  # fmt: skip
    print(f"{'':26}{'s/epoch':>9}{'min':>7}{'max':>7}{'ssl_vae is':>13}{'share':>8}")
    for one in training:
        epoch = [s * 60_000 / (batch_size * num_steps) for s in one.seconds]
        pairs = zip(one.seconds, training[0].seconds, strict=True)
        ratio = statistics.median(theirs / ours for theirs, ours in pairs)
        share = statistics.median(
            flop / s / rate for s, rate in zip(one.seconds, rates, strict=True)
        )
        print(f"{one.name:26}{statistics.median(epoch):9.2f}{min(epoch):7.2f}"
              f"{max(epoch):7.2f}{ratio:12.2f}x{share:8.0%}")  # fmt: skip
    for contestant in contestants:
        contestant.close()


def main() -> None:
    """Prints the comparison, or serves as one contestant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, action="append", help="batch size(s)")
    parser.add_argument("--steps", type=int, default=50, help="steps a turn")
    parser.add_argument("--rounds", type=int, default=9, help="turns each")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.serve:
        try:
            load_images()
        except InputError as error:
            parser.error(str(error))
        if not find_spec("torch"):
            parser.error("torch is not installed; `make bench` installs it")
    for batch_size in args.batch or [100, RECIPE.train.batch_size]:
        if (60_000 // batch_size) % args.steps:
            parser.error(f"--steps must divide the {60_000 // batch_size} of an epoch")
        if args.serve:
            serve(turn_of(args.serve, batch_size, args.steps))
        else:
            compare(batch_size, args.steps, args.rounds)


if __name__ == "__main__":
    main()
