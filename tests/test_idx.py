"""What the reader of IDX files accepts, and what it says about the rest."""

import gzip
import hashlib
import tracemalloc

import numpy as np
import pytest

from ssl_vae.datasets import idx
from ssl_vae.errors import InputError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
HTML = b"<!DOCTYPE html><html><body>404</body></html>"


def idx_bytes(array: np.ndarray) -> bytes:
    shape = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + shape + array.astype(np.uint8).tobytes()


IMAGE_BYTES = idx_bytes(np.arange(48).reshape(3, 4, 4))
LABEL_BYTES = idx_bytes(np.arange(3))


def read_error(path, num_dims: int = 3) -> str:
    with pytest.raises(InputError) as caught:
        idx.read(path, num_dims)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def fault_only(value: bytes | str) -> str:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize("packed", [False, True])
def test_reads_a_file_packed_or_not(tmp_path, packed):
    path = tmp_path / (f"{IMAGES}.gz" if packed else IMAGES)
    path.write_bytes(gzip.compress(IMAGE_BYTES) if packed else IMAGE_BYTES)
    array, digest = idx.read(path, 3)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, np.arange(48).reshape(3, 4, 4))
    assert digest == hashlib.sha256(IMAGE_BYTES).hexdigest()


def test_takes_the_unpacked_of_two_files(tmp_path):
    (tmp_path / IMAGES).touch()
    (tmp_path / f"{IMAGES}.gz").touch()
    assert idx.find(tmp_path) == {IMAGES: tmp_path / IMAGES}


@pytest.mark.parametrize(
    ("content", "says", "remedy"),
    [
        (b"", "empty", "again"),
        (HTML, "HTML page", "again"),
        (b"\n <?xml version='1.0'?><Error/>", "HTML page", "again"),
        (IMAGE_BYTES[:-5], "43 of 48 bytes", "again"),
        (IMAGE_BYTES[:10], "header", "again"),
        (IMAGE_BYTES + b"x", "bytes after the 48", "again"),
        (LABEL_BYTES, "holds labels, not images", "swapped"),
        (b"PNG?" + IMAGE_BYTES, "not an IDX file", "again"),
        (b"\0\0\x0d\x03" + IMAGE_BYTES[4:], "unsigned bytes", "again"),
        (IMAGE_BYTES[:4] + bytes(12), "holds nothing", "again"),
        (IMAGE_BYTES[:4] + b"\xff" * 12, "limit of 4 GiB", "again"),
        (gzip.compress(IMAGE_BYTES), "packed", f"{IMAGES}.gz"),
        (idx_bytes(np.zeros([2, 257, 4])), "of 257x4: more than 256", "make them smal"),
        (idx_bytes(np.zeros([2, 4, 257])), "of 4x257: more than 256", "make them smal"),
    ],
    ids=fault_only,
)
def test_refuses_a_bad_unpacked_file(tmp_path, content, says, remedy):
    path = tmp_path / IMAGES
    path.write_bytes(content)
    message = read_error(path)
    assert says in message
    assert remedy in message


@pytest.mark.parametrize(
    ("content", "says", "remedy"),
    [
        (b"", "empty", "again"),
        (HTML, "HTML page", "again"),
        (gzip.compress(HTML), "HTML page", "again"),
        (IMAGE_BYTES, "not packed", f"rename it to {IMAGES}"),
        (b"garbage", "not a gzip file", "again"),
        (gzip.compress(IMAGE_BYTES)[:-12], "cut short", "again"),
        (gzip.compress(IMAGE_BYTES[:-5]), "43 of 48 bytes", "again"),
        (gzip.compress(IMAGE_BYTES + b"x"), "bytes after the 48", "again"),
        (gzip.compress(IMAGE_BYTES) + b"trailing", "damaged", "again"),
        (gzip.compress(IMAGE_BYTES)[:-8] + bytes(8), "damaged", "again"),
        (gzip.compress(IMAGE_BYTES)[:10] + b"\xff" * 40, "damaged", "again"),
        (gzip.compress(LABEL_BYTES), "holds labels, not images", "swapped"),
    ],
    ids=fault_only,
)
def test_refuses_a_bad_packed_file(tmp_path, content, says, remedy):
    path = tmp_path / f"{IMAGES}.gz"
    path.write_bytes(content)
    message = read_error(path)
    assert says in message
    assert remedy in message


def test_refuses_images_under_the_name_of_labels(tmp_path):
    path = tmp_path / LABELS
    path.write_bytes(IMAGE_BYTES)
    assert "holds images, not labels" in read_error(path, num_dims=1)


def test_unpacks_no_more_than_the_header_claims(tmp_path):
    path = tmp_path / f"{IMAGES}.gz"
    path.write_bytes(gzip.compress(IMAGE_BYTES + bytes(64 << 20), compresslevel=1))
    tracemalloc.start()
    message = read_error(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "bytes after the 48" in message
    assert peak < 2 << 20


def test_claims_cost_no_memory_before_the_bytes_are_there(tmp_path):
    path = tmp_path / f"{IMAGES}.gz"
    claim = np.array([1 << 20, 1 << 6, 1 << 6], ">u4").tobytes()
    path.write_bytes(gzip.compress(IMAGE_BYTES[:4] + claim + bytes(100)))
    tracemalloc.start()
    message = read_error(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"100 of {4 << 30} bytes" in message
    assert peak < 16 << 20
