"""The folder of one run: what lies in it under which name, and whose it is."""

import contextlib
import json
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

from ml_collections import ConfigDict

from ssl_vae import bucket
from ssl_vae import config as recipes
from ssl_vae.errors import InputError, RunError, in_a_line
from ssl_vae.files import locked, replacing
from ssl_vae.stage import Stage, stages_of_labels

logger = logging.getLogger("ssl_vae")

FORMAT_VERSION = 1
MAX_JSON_BYTES = 64 << 20


def write_json(path: Path, content: Any) -> None:
    """Writes strict JSON (no NaN) in one rename: never a half-written file."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
      InputError: naming the file, when it is not JSON.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError("far too large")
        return json.loads(path.read_text(), parse_constant=_refuse)
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(
            f"{path}: not a JSON file ({error}); move it away or choose another"
            " --workdir"
        ) from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


class Workdir:
    """Paths of a run's files.

    Attributes:
      path: The folder; of a run in a bucket the copy on this machine.
      name: The folder as a user knows it: a path or an address.
    """

    def __init__(self, path: str | Path):
        self._mirror = bucket.mirror(str(path)) if bucket.is_url(path) else None
        try:
            self.path = (
                self._mirror.pull()
                if self._mirror
                else Path(path).expanduser().absolute()
            )
            str(self.path).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"--workdir={path}: weights are saved in folders whose names are UTF-8;"
                " choose another"
            ) from None
        except (OSError, RuntimeError) as error:
            raise InputError(f"--workdir={path}: {error}") from None
        self.name = self._mirror.url if self._mirror else str(self.path)
        self.config = self.path / "config.json"
        self.results = self.path / "results.json"

    def check(self, *, may_be_finished: bool = False) -> None:
        """Refuses a path that cannot become or be a run's folder; writes nothing.

        Args:
          may_be_finished: Whether a folder with results need not be one to write to.

        Raises:
          InputError: naming `--workdir` and what is in the way.
        """
        try:
            there = next(p for p in [self.path, *self.path.parents] if p.exists())
            if not there.is_dir():
                raise InputError(f"--workdir={self.path}: {there} is not a folder")
            if self.path.is_symlink() and there != self.path:
                raise InputError(f"--workdir={self.path}: a link to nowhere")
            if may_be_finished and self.results.exists():
                return
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not there.exists():
                # A process that made it, and was refused, has just removed it.
                self.check(may_be_finished=may_be_finished)
                return
            raise InputError(
                f"--workdir={self.path}: cannot be written ({error.strerror}); choose a"
                " folder of yours"
            ) from None

    def recipe(self) -> ConfigDict:
        """The recipe in the run's config.json, checked as if it were new.

        Raises:
          InputError: where it cannot be read.
        """
        content = read_json(self.config)
        if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
            raise InputError(f"{self.config}: not a run's config.json")
        try:
            recipe = ConfigDict(_with_tuples(content["config"]))
            recipes.validate(recipe)
        except (ValueError, TypeError, AttributeError) as error:  # of its names
            raise InputError(f"{self.config}: {error}") from None
        return recipe

    def check_owner(self, config: dict[str, Any], dataset: dict[str, Any]) -> None:
        """Refuses a folder that holds a run of another recipe or on other data.

        Args:
          config: The whole recipe.
          dataset: Name, counts and digest of the data.

        Raises:
          InputError: with the differences.
        """
        if not self.config.exists():
            names = ("results.json", "vae_weights", "steps", "m1", "labels-*")
            if orphans := [p for name in names for p in self.path.glob(name)]:
                raise InputError(
                    f"{orphans[0]}: of a run whose config.json is gone; move it away or"
                    " choose another --workdir"
                )
            return
        theirs, mine = read_json(self.config), _identity(config, dataset)
        if not isinstance(theirs, dict) or theirs.keys() != mine.keys():
            raise InputError(
                f"{self.config}: not a run's config.json; choose another --workdir"
            )
        unlike = recipes.differences(theirs, mine)
        fields = {phrase.split()[0] for phrase in unlike}
        if "dataset.sha256" in fields <= {"dataset.name", "dataset.sha256"}:
            there, here = (
                run["dataset"].get("images_sha256") for run in (theirs, mine)
            )
            if there and there == here:
                raise InputError(
                    f"--workdir={self.name} holds a run of the same images with other"
                    " labels; choose another --workdir"
                )
        if unlike:
            raise InputError(
                f"--workdir={self.name} holds another run: {'; '.join(unlike)};"
                " choose another --workdir"
            )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes out of the folder, which is made if need be.

        The system drops the lock when its owner ends, however it ends. A bucket has no
        locks: there the folder is made to follow its copy, at last when this ends.

        Raises:
          InputError: naming the process that has the folder.
        """
        path = self.path / "lock"
        following = self._mirror.following() if self._mirror else nullcontext()
        with following, _open_locked(path) as file:
            file.truncate(0)
            since = time.strftime("%Y-%m-%d %H:%M:%S%z")
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    self.path.rmdir()  # if nothing came of it

    @property
    def in_bucket(self) -> bool:
        """Whether `path` is only this process's copy of the folder."""
        return self._mirror is not None

    def push(self) -> None:
        """Sends what was written outside of `lock` to the bucket, if there is one."""
        if self._mirror:
            self._mirror.push()

    def address(self, path: Path) -> Path | str:
        """Where a user finds a file of the folder."""
        if not self._mirror:
            return path
        return f"{self.name}/{path.relative_to(self.path).as_posix()}"

    def claim(self, config: dict[str, Any], dataset: dict[str, Any]) -> None:
        """Makes the folder this run's; to be called under its lock.

        The rows of results that are asked for may change from one command to the next;
        the file tells those of the newest.

        Raises:
          InputError: when another run has been faster.
        """
        self.check_owner(config, dataset)
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.config, _identity(config, dataset))

    def stage(self, name: str = "") -> Stage:
        """The training of M1, in a subfolder or in the run's own folder."""
        return Stage(self.path / name)

    def stage_of_splits(self, num_labels: int, splits: range) -> Stage:
        """The training for these label splits."""
        return Stage.of_labels(self.path, num_labels, splits)

    def stage_of_whole(self, num_labels: int) -> Stage:
        """The training for `Splits.whole`."""
        return Stage.of_labels(self.path, num_labels, None)

    def stages(self) -> list[Stage]:
        """Where trainings of M1 would be, then those of labels that are there.

        Of label splits by their number of labels, then of all labels.
        """
        of_m1 = [self.stage(), self.stage("m1")]
        return [*of_m1, *stages_of_labels(self.path)]

    def groups_of_splits(self, num_labels: int, num_splits: int) -> list[range]:
        """Label splits that are trained together, at least `num_splits` in all.

        Those that the folder holds stay together; the splits that are missing beyond
        them follow.
        """
        stages = stages_of_labels(self.path)
        there = [s.splits for s in stages if s.num_labels == num_labels and s.splits]
        bounds = {splits.start: splits for splits in there}
        groups, covered = [], 0
        while covered in bounds:
            groups.append(bounds[covered])
            covered = bounds[covered].stop
        if covered < num_splits:
            groups.append(range(covered, num_splits))
        return groups

    def graph(self, num_labels: int) -> Path:
        """What the classifier of so many labels knows of the graph of the images."""
        return self.path / f"labels-{num_labels}" / "graph.npy"

    def copy_m1_to(self, stage: Stage) -> None:
        """Makes a training's folder a copy of the finished one in this run's own.

        The config.json comes along, and tells where that is from, unless it is a run's
        own folder too.

        Raises:
          RunError: when it cannot be copied.
        """
        mine, taken = self.stage(), stage.path / "taken.partial"
        try:
            shutil.rmtree(taken, ignore_errors=True)
            shutil.copytree(mine.weights, taken / mine.weights.name)
            shutil.copy(self.config, taken)
            if mine.metrics.exists():  # it may do without
                shutil.copy(mine.metrics, stage.metrics)
            if not (stage.path / self.config.name).exists():
                (taken / self.config.name).replace(stage.path / self.config.name)
            (taken / mine.weights.name).replace(stage.weights)  # last: it is all there
        except OSError as error:
            raise RunError(
                f"{self.name}: cannot be copied to {stage.path} ({in_a_line(error)})"
            ) from None
        finally:
            shutil.rmtree(taken, ignore_errors=True)
            with contextlib.suppress(OSError):
                stage.path.rmdir()  # if nothing came of it


def _open_locked(path: Path) -> IO[str]:
    """The lock file of a run's folder, made if need be, open and locked."""
    try:
        file, alone = locked(path, wait=False)
    except BlockingIOError:
        owner = "another process"
        with contextlib.suppress(FileNotFoundError):  # it has just gone
            owner = path.read_text()[:200] or owner
        raise InputError(
            f"--workdir={path.parent}: in use by {owner}; wait for it or choose"
            " another --workdir"
        ) from None
    if not alone:  # some network file systems
        logger.warning("%s: no locks are to be had in this file system", path)
    return file


def _with_tuples(content: Any) -> Any:
    """What JSON made lists, as the tuples that a recipe has."""
    if isinstance(content, dict):
        return {name: _with_tuples(value) for name, value in content.items()}
    return tuple(content) if isinstance(content, list) else content


def _identity(config: dict[str, Any], dataset: dict[str, Any]) -> dict[str, Any]:
    """What makes a run this run: the content of config.json."""
    content = {
        "format_version": FORMAT_VERSION,
        "config": config,
        "dataset": dataset,
    }
    return json.loads(json.dumps(content))  # tuples become lists, as in the file
