"""Images on the device against streamed ones, and one process against two.

    python benchmarks/streaming.py --rounds=3

Trains the default recipe on random images in an .npz file. Every turn is a process of
its own, or two that share the cores, also with their gradients exchanged array by array
in place of all at once; quoted are medians over the rounds and ratios within a round.
Memory is the most that a process has held, as Linux counts it.
"""

import argparse
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ssl_vae import config as recipes

NUM_IMAGES, SIDE, CLASSES, CHUNK = 60_000, 28, 10, 20_000
NUM_PARTS = 6  # of an epoch, after a first one that is not timed
ONE, TWO = "one process", "two processes"
BY_ARRAY = ", array by array"
LARGER = 1000, 3000, 6000  # batch sizes that two processes are timed at, too


def write_images(path: Path, num_images: int) -> None:
    """Random images with as many test images as classes, written part by part."""
    rng = np.random.default_rng(0)
    shape = num_images, SIDE, SIDE
    images = np.lib.format.open_memmap(path.with_suffix(".npy"), "w+", np.uint8, shape)
    for start in range(0, num_images, CHUNK):
        size = images[start : start + CHUNK].shape
        images[start : start + CHUNK] = rng.integers(0, 256, size, np.uint8)
    labels = np.arange(num_images, dtype=np.int32) % CLASSES
    np.savez(
        path,
        images=images,
        labels=labels,
        test_images=images[:CLASSES],
        test_labels=labels[:CLASSES],
    )
    path.with_suffix(".npy").unlink()


def turn(
    file: str, placement: str, batch_size: int, *, by_array: bool
) -> dict[str, float]:
    """Images a second, and MB held at most, of one training."""
    import jax

    from ssl_vae import copies, datasets, devices, epochs, train
    from ssl_vae.datasets import npz
    from ssl_vae.models import M1
    from ssl_vae.placement import place

    if by_array:
        copies.for_mesh = lambda params, mesh: params
    npz.LARGE = 0 if placement == "stream" else 1 << 40
    recipe = recipes.load(recipes.recipe_path("m1"))
    data = datasets.load(f"npz:{file}")
    model = M1(data.image_shape, **recipes.model_fields(recipe.model))
    tx = train.adam(recipe.train.learning_rate, decay_steps=None)
    images = place(data, "auto" if jax.process_count() > 1 else placement)
    state = train.init_state(jax.jit(model.init)(jax.random.key(0)), tx)
    advance = epochs.compile_steps(
        state,
        [images.examples(np.arange(len(data.train_labels)))],
        jax.random.key(1),
        batch_sizes=[batch_size],
        loss_fn=model.loss,
        tx=tx,
        mesh=devices.data_mesh(),
    )
    state, _ = jax.block_until_ready(advance(state))
    before, start = epochs.steps_done(state), time.perf_counter()
    for _ in range(NUM_PARTS):
        state, metrics = advance(state)
        jax.device_get(metrics)  # as the loop does, for its log
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1e3
    images_done = (epochs.steps_done(state) - before) * batch_size
    return {"rate": images_done / seconds, "peak": peak}


def serve(args: argparse.Namespace) -> None:
    """One turn, or this process's part of it; the first prints what it measured."""
    if args.of > 1:
        from ssl_vae import processes

        processes.begin(
            "on",
            coordinator_address=args.address,
            num_processes=args.of,
            process_id=args.process,
            patience=300,
        )
    found = turn(args.file, args.placement, args.batch_size, by_array=args.by_array)
    if not args.process:
        print("measured", json.dumps(found))  # noqa: T201


def measure(
    file: Path, placement: str, batch_size: int, of: int = 1, *, by_array: bool = False
) -> dict:
    """A turn in processes of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    common = [sys.executable, __file__, "--serve", f"--file={file}"]
    common += [f"--placement={placement}", f"--batch_size={batch_size}", f"--of={of}"]
    common += [f"--address={address}", *["--by_array"] * by_array]
    started = [
        subprocess.Popen([*common, f"--process={i}"], stdout=subprocess.PIPE, text=True)
        for i in range(of)
    ]
    told = [process.communicate()[0] for process in started]
    line = next(s for s in told[0].splitlines() if s.startswith("measured"))
    return dict(json.loads(line.removeprefix("measured")))


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2_000_000, help="of the largest")
    for name in ("serve", "by_array"):
        parser.add_argument(f"--{name}", action="store_true", help=argparse.SUPPRESS)
    for name in ("file", "placement", "address"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    for name in ("batch_size", "process", "of"):
        parser.add_argument(f"--{name}", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        sizes = [NUM_IMAGES, args.images]
        files = {size: Path(folder) / f"{size}.npz" for size in sizes}
        for size, file in files.items():
            write_images(file, size)
        default = recipes.load(recipes.recipe_path("m1")).train.batch_size
        cases = {
            "60,000 images on the device": (files[NUM_IMAGES], "device", default),
            "60,000 images streamed": (files[NUM_IMAGES], "stream", default),
            f"{args.images:,} images streamed": (files[args.images], "stream", default),
            TWO: (files[NUM_IMAGES], "stream", default, 2),
        }
        for size in LARGER:
            one, two = (f"{number}, batch {size}" for number in (ONE, TWO))
            cases[one] = files[NUM_IMAGES], "device", size
            cases[two] = files[NUM_IMAGES], "stream", size, 2
        cases |= {name + BY_ARRAY: cases[name] for name in cases if TWO in name}
        rounds = [
            {
                name: measure(*case, by_array=name.endswith(BY_ARRAY))
                for name, case in cases.items()
            }
            for _ in range(args.rounds)
        ]
    for name in cases:
        one = name.removesuffix(BY_ARRAY).replace(TWO, ONE)
        one = one if "batch" in name else next(iter(cases))
        rate = statistics.median(r[name]["rate"] for r in rounds)
        ratio = statistics.median(r[name]["rate"] / r[one]["rate"] for r in rounds)
        peak = statistics.median(r[name]["peak"] for r in rounds)
        print(  # noqa: T201
            f"{name:42} {rate:8.0f} images/s  {ratio:5.2f} of {one!r}  {peak:6.0f} MB"
        )


if __name__ == "__main__":
    main()
