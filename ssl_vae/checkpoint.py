"""Training states and final weights on disk, each with a digest of every array.

The only importer of Orbax, which reads flipped bits back as if nothing were wrong.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from ssl_vae.errors import InputError, RunError, in_a_line

logger = logging.getLogger("ssl_vae")

FORMAT_VERSION = 1  # of what is saved beside the arrays, see `_describe`
KEEP = 2  # the newest states that stay on disk

Restore = Callable[..., Any]  # of Orbax's arguments


class Damaged(RunError):
    """What is on disk is not what was saved."""


class Checkpoints:
    """The states of one run in a folder, one subfolder a step; use it with `with`.

    A state is written in the background to a temporary name and renamed when whole, so
    a run killed at any moment leaves only whole states behind. Only one process at a
    time may use the folder: what an earlier one left half-written is removed.
    """

    def __init__(self, folder: Path):
        self._folder = folder.absolute()
        options = ocp.CheckpointManagerOptions(
            save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1),
            preservation_policy=checkpoint_managers.LatestN(KEEP),
            step_format_fixed_length=8,
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=options,
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "meta": ocp.JsonCheckpointHandler(),
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with _writing(self._folder):
            self._manager.close()  # waits for the write under way

    def save(self, step: int, state: Any) -> None:
        """Starts to write `state`; returns once its arrays may be reused.

        Raises:
          RunError: when this write, or the one before it, came to nothing.
        """
        with _writing(self._folder):
            # What the previous write met, before anything newer claims to be safe.
            self._manager.wait_until_finished()
            saved = self._manager.save(step, args=_save_args(state))
        if not saved:
            raise RuntimeError(f"step {step} was not saved: a later step is there")

    def restore(self, template: Any) -> Any | None:
        """The newest sound state, or None where none was ever saved.

        Damaged ones that are newer are set aside, with a warning.

        Args:
          template: A state of the same structure; gives shapes, dtypes and devices.

        Raises:
          InputError: for a state of another kind or format.
          Damaged: when there is no sound one left.
        """
        with _writing(self._folder):
            self._manager.wait_until_finished()
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restore = partial(self._manager.restore, step)
                return _load(restore, self._folder / f"{step:08d}", template)
            except Damaged as damage:
                self._set_aside(step, damage)
        if any(self._folder.glob("corrupt-*")):
            raise Damaged(
                f"{self._folder}: every saved state is damaged; remove that folder and"
                " give the same command again to train from the start"
            )
        return None

    def _set_aside(self, step: int, damage: Damaged) -> None:
        logger.warning("%s; set aside as corrupt-%d", damage, step)
        if jax.process_index() == 0:  # of several that have all found the damage
            aside = self._folder / f"corrupt-{step}"
            shutil.rmtree(aside, ignore_errors=True)
            (self._folder / f"{step:08d}").rename(aside)
        ocp.multihost.sync_global_processes(f"ssl_vae_set_aside_{step}")
        self._manager.reload()


def save_weights(folder: Path, params: Any) -> None:
    """Writes final weights under a temporary name, renamed when whole.

    Raises:
      ValueError: when the folder is there already.
      RunError: when they cannot be written.
    """
    if folder.exists():
        raise ValueError(f"{folder} already exists")
    with _writing(folder), _checkpointer() as checkpointer:
        checkpointer.save(folder.absolute(), args=_save_args(params))


def load_weights(folder: Path, template: Any) -> Any:
    """The weights in `folder`, shaped, typed and placed like `template`.

    Raises:
      InputError: for weights of another kind or format.
      Damaged: when they are not what was saved.
    """
    with _checkpointer() as checkpointer:
        try:
            restore = partial(checkpointer.restore, folder.absolute())
            return _load(restore, folder, template)
        except Damaged as damage:
            raise Damaged(
                f"{damage}; remove that folder, and the command of its run goes on from"
                " the last saved state"
            ) from damage


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(
        ocp.CompositeCheckpointHandler(
            state=ocp.StandardCheckpointHandler(), meta=ocp.JsonCheckpointHandler()
        )
    )


def _save_args(tree: Any) -> ocp.args.Composite:
    return ocp.args.Composite(
        state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(_describe(tree))
    )


def _load(restore: Restore, folder: Path, template: Any) -> Any:
    """What `_save_args` saved, after all checks; the exceptions name the folder."""
    if not (folder / "meta").is_dir():
        raise Damaged(f"{folder} is damaged (its digests are missing)")
    meta = _read(folder, restore, meta=ocp.args.JsonRestore())
    if not isinstance(meta, dict) or meta.pop("sha256", "") != _digest_of_json(meta):
        raise Damaged(f"{folder} is damaged (its digests)")
    version, arrays = meta["format_version"], meta["arrays"]
    if version != FORMAT_VERSION:
        raise InputError(
            f"{folder}: format_version is {version}, this version of ssl_vae reads"
            f" {FORMAT_VERSION}; choose another --workdir"
        )
    wanted = {name: _kind(leaf) for name, leaf in _leaves(template)}
    found = {name: each["kind"] for name, each in arrays.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise InputError(
                f"{folder}: of another model, {name} is {found.get(name, 'absent')}"
                f" there and {wanted.get(name, 'absent')} here; choose another"
                " --workdir"
            )
    # Through the template: it says on which devices the arrays go.
    tree = _read(folder, restore, state=ocp.args.StandardRestore(template))
    for name, leaf in _leaves(tree):
        if _digest(leaf) != arrays[name]["sha256"]:
            raise Damaged(f"{folder} is damaged ({name})")
    return tree


def _describe(tree: Any) -> dict[str, Any]:
    """What is saved beside the arrays, to recognize them by."""
    arrays = {
        name: {"kind": _kind(leaf), "sha256": _digest(leaf)}
        for name, leaf in _leaves(tree)
    }
    meta = {"format_version": FORMAT_VERSION, "arrays": arrays}
    return meta | {"sha256": _digest_of_json(meta)}


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _digest(leaf: jax.Array) -> str:
    """Of the array's dtype, shape and bytes."""
    array = np.ascontiguousarray(leaf)
    digest = hashlib.sha256(_kind(leaf).encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _digest_of_json(content: Any) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(folder: Path, restore: Restore, **item: Any) -> Any:
    """One item of what was saved, or the one exception for damage of any kind."""
    (name,) = item
    try:
        return restore(args=ocp.args.Composite(**item))[name]
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # Orbax raises nearly every type that there is
        raise Damaged(f"{folder} is damaged ({_in_short(error)})") from error


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Makes of whatever a full disk brings about the one exception for it."""
    try:
        yield
    except Exception as error:
        raise RunError(
            f"{folder}: could not be written ({_in_short(error)}); what was saved"
            " before is kept: see that the disk has room and give the same command"
            " again"
        ) from error


def _in_short(error: Exception) -> str:
    """What the disk says, or else the first words; TensorStore tells pages."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
        if (words := os.strerror(number)) in str(error):
            return words
    return in_a_line(error, 120)
