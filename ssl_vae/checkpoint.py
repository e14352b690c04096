"""Training states and final weights on disk; the only importer of Orbax."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

KEEP = 2  # the newest states that stay on disk


class Checkpoints:
    """The states of one run in a folder, one subfolder a step; use it with `with`.

    A state is written in the background to a temporary name and renamed when whole, so
    a run killed at any moment leaves only whole states behind.
    """

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(
            save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1),
            preservation_policy=checkpoint_managers.LatestN(KEEP),
            step_format_fixed_length=8,
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._manager.close()  # waits for the write under way and raises what it met

    def save(self, step: int, state: Any) -> None:
        """Starts to write `state`; returns once its arrays may be reused."""
        # Raises what the previous write met, before anything newer claims to be safe.
        self._manager.wait_until_finished()
        if not self._manager.save(step, args=ocp.args.StandardSave(state)):
            raise RuntimeError(f"step {step} was not saved: a later step is there")

    def restore(self, template: Any) -> Any | None:
        """The newest state, or None where there is none.

        Args:
          template: A state of the same structure; gives shapes, dtypes and devices.

        Raises:
          ValueError: when shapes or names on disk differ from the template's.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        return self._manager.restore(step, args=ocp.args.StandardRestore(template))


def save_weights(folder: Path, params: Any) -> None:
    """Writes final weights under a temporary name, renamed when whole.

    Raises:
      ValueError: when the folder is there already.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), params)


def load_weights(folder: Path, template: Any) -> Any:
    """The weights in `folder`, shaped, typed and placed like `template`.

    Raises:
      ValueError: when shapes or names on disk differ from the template's.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder.absolute(), template)
