"""Processes that write in one folder, one after the other."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO, Self


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
        self._lock = _locked(folder / "lock")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        (self.folder / "lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are at work there, without locks
            self.folder.rmdir()
        self._lock.close()


def _locked(lock: Path) -> IO[bytes]:
    """The file, as soon as this process has it alone, and nothing is beside it."""
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = lock.open("ab")
        except FileNotFoundError:  # the folder's last owner has just removed it
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            return file
        if _is_at(lock, file):
            for left in lock.parent.iterdir():
                if left != lock:
                    left.unlink(missing_ok=True)
            return file
        file.close()  # its last owner has removed it


def _is_at(path: Path, file: IO[bytes]) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    return False
