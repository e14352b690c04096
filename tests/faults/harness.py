"""What the tests of faults share: tiny runs as processes, and what must not change.

SSL_VAE_KILLS and SSL_VAE_EXAMPLES make them long, as `make soak` does; then a table of
the faults tried and survived is printed at the end.
"""

import atexit
import collections
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ssl_vae import config as recipes
from ssl_vae.classifiers import svm

KILLS = int(os.environ.get("SSL_VAE_KILLS", "0"))
EXAMPLES = int(os.environ.get("SSL_VAE_EXAMPLES", "25"))
SOAK = "SSL_VAE_KILLS" in os.environ
MAIN = ("-m", "ssl_vae.main")
COMMON = {
    "labels": (8,),
    "num_splits": 2,
    "importance_samples": 2,
    "model.latent_dim": 2,
    "model.hidden": (8,),
    "train.num_epochs": 12,
    "train.batch_size": 100,
    "train.checkpoint_every": 1,
}
JOINT = {"train.batch_size": 40, "train.labeled_batch_size": 8} | {
    "train.warmup_epochs": 1,
    "train.num_epochs": 4,
    "few.labels": 0,
}
FIRST = {
    "m1.model.latent_dim": 3,
    "m1.model.hidden": (8,),
    "m1.model.kl_weight": 0.01,
    "m1.train.num_epochs": 12,
    "m1.train.batch_size": 40,
    "m1.train.learning_rate": 1e-2,
}
STUDENT = {"student.num_epochs": 4, "student.checkpoint_every": 1} | {
    "student.batch_size": 28,
    "student.labeled_batch_size": 8,
}
TINY = {
    "m1_quick": COMMON,
    "m1_features": COMMON,
    "m1_graph": COMMON,
    "best": COMMON | STUDENT,
    "m2": COMMON | JOINT,
    "m1_m2": COMMON | JOINT | FIRST,
}


def recipe(name="m1_quick", **changes):
    """A recipe of the project, made tiny."""
    config = recipes.load(recipes.recipe_path(name))
    config.update_from_flattened_dict(TINY[name] | changes)
    return config


def command(workdir, data, name="m1_quick", *, program=MAIN, **changes):
    """The command line of `recipe(name, **changes)`."""
    fields = TINY[name] | changes
    labels = ",".join(map(str, fields["labels"]))
    return [
        *(sys.executable, *program),
        f"--config={recipes.recipe_path(name)}",
        f"--data_dir={data}",
        f"--workdir={workdir}",
        f"--labels={labels}",
        *(
            f"--config.{field}={value}"
            for field, value in fields.items()
            if field != "labels"
        ),
    ]


def run(*args, **options):
    """A command that ends by itself."""
    return subprocess.run(args, capture_output=True, text=True, timeout=300, **options)


def one_line(stderr):
    """The message of a run that failed: a line, after those of its progress."""
    assert "Traceback" not in stderr, stderr
    line = stderr.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def numbers(workdir):
    """All that a run must end with to the last bit, however often it was killed."""
    found = {"results": json.loads((workdir / "results.json").read_text())}
    for changing in ("seconds", "command"):
        del found["results"][changing]
    for path in workdir.rglob("metrics.jsonl"):
        found[str(path.relative_to(workdir))] = path.read_text()
    for path in workdir.rglob("vae_weights/meta/metadata"):  # digests of the weights
        found[str(path.relative_to(workdir))] = path.read_text()
    if (workdir / "classifier.skops").exists():
        classifier = svm.load_svm(workdir / "classifier.skops")
        some = np.linspace(-3, 3, 20 * classifier.n_features_in_).reshape(20, -1)
        found["classifier"] = classifier.decision_function(some).tolist()
    for path in workdir.rglob("graph.npy"):
        found[str(path.relative_to(workdir))] = np.load(path).tolist()
    assert any("vae_weights" in name for name in found)
    return found


def litter(workdir):
    """What killed processes left behind and nobody cleaned up."""
    names = ("*.partial", "*orbax-checkpoint-tmp*", "lock", "corrupt-*")
    return [path for name in names for path in workdir.rglob(name)]


TRIED, SURVIVED = collections.Counter(), collections.Counter()


@contextmanager
def fault(name):
    """Counts a fault as tried, and as survived if the block does not raise."""
    TRIED[name] += 1
    yield
    SURVIVED[name] += 1


def flip(path: Path, position: int, bit: int = 0) -> None:
    """Flips a bit of a file; the position counts on from the end again."""
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    path.write_bytes(content)


if SOAK:

    @atexit.register
    def summary():
        print(f"\n{'fault':<40} {'tried':>8} {'survived':>8}")  # noqa: T201
        for name in sorted(TRIED):
            print(f"{name:<40} {TRIED[name]:>8} {SURVIVED[name]:>8}")  # noqa: T201
        total, well = sum(TRIED.values()), sum(SURVIVED.values())
        print(f"{'all':<40} {total:>8} {well:>8}")  # noqa: T201
