"""What all tests share: strict JAX, a cache folder of their own, a small data set."""

import gzip
import struct
from pathlib import Path

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

NUM_CLASSES, SIDE = 4, 8


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
