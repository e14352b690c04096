"""Malformed files and flags by the thousand: one line for each, and nothing worse."""

import copy
import gzip
import io
import json
import pickle
import resource
import shutil
import struct
import zipfile
from pathlib import Path

import harness
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from ssl_vae import checkpoint, main
from ssl_vae import config as recipes
from ssl_vae.classifiers import svm
from ssl_vae.datasets import cache, class_folders, idx, npz, picture
from ssl_vae.errors import InputError, RunError
from ssl_vae.results import Results
from ssl_vae.workdir import Workdir

GOLDEN = Path(__file__).parents[1] / "golden" / "run"
GIGABYTE = 1 << 30
# Parsers that are cheap to call get most of the examples that a soak asks for.
many = settings(
    max_examples=max(harness.EXAMPLES // 5, 10),
    deadline=5_000,  # ms an example: none may hang
    derandomize=not harness.SOAK,
    database=None,
    suppress_health_check=list(HealthCheck),
)
few = settings(many, max_examples=max(harness.EXAMPLES // 50, 5), deadline=30_000)


@pytest.fixture(autouse=True)
def _memory_of_each():
    """No malformed file makes this process large; all of them are read in it."""
    before = most_memory()
    yield
    assert most_memory() - before < GIGABYTE // 4


@pytest.fixture(autouse=True, scope="module")
def _memory_of_all():
    """Nor do all together; in a soak Hypothesis itself remembers what it has tried."""
    before = most_memory()
    yield
    if harness.SOAK:
        assert most_memory() < GIGABYTE
    else:
        assert most_memory() - before < GIGABYTE // 4


def most_memory():
    """Bytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def refused(function, *args):
    """Calls it; whatever it cannot use must be told in one line."""
    try:
        return function(*args)
    except (InputError, RunError) as error:
        assert str(error)
        return None


@st.composite
def mutated(draw, original):
    """Bytes with some overwritten, cut out or put in."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.sampled_from([0, 0, 1, 4, 50]))
        content[start : start + length] = draw(st.binary(max_size=8))
    return bytes(content)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([1e308, -1, 10**400, "m1", "\ud800"])
    | st.builds(lambda: [0.5]),  # a new one each time: `altered` changes what is inside
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner)
    ),
    max_leaves=8,
)


@st.composite
def altered(draw, original):
    """JSON with the values of some fields, at any depth, replaced or left out."""
    content = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        place = content
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = draw(st.sampled_from(list(keys)))
            inside = place[key]
            if not isinstance(inside, dict | list) or draw(st.booleans()):
                if draw(st.booleans()):
                    place[key] = draw(values)
                else:
                    del place[key]
                break
            place = inside
    return json.dumps(content).encode()


IMAGES = struct.pack(">IIII", 2051, 3, 4, 4) + bytes(range(48))


@many
@given(
    content=mutated(IMAGES) | mutated(gzip.compress(IMAGES)) | st.binary(max_size=99),
    name=st.sampled_from(["images.gz", "images"]),
    num_dims=st.sampled_from([1, 3]),
    packed=st.booleans(),
)
def test_idx_files(tmp_path_factory, content, name, num_dims, packed):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    with harness.fault("malformed IDX file"):
        refused(idx.read, path, num_dims)


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_claims_of_terabytes_cost_nothing(tmp_path, name):
    content = struct.pack(">IIII", 2051, 1 << 31, 1 << 31, 1 << 31) + bytes(60_000)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(InputError, match="more than the limit"):
        idx.read(path, 3)


def archive(arrays, *, packed):
    """The bytes of an .npz file whose members, by name, are bytes themselves."""
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", kind) as file:
        for name, content in arrays.items():
            file.writestr(name, content)
    return stream.getvalue()


def member(array):
    """An array as a file in an .npz file has it."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


ARRAYS = {
    "images.npy": member(np.arange(48 * 12, dtype=np.uint8).reshape(12, 8, 6)),
    "labels.npy": member(np.arange(12) % 3 - 1),
    "test_images.npy": member(np.linspace(0, 1, 48 * 4).reshape(4, 8, 6)),
    "test_labels.npy": member(np.arange(4) % 2),
}


@st.composite
def archives(draw):
    """An .npz file that is damaged itself, or whose arrays or their headers lie."""
    packed = draw(st.booleans())
    if draw(st.booleans()):
        return draw(mutated(archive(ARRAYS, packed=packed)))
    arrays = dict(ARRAYS)
    for name in draw(st.sets(st.sampled_from(sorted(arrays)), min_size=1)):
        if draw(st.booleans()):
            arrays[name] = draw(mutated(arrays[name]))
        else:
            del arrays[name]
    return archive(arrays, packed=packed)


@many
@given(content=archives())
def test_npz_files(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "mine.npz"
    path.write_bytes(content)
    with harness.fault("malformed NPZ file"):
        refused(npz.read, path)


def encoded(form, mode):
    """The bytes of a small image."""
    stream = io.BytesIO()
    pixels = np.arange(16 * 12 * 4, dtype=np.uint8).reshape(16, 12, 4)
    Image.fromarray(pixels, "RGBA").convert(mode).save(stream, form)
    return stream.getvalue()


PICTURES = [
    *(encoded("PNG", mode) for mode in ("L", "P", "RGB", "RGBA", "1")),
    *(encoded("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
]


@many
@given(content=st.sampled_from(PICTURES).flatmap(mutated), color=st.booleans())
def test_image_files(tmp_path_factory, content, color):
    path = tmp_path_factory.getbasetemp() / "image.png"
    path.write_bytes(content)
    with harness.fault("malformed PNG or JPEG file"):
        if refused(picture.header, path) is not None:
            pixels = refused(lambda: picture.read(path, (8, 8), color=color))
            assert pixels is None or pixels.shape == (8, 8, 3 if color else 1)


NAMES = st.sampled_from(["a", "b", "unlabeled", "test", ".hidden", "x.png", "y.txt"])
TREES = st.recursive(
    st.sampled_from([b"", PICTURES[0], PICTURES[-1], b"text"]),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def plant(place, tree):
    """Makes folders and files as a tree of names has them."""
    if isinstance(tree, bytes):
        place.write_bytes(tree)
        return
    place.mkdir()
    for name, inside in tree.items():
        plant(place / name, inside)


@few
@example(tree={"a": {"x.png": PICTURES[0]}, "b": {"x.png": PICTURES[-1]}})
@given(tree=st.dictionaries(NAMES, TREES, max_size=4))
def test_folders_of_images(tmp_path_factory, tree):
    root = tmp_path_factory.getbasetemp() / "birds"
    shutil.rmtree(root, ignore_errors=True)
    plant(root, tree)
    with harness.fault("odd folder of images"):
        listing = refused(class_folders.find, root)
        if listing is not None:
            refused(class_folders.read, listing, root / "none.images")


RESULTS = json.loads((GOLDEN / "results.json").read_text())
CONFIG = json.loads((GOLDEN / "config.json").read_text())


@many
@given(content=altered(RESULTS) | mutated((GOLDEN / "results.json").read_bytes()))
def test_results(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "results.json"
    path.write_bytes(content)
    with harness.fault("malformed results.json"):
        results = refused(Results.load, path)
        if results is not None:
            results.table([8, 40])
            results.row(8)


@many
@given(
    content=altered(CONFIG)
    | mutated((GOLDEN / "config.json").read_bytes())
    | st.just(b"[" * 100_000)
)
def test_config_json(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "run"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(content)
    with harness.fault("malformed config.json"):
        run = Workdir(folder)
        refused(run.check_owner, CONFIG["config"], CONFIG["dataset"])
        refused(run.recipe)


@many
@given(content=mutated((GOLDEN / "metrics.jsonl").read_bytes()) | st.binary())
def test_metrics_logs(tmp_path_factory, content):
    stage = Workdir(tmp_path_factory.getbasetemp() / "log").stage()
    stage.path.mkdir(exist_ok=True)
    stage.metrics.write_bytes(content)
    with harness.fault("malformed metrics.jsonl"):
        stage.trim_log(8)
        lines = stage.metrics.read_bytes().splitlines()
        steps = [json.loads(line)["step"] for line in lines]
        assert all(step <= 8 for step in steps)


FIELDS = [f"--config.{field}" for field in recipes.flatten(harness.recipe())]
FIELDS += ["--labels", "--workdir", "--data_dir", "--config.few.labels", "--confg", ""]


@many
@given(
    args=st.lists(
        st.builds(
            "{}{}{}".format,
            st.sampled_from(FIELDS),
            st.sampled_from(["=", " ", ""]),
            st.text(max_size=12)
            | st.integers().map(str)
            | st.sampled_from(
                ["(" * 300, "(1,)", "1e999", "-1", "{}", "nan", "[[", "x()"]
            ),
        ),
        max_size=3,
    )
)
def test_flags(args):
    with harness.fault("malformed flags"), pytest.MonkeyPatch.context() as patch:
        flags = copy.deepcopy(PRISTINE)
        patch.setattr(main, "FLAGS", flags)
        try:
            main.parse_flags(["ssl_vae", *args])
            recipes.validate(flags.config)
            if flags.labels is not None:
                main._label_counts(flags.labels)
        except (InputError, SystemExit) as error:
            assert not isinstance(error, SystemExit) or error.code == 0


PRISTINE = copy.deepcopy(main.FLAGS)


@few
@given(data=st.data())
def test_saved_states(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "weights"
    shutil.rmtree(folder, ignore_errors=True)
    checkpoint.save_weights(folder, STATE)
    meta = folder / "meta" / "metadata"
    content = altered(json.loads(meta.read_text())) | mutated(meta.read_bytes())
    meta.write_bytes(data.draw(content))
    with harness.fault("malformed metadata of a state"):
        refused(checkpoint.load_weights, folder, STATE)


STATE = {"w": np.arange(3.0, dtype=np.float32)}


@few
@given(content=mutated((GOLDEN / "classifier.skops").read_bytes()))
def test_classifiers(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "classifier.skops"
    path.write_bytes(content)
    with harness.fault("malformed classifier.skops"):
        refused(svm.load_svm, path)


@few
@given(data=st.data())
def test_schemas_of_classifiers(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "schema.skops"
    with zipfile.ZipFile(GOLDEN / "classifier.skops") as old:
        parts = {name: old.read(name) for name in old.namelist()}
    parts["schema.json"] = data.draw(altered(json.loads(parts["schema.json"])))
    with zipfile.ZipFile(path, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content)
    with harness.fault("malformed schema in classifier.skops"):
        refused(svm.load_svm, path)


def test_a_classifier_that_unpacks_to_gigabytes_is_refused_unread(tmp_path):
    path = tmp_path / "classifier.skops"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb,
        bomb.open("schema.json", "w", force_zip64=True) as stream,
    ):
        for _ in range(1025):
            stream.write(bytes(1 << 20))
    assert path.stat().st_size < 16 << 20
    with pytest.raises(InputError, match="unpacks to 1074790400 bytes"):
        svm.load_svm(path)


class Poison:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_poisoned_classifier_is_refused(tmp_path):
    ran, path = tmp_path / "ran", tmp_path / "classifier.skops"
    path.write_bytes(pickle.dumps(Poison(ran)))
    with pytest.raises(InputError, match="not a classifier that can be read"):
        svm.load_svm(path)
    with zipfile.ZipFile(path, "w") as file:
        call = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}
        content = {"module_path": "os", "function": "system"}
        file.writestr("schema.json", json.dumps(call | {"content": content}))
    with pytest.raises(InputError, match="not a classifier that can be read"):
        svm.load_svm(path)
    with zipfile.ZipFile(GOLDEN / "classifier.skops") as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            poison = pickle.dumps(Poison(ran)) if name.endswith(".npy") else content
            file.writestr(name, poison)
    with pytest.raises(InputError, match="not a classifier that can be read"):
        svm.load_svm(path)
    assert not ran.exists()


def test_a_poisoned_cache_entry_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.cache_dir().mkdir(parents=True)
    poison = np.array([Poison(tmp_path / "ran")], dtype=object)
    names = ("name", "class_names", "sha256", *cache._ARRAYS)
    with (cache.cache_dir() / "key.npz").open("wb") as file:
        np.savez(file, allow_pickle=True, **dict.fromkeys(names, poison))
    assert cache.get("key") is None
    assert not (tmp_path / "ran").exists()
