"""Runs and data in a bucket: fsspec's in-memory files, or a folder, stand for it.

What gs:// itself does, its credentials above all, cannot be tried here.
"""

import errno
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import Mock

import fsspec
import jax
import numpy as np
import pytest
from conftest import NUM_CLASSES, OWN, SMALL, blobs
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

import ssl_vae
from ssl_vae import bucket, follow
from ssl_vae import config as recipes
from ssl_vae.bucket import LISTING, Mirror
from ssl_vae.errors import InputError, RunError
from ssl_vae.experiment import Stopped, run_experiment
from ssl_vae.export.__main__ import main as export
from ssl_vae.plan import make_plan
from ssl_vae.report.__main__ import main as report
from ssl_vae.workdir import Workdir

URL = "memory://b/run"


@pytest.fixture(autouse=True)
def memory(monkeypatch, tmp_path):
    """An empty bucket, and a process that has seen none yet."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    MemoryFileSystem.store.clear()
    bucket.mirror.cache_clear()
    return fsspec.filesystem("memory")


def names(memory) -> set[str]:
    return {path.removeprefix("/b/run/") for path in memory.find("/b/run")}


def write(mirror: Mirror, **files: str) -> None:
    for name, text in files.items():
        path = mirror.folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def small_recipe(**changes):
    config = recipes.load(recipes.recipe_path("m1"))
    config.update_from_flattened_dict(SMALL | OWN["m1"] | changes)
    return config


def upload(folder: Path, url: str = URL) -> None:
    filesystem, root = fsspec.url_to_fs(url)
    filesystem.put(f"{folder}/", f"{root}/", recursive=True)


def test_what_is_pushed_is_pulled_again(memory):
    one = Mirror(URL)
    one.pull()
    write(one, config="1", steps__7__state="2")
    one.push()
    other = Mirror(URL).pull()
    assert (other / "config").read_text() == "1"
    assert (other / "steps" / "7" / "state").read_text() == "2"


def test_what_is_removed_or_changed_on_either_side_is_so_on_the_other(memory):
    one, other = Mirror(URL), Mirror(URL)
    write(one, a="1", b="1", c="1")
    one.push()
    other.pull()
    (one.folder / "a").unlink()
    write(one, b="22")
    one.push()
    assert names(memory) == {"b", "c", LISTING}
    other.pull()
    assert sorted(p.name for p in other.folder.iterdir()) == ["b", "c"]
    assert (other.folder / "b").read_text() == "22"


def test_what_has_not_changed_is_not_sent_again(memory):
    mirror = Mirror(URL)
    write(mirror, a="1")
    mirror.push()
    memory.rm("/b/run/a")
    write(mirror, b="1")
    mirror.push()
    assert names(memory) == {"b", LISTING}


def test_what_is_gone_on_both_sides_stops_no_push(memory):
    mirror = Mirror(URL)
    write(mirror, a="1", b="1")
    mirror.push()
    memory.rm("/b/run/a")
    (mirror.folder / "a").unlink()
    mirror.push()
    assert names(memory) == {"b", LISTING}


def test_unfinished_files_stay_on_this_machine(memory):
    mirror = Mirror(URL)
    write(mirror, **{"a.partial": "", "lock": "", "a": ""})
    write(mirror, **{"steps__3.orbax-checkpoint-tmp__x": ""})
    write(mirror, **{"m1.partial__vae_weights__w": ""})
    mirror.push()
    assert names(memory) == {"a", LISTING}


def test_a_full_disk_is_not_taken_for_a_bucket_that_may_not_be_read(
    memory, monkeypatch
):
    memory.pipe("/b/run/a", b"1")
    mirror = Mirror(URL)
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(mirror._files, "get", Mock(side_effect=full))
    with pytest.raises(InputError, match="No space left on device") as error:
        mirror.pull()
    assert "make room there, or set TMPDIR" in str(error.value)


def test_an_address_that_was_made_a_path_is_refused():
    with pytest.raises(InputError, match="memory:/b/run: give the address of a bucket"):
        Workdir(Path(URL))


def test_what_a_push_that_was_cut_off_has_sent_is_not_pulled(memory, monkeypatch):
    mirror = Mirror(URL)
    write(mirror, a="1")
    mirror.push()
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", broken)
    write(mirror, weights__half="1")
    with pytest.raises(RunError, match="out of order.*is kept in"):
        mirror.push()
    monkeypatch.undo()
    assert "weights/half" in names(memory)
    assert not (Mirror(URL).pull() / "weights").exists()


def broken(*_, **__):
    raise OSError("out of order")


def test_what_changes_is_sent_every_while(memory, monkeypatch):
    monkeypatch.setattr(bucket, "INTERVAL", 0.05)
    mirror = Mirror(URL)
    with mirror.following():
        write(mirror, a="1")
        deadline = time.monotonic() + 10
        while "a" not in names(memory) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "a" in names(memory)
        write(mirror, b="1")
    assert "b" in names(memory)


@pytest.mark.parametrize("name", ["../../x", "a/../../x"])
def test_an_object_cannot_be_put_outside_of_the_copy(memory, name):
    MemoryFileSystem.store[f"/b/run/{name}"] = memory.open("/elsewhere", "wb")
    with pytest.raises(InputError, match="it has an object"):
        Mirror(URL).pull()


def test_a_run_in_a_bucket_gives_the_numbers_of_one_in_a_folder(
    memory, small_data, finished, monkeypatch
):
    monkeypatch.setattr(bucket, "INTERVAL", 1.0)
    results = run_experiment(small_recipe(), URL, data_dir=small_data)
    here = json.loads((finished("m1") / "results.json").read_text())
    assert [row.test_accuracy for row in results.results] == [
        row["test_accuracy"] for row in here["results"]
    ]
    there = names(memory)
    assert {"results.json", "config.json", "metrics.jsonl", "report.html"} <= there
    assert not [n for n in there if "tmp" in n or n.endswith(".partial") or n == "lock"]
    assert not (Workdir(URL).path / "lock").exists()


def test_a_stopped_run_goes_on_on_another_machine(memory, small_data, finished):
    asked = iter([False] * 3)
    with pytest.raises(Stopped):
        run_experiment(
            small_recipe(), URL, data_dir=small_data, stop=lambda: next(asked, True)
        )
    before = [json.loads(x)["step"] for x in log_of(memory).splitlines()]
    bucket.mirror.cache_clear()  # another machine has no copy
    run_experiment(small_recipe(), URL, data_dir=small_data)
    assert before and log_of(memory) == (finished("m1") / "metrics.jsonl").read_text()


def log_of(memory) -> str:
    return memory.cat_file("/b/run/metrics.jsonl").decode()


def test_several_processes_need_a_folder_that_they_share(small_data, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match="memory://b/run: the processes of a run need"):
        run_experiment(small_recipe(), URL, data_dir=small_data)


def test_another_run_in_the_bucket_is_refused_by_its_address(
    memory, small_data, finished
):
    upload(finished("m1"))
    before = names(memory)
    with pytest.raises(InputError, match="--workdir=memory://b/run holds another run"):
        run_experiment(small_recipe(seed=7), URL, data_dir=small_data)
    assert names(memory) == before


def test_a_finished_run_is_used_where_it_is(memory, finished, capsys):
    upload(finished("m1"))
    images = blobs(5, seed=3)[0]
    expected = ssl_vae.load(finished("m1")).predict_proba(images)
    np.testing.assert_array_equal(ssl_vae.load(URL).predict_proba(images), expected)
    memory.rm("/b/run/report.html")
    assert report([URL]) == [f"{URL}/report.html", f"{URL}/model_card.md"]
    assert "report.html" in names(memory)
    assert export([f"--workdir={URL}", "--format=safetensors"]) == 0
    assert f"{URL}/export/weights.safetensors" in capsys.readouterr().out
    assert "export/weights.safetensors" in names(memory)


def test_what_a_log_gets_last_is_in_the_bucket_too(memory, finished, small_data):
    upload(finished("m1"))
    plan = make_plan(small_recipe(), URL, small_data)
    with follow.Follower(["tensorboard"], plan) as follower:
        follower.finish(plan.finished)
    events = [n for n in names(memory) if n.startswith("tensorboard/results/")]
    assert events and memory.size(f"/b/run/{events[0]}")


def test_m1_of_another_run_may_be_in_a_bucket(finished, small_data, tmp_path):
    upload(finished("m1"))
    config = recipes.load(recipes.recipe_path("m1_m2"))
    config.update_from_flattened_dict(SMALL | OWN["m1_m2"] | {"m1_workdir": URL})
    given = make_plan(config, tmp_path / "run", small_data).given_m1
    assert given.stage().weights.exists()
    assert make_plan(config, tmp_path / "run", small_data).recipe.m1_workdir == URL


def load(dataset="fashion_mnist", data_dir=None):
    """The data that a plan has, of a source in a bucket or not."""
    config = small_recipe(dataset=dataset)
    return make_plan(config, Path("never-made"), data_dir).data


def test_data_may_be_in_a_bucket(memory, small_data, tmp_path):
    upload(small_data, "memory://b/idx")
    images, labels = blobs(40, seed=0)
    np.savez(tmp_path / "some.npz", images=images, labels=labels)
    memory.put_file(str(tmp_path / "some.npz"), "/b/some.npz")
    idx = load(data_dir="memory://b/idx")
    assert idx.sha256 == load(data_dir=small_data).sha256
    npz = load("npz:memory://b/some.npz")
    assert npz.sha256 == load(f"npz:{tmp_path / 'some.npz'}").sha256
    assert npz.name == "some"


def test_a_folder_of_images_may_be_in_a_bucket(tmp_path):
    for number, (image, label) in enumerate(zip(*blobs(40, seed=0), strict=True)):
        folder = tmp_path / "mine" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    upload(tmp_path / "mine", "memory://b/mine")
    found = load("folder:memory://b/mine")
    assert found.num_classes == NUM_CLASSES and found.name == "mine"
    assert found.sha256 == load(f"folder:{tmp_path / 'mine'}").sha256


@pytest.mark.parametrize(
    "source", [{"dataset": "npz:memory://b/no"}, {"data_dir": "memory://b/no"}]
)
def test_data_that_is_not_there_is_said_to_be_missing(source):
    with pytest.raises(InputError, match="memory://b/no: nothing is there"):
        load(**source)


def test_a_bucket_that_does_not_answer_is_given_up_within_seconds(monkeypatch):
    monkeypatch.setattr(bucket, "PATIENCE", 0.1)
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *_, **__: time.sleep(5))
    with pytest.raises(InputError, match=r"cannot be read \(no answer within 0.1 sec"):
        Workdir(URL)


def test_a_bucket_without_leave_to_read_or_write_is_one_line(
    memory, small_data, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "find", broken)
        with pytest.raises(InputError, match="cannot be read.*gcloud auth"):
            Workdir(URL)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", broken)
    with pytest.raises(InputError, match="memory://b/run: cannot be written"):
        run_experiment(small_recipe(), URL, data_dir=small_data)


def test_a_bucket_that_fails_at_the_end_leaves_the_run_here(monkeypatch):
    run = Workdir(URL)
    with pytest.raises(RunError, match="is kept in"), run.lock():
        (run.path / "results.json").write_text("{}")
        monkeypatch.setattr(MemoryFileSystem, "pipe_file", broken)
    assert (run.path / "results.json").exists()


@pytest.mark.parametrize("scheme", ["gs", "nonsense"])
def test_a_missing_driver_is_one_line_and_exit_2(scheme, tmp_path, monkeypatch):
    hide = "import sys; sys.modules['gcsfs'] = None; sys.argv[0] = 'main';"
    done = subprocess.run(
        [
            *(sys.executable, "-c", f"{hide} from ssl_vae.main import run; run()"),
            *("--dataset=digits", f"--workdir={scheme}://b/run"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {scheme}://b/run: ")
    assert "pip install 'ssl_vae[gcs]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_copy_is_gone_when_the_process_ends():
    code = (
        "from ssl_vae.bucket import Mirror\n"
        f"mirror = Mirror({URL!r})\n"
        "(mirror.folder / 'a').touch(); mirror.push(); print(mirror.folder)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "ssl_vae-" in done.stdout
    assert not Path(done.stdout.strip()).exists()
