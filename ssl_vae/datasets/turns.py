"""Processes that write in one folder, one after the other."""

import contextlib
from pathlib import Path
from typing import Self

from ssl_vae.files import locked


class Turn:
    """A folder to write in that no other process has; it is there while this is open.

    What processes that were killed have left in it is removed. On a file system without
    locks nobody waits, and nothing is removed that may be of a process at work.

    Attributes:
      folder: The folder.
    """

    def __init__(self, folder: Path):
        """Waits for it.

        Raises:
          OSError: the folder cannot be made.
        """
        self.folder = folder
        self._lock, alone = locked(folder / "lock", wait=True)
        for left in folder.iterdir() if alone else ():
            if left.name != "lock":
                left.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        (self.folder / "lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are at work there, without locks
            self.folder.rmdir()
        self._lock.close()
