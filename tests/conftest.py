"""What all tests share: strict JAX, folders of their own, a small data set, runs."""

import fcntl
import gzip
import os
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

NUM_CLASSES, SIDE = 4, 8
EIGHT = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"

# What makes the project's recipes small, all of them and each.
SMALL = {
    "labels": (8,),
    "num_splits": 2,
    "importance_samples": 5,
    "model.latent_dim": 4,
    "model.hidden": (32,),
    "train.num_epochs": 4,
    "train.batch_size": 28,
}
OWN = {
    "m1": {"train.num_epochs": 12},
    "m1_graph": {"train.num_epochs": 12, "classifier.standardize": True},
    "best": {
        "classifier.standardize": True,
        "student.num_epochs": 2,
        "student.batch_size": 28,
        "student.labeled_batch_size": 8,
    },
    "m2": {"train.labeled_batch_size": 8, "train.warmup_epochs": 1},
    "m1_m2": {
        "train.labeled_batch_size": 8,
        "train.warmup_epochs": 1,
        "m1.model.hidden": (32,),
        "m1.train.batch_size": 20,
        "m1.train.num_epochs": 6,
        "m1.train.learning_rate": 3e-3,
    },
}


@pytest.fixture(autouse=True, scope="module")
def programs_are_let_go():
    """Those of all modules together need more mappings of memory than Linux grants."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True, scope="session")
def compiled_once(tmp_path_factory):
    """Many runs of one small recipe: each program is compiled once for all of them."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("jit")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(autouse=True, scope="session")
def own_folders(tmp_path_factory):
    """No test reads or writes what belongs to the user who runs it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "XDG_CACHE_HOME", "TFDS_DATA_DIR"):
            patch.setenv(name, str(home))
        yield


def run_on_eight(script: str) -> None:
    """Runs a script in a process of its own, where JAX has eight devices."""
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | {"XLA_FLAGS": EIGHT},
        check=True,
    )


def write_idx(folder: Path, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Two of the four standard files, gzipped."""
    head = struct.pack(">IIII", 2051, *images.shape[:3])
    (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(head + images.tobytes())
    )
    head = struct.pack(">II", 2049, len(labels))
    (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(head + labels.astype(np.uint8).tobytes())
    )


def blobs(num_images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of a bright square, in the corner that is the class, under noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % NUM_CLASSES
    images = rng.integers(0, 60, size=(num_images, SIDE, SIDE))
    half = SIDE // 2
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[row * half :][:half, column * half :][:, :half] += 150
    return images.astype(np.uint8), labels


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> Path:
    """A folder "corners" with 400 training and 80 test images, 8 x 8, 4 classes."""
    folder = tmp_path_factory.mktemp("data") / "corners"
    folder.mkdir()
    write_idx(folder, "train", *blobs(400, seed=0))
    write_idx(folder, "t10k", *blobs(80, seed=1))
    return folder


@pytest.fixture(scope="session")
def finished(small_data, tmp_path_factory):
    """Finished runs by recipe, a name in OWN: trained once, and only to be read.

    The second worker that asks waits for the first, and finds the run finished.
    """
    from ssl_vae import config as recipes
    from ssl_vae.experiment import run_experiment

    everyone = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # one folder for all workers
        everyone = everyone.parent

    def run(name: str) -> Path:
        config = recipes.load(recipes.recipe_path(name))
        config.update_from_flattened_dict(SMALL | OWN[name])
        workdir = everyone / f"finished-{name}"
        with workdir.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            run_experiment(config, workdir, data_dir=small_data)
        return workdir

    return run
