"""Files that are whole or not there, and files that one process has to itself."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside this one to write to; its file then takes the place, in one rename.

    Whoever reads meets the old file or the new one and never a part, also where the
    writing ends in an error: that leaves the old one.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def locked(path: Path, *, wait: bool) -> tuple[IO[str], bool]:
    """A lock file, made if need be with its folder, and open until its owner is done.

    Whoever is done removes it, and the folder where nothing else is in it, and closes
    it then. The system drops the lock of a process that ends, however it ends.

    Args:
      path: The file.
      wait: For its owner, if another process has it.

    Returns:
      The file, and whether it is this process's alone. It is not on a file system
      without locks.

    Raises:
      BlockingIOError: another process has it, and nobody is to wait.
      OSError: the folder or the file cannot be made.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+")
        except FileNotFoundError:  # its last owner has just removed the folder
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.close()
            raise
        except OSError:
            return file, False
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file, True
        file.close()  # its last owner has just removed it
