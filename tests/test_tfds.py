"""TFDS without TensorFlow: preparing, reading, and failing soon without a network."""

import functools
import gzip
import hashlib
import http.server
import io
import os
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from ssl_vae import datasets
from ssl_vae.datasets import idx, known, network, sources, tfds
from ssl_vae.errors import InputError

REAL_DATA = os.environ.get("SSL_VAE_DATA_DIR")
REAL_SHA256 = known.CANONICAL_SHA256["fashion_mnist"]
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")

# Prepares Fashion-MNIST from another address with other checksums, and fails if that
# has imported TensorFlow.
PREPARE = textwrap.dedent(
    """
    import sys
    from pathlib import Path

    import tensorflow_datasets
    from tensorflow_datasets.core.download import checksums
    from tensorflow_datasets.image_classification.mnist import FashionMNIST
    from ssl_vae.datasets import tfds

    url, files, tfds_dir, manual_dir = sys.argv[1:]
    FashionMNIST.URL = url
    infos = {url + f.name: checksums.compute_url_info(f) for f in Path(files).iterdir()}
    checksums.get_all_url_infos = lambda: infos
    manual = Path(manual_dir) if manual_dir else None
    prepared = tfds.prepare("fashion_mnist", Path(tfds_dir), manual)
    tfds.read(prepared, prepared / "none")
    assert 'tensorflow' not in sys.modules
    print(prepared)
    """
)


def write_set(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for prefix, count in (("train", 60), ("t10k", 20)):
        arrays[f"{prefix}-images-idx3-ubyte"] = rng.integers(256, size=(count, 28, 28))
        arrays[f"{prefix}-labels-idx1-ubyte"] = np.arange(count) % 10
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        shape = np.array(array.shape, ">u4").tobytes()
        content = bytes([0, 0, 8, array.ndim]) + shape + array.astype("u1").tobytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


class Forbidden(Quiet):
    def do_HEAD(self):
        self.send_error(403)


@pytest.fixture
def serve():
    """Function that serves a folder on the loopback and returns the address."""
    servers = []

    def start(handler=Quiet, folder="."):
        handler = functools.partial(handler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def start_prepare(url, files, tfds_dir, manual_dir=""):
    arguments = [url, str(files), str(tfds_dir), str(manual_dir)]
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("files") / "made-up")


@pytest.fixture(scope="module")
def tree(tmp_path_factory, files) -> Path:
    """A TFDS folder with a made-up Fashion-MNIST."""
    folder = tmp_path_factory.mktemp("tree")
    process = start_prepare("http://absent.invalid/", files, folder, manual_dir=files)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (0, f"{folder}/fashion_mnist/3.0.1\n", "")
    return folder


@pytest.fixture(autouse=True)
def own_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(sources, "_DEBIAN", tmp_path / "usr/share/fashion-mnist")
    # The trees of these tests bear the name and not the content.
    monkeypatch.setattr(known, "CANONICAL_SHA256", {})
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)


def assert_same_arrays(dataset, other):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(dataset, name), getattr(other, name))
    assert dataset.sha256 == other.sha256


def copy_of(tree: Path, folder: Path) -> Path:
    version = folder / "fashion_mnist/3.0.1"
    version.mkdir(parents=True)
    for path in (tree / "fashion_mnist/3.0.1").iterdir():
        (version / path.name).write_bytes(path.read_bytes())
    return version


def test_a_prepared_tree_gives_the_arrays_of_the_files(tree, files):
    from_files = datasets.load(data_dir=files)
    prepared = datasets.load(data_dir=tree)
    assert_same_arrays(prepared, from_files)
    assert prepared.name == "fashion_mnist"
    assert prepared.class_names[8] == "Bag"
    assert prepared.source == f"TFDS in {tree}"


@pytest.mark.parametrize("here", [False, True])
def test_the_folder_of_the_data_set_will_do(tree, monkeypatch, here):
    monkeypatch.chdir(tree / "fashion_mnist")
    dataset = datasets.load("mnist", data_dir="." if here else tree / "fashion_mnist")
    assert dataset.name == "fashion_mnist"


def test_a_prepared_tree_comes_first(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tree))
    monkeypatch.setattr(sources, "_DEBIAN", write_set(tmp_path / "debian"))
    assert datasets.load().source == f"TFDS in {tree}"


def test_the_stock_builder_reads_what_was_prepared(tree, files):
    tensorflow_datasets = pytest.importorskip("tensorflow_datasets")
    builder = tensorflow_datasets.builder("fashion_mnist", data_dir=tree)
    assert builder.is_prepared()
    assert str(builder.info.version) == "3.0.1"
    stock = type(builder)(data_dir=tree / "absent").info.features
    assert repr(builder.info.features) == repr(stock)
    assert builder.info.features["label"].names[0] == "T-shirt/top"
    examples = list(builder.as_data_source(split="test"))
    expected = datasets.load(data_dir=files)
    pairs = zip(expected.test_images, expected.test_labels, strict=True)
    assert {(e["image"].tobytes(), int(e["label"])) for e in examples} == {
        (image.tobytes(), label) for image, label in pairs
    }


def test_the_second_load_of_a_tree_decodes_nothing(tree, monkeypatch):
    dataset = datasets.load(data_dir=tree)
    monkeypatch.delattr(tfds, "read")
    again = datasets.load(data_dir=tree)
    assert_same_arrays(again, dataset)
    assert again.source == dataset.source


def test_two_processes_may_download_at_once(serve, files, tmp_path):
    url = serve(folder=files)
    both = [start_prepare(url, files, tmp_path / "tfds") for _ in range(2)]
    results = [(*process.communicate(), process.returncode) for process in both]
    for out, err, status in results:
        assert status == 0, err
        assert out == f"{tmp_path}/tfds/fashion_mnist/3.0.1\n"
        assert err in ("", f"Downloading fashion_mnist from {url}\n")
    assert [path.name for path in (tmp_path / "tfds").iterdir()] == ["fashion_mnist"]
    assert_same_arrays(datasets.load(), datasets.load(data_dir=files))


def test_what_a_killed_process_left_is_no_data_set(tree, tmp_path):
    version = copy_of(tree, tmp_path / "tfds")
    version.rename(version.with_name("incomplete.ABC123_3.0.1"))
    assert tfds.find("fashion_mnist", tmp_path / "tfds") is None


@pytest.fixture
def versions(tmp_path):
    """A TFDS folder with three versions of a set."""
    for version in ("3.0.1", "10.0.0", "9.0.0"):
        path = tmp_path / "mnist" / version / "dataset_info.json"
        path.parent.mkdir(parents=True)
        path.touch()
    return tmp_path


def test_the_newest_version_is_taken(versions):
    assert tfds.find("mnist", versions) == versions / "mnist/10.0.0"


def test_a_version_that_is_asked_for_is_taken_or_none(versions):
    assert tfds.find("mnist:9.0.0", versions) == versions / "mnist/9.0.0"
    assert tfds.find("mnist:3.0.1", versions / "mnist") == versions / "mnist/3.0.1"
    assert tfds.find("mnist:3.0.0", versions) is None


def test_records_of_tensorflow_are_read(tree, files, tmp_path):
    from array_record.python.array_record_module import ArrayRecordReader

    version = copy_of(tree, tmp_path / "tree")
    for path in version.glob("*array_record*"):
        reader = ArrayRecordReader(str(path))
        records = reader.read_all()
        reader.close()
        content = [struct.pack("<QI", len(r), 0) + r + bytes(4) for r in records]
        tfrecord = path.with_name(path.name.replace("array_record", "tfrecord"))
        tfrecord.write_bytes(b"".join(content))
        path.unlink()
    info = version / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    dataset = datasets.load(data_dir=tmp_path / "tree")
    assert_same_arrays(dataset, datasets.load(data_dir=files))


@pytest.mark.parametrize("damage", ["cut", "gone", "count", "info"])
def test_a_damaged_tree_is_named_with_the_remedy(tree, tmp_path, damage):
    version = copy_of(tree, tmp_path / "tree")
    (records,) = version.glob("*test.array_record*")
    if damage == "cut":
        records.write_bytes(records.read_bytes()[:-1000])
    elif damage == "gone":
        records.unlink()
    elif damage == "count":
        info = version / "dataset_info.json"
        info.write_text(info.read_text().replace('"20"', '"21"'))
    else:
        (version / "dataset_info.json").write_text("{")
    with pytest.raises(InputError) as caught:
        datasets.load(data_dir=tmp_path / "tree")
    assert str(version) in str(caught.value)
    assert "delete that folder" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tree_of_another_set_is_named(tree):
    with pytest.raises(InputError) as caught:
        datasets.load("kmnist", data_dir=tree)
    assert "has fashion_mnist and not kmnist" in str(caught.value)
    assert f"--data_dir={tree / 'fashion_mnist'}" in str(caught.value)


def test_a_manual_folder_needs_all_four_files(tmp_path):
    manual = write_set(tmp_path / "manual")
    (manual / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match="manual lacks t10k-labels-idx1-ubyte.gz: put"):
        tfds.prepare("fashion_mnist", tmp_path / "tfds", manual)


def test_files_with_another_checksum_are_refused(files, tmp_path):
    with pytest.raises(InputError) as caught:
        tfds.prepare("fashion_mnist", tmp_path / "tfds", files)
    message = str(caught.value)
    assert "wrong checksum" in message
    assert "\n" not in message
    digests = [hashlib.sha256(file.read_bytes()) for file in files.iterdir()]
    assert any(digest.hexdigest() in message for digest in digests)
    assert tfds.find("fashion_mnist", tmp_path / "tfds") is None


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def offline_error(monkeypatch, url) -> str:
    from tensorflow_datasets.image_classification.mnist import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "URL", url)
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        datasets.load()
    assert time.perf_counter() - start < 10
    message = str(caught.value)
    assert "\n" not in message
    assert all(f"{name}.gz" in message for name in idx.FILE_NAMES)
    assert "--data_dir" in message
    assert "make data" in message
    return message


def test_without_a_network_it_says_so_soon(monkeypatch, tmp_path):
    message = offline_error(monkeypatch, f"http://127.0.0.1:{closed_port()}/")
    assert "refused" in message
    assert not (tmp_path / "tfds").exists()


def test_a_refusing_host_is_told_apart(monkeypatch, serve):
    assert "HTTP status 403" in offline_error(monkeypatch, serve(Forbidden))


def test_a_hanging_lookup_is_waited_for_no_longer(monkeypatch):
    done = threading.Event()

    def hang(*args, **kwargs):
        done.wait(30)
        raise OSError("released")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    start = time.perf_counter()
    assert "no answer within" in network.why_unreachable("http://host.invalid/", 0.2)
    assert time.perf_counter() - start < 2
    done.set()


def test_a_silent_host_is_waited_for_no_longer():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        start = time.perf_counter()
        assert network.why_unreachable(url, 0.2)
        assert time.perf_counter() - start < 2


def test_a_served_file_is_reachable(serve, files):
    url = serve(folder=files) + f"{idx.FILE_NAMES[0]}.gz"
    assert network.why_unreachable(url) is None


@pytest.mark.skipif(not REAL_DATA, reason="SSL_VAE_DATA_DIR is not set")
def test_fashion_mnist_is_the_same_from_tfds(tmp_path):
    tfds.prepare("fashion_mnist", tmp_path / "tfds", Path(REAL_DATA))
    dataset = datasets.load()
    assert dataset.source == f"TFDS in {tmp_path / 'tfds'}"
    assert_same_arrays(dataset, datasets.load(data_dir=REAL_DATA))
    assert dataset.sha256 == REAL_SHA256


def test_a_tree_that_bears_a_known_name_must_hold_its_content(tree, monkeypatch):
    monkeypatch.setattr(known, "CANONICAL_SHA256", {"fashion_mnist": "0" * 64})
    with pytest.raises(InputError, match="does not hold fashion_mnist: the digest"):
        datasets.load(data_dir=tree)


def test_such_a_tree_may_be_given_another_name_and_not_that_one(
    tree, tmp_path, monkeypatch
):
    """Whatever the cache has of it by then."""
    monkeypatch.setattr(known, "CANONICAL_SHA256", {"fashion_mnist": "0" * 64})
    version = copy_of(tree, tmp_path / "tree")
    for name in ("fashion_mnist", "mine", "fashion_mnist"):
        folder = version.parent.rename(tmp_path / "tree" / name)
        version = folder / version.name
        if name == "mine":
            assert datasets.load(data_dir=folder).name == "mine"
        else:
            with pytest.raises(InputError, match="does not hold fashion_mnist"):
                datasets.load(data_dir=folder)


def test_only_png_and_jpeg_records_are_opened():
    """Pillow would give an EPS file to Ghostscript."""
    from tensorflow_datasets.proto import tf_example_pb2

    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "EPS")
    example = tf_example_pb2.Example()
    feature = example.features.feature
    feature["image"].bytes_list.value.append(stream.getvalue())
    feature["label"].int64_list.value.append(0)
    with pytest.raises(UnidentifiedImageError):
        tfds._decode(example.SerializeToString(), (8, 8, 3))
