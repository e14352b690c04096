"""Folders in a bucket (gs://...), through a copy on this machine that follows them.

A run's folder needs renames, appended lines and a lock, and a bucket has none of these.
So all work is done in a copy: `pull` fetches what is there, `push` sends what is new. A
push may be cut off anywhere; the object LISTING, written near its end, names the files
that are whole together, and a pull fetches no others.

The only importer of fsspec, whose drivers know the kinds of buckets.
"""

import atexit
import errno
import json
import logging
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

from ssl_vae.clock import in_time
from ssl_vae.errors import InputError, RunError, in_a_line

logger = logging.getLogger("ssl_vae")

LISTING = ".files.json"
PATIENCE = 15.0  # seconds for the first answer; a driver may retry for a minute
INTERVAL = 20.0  # seconds between two looks for what is new
_NO_ROOM = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
_MARKS = ("size", "etag", "md5Hash", "generation", "mtime", "created")


def is_url(path: object) -> bool:
    """Whether a path names something in a bucket.

    Raises:
      InputError: for an address that was made a Path, and has lost a slash by that.
    """
    if isinstance(path, Path) and re.match(r"[a-z]\w+:/", str(path)):
        raise InputError(f"{path}: give the address of a bucket as text, not as a Path")
    return "://" in str(path)


def fetched(path: str | Path) -> Path:
    """A file or folder on this machine: the path itself, or a copy of what it names.

    Raises:
      InputError: when a bucket has nothing there, or cannot be read.
    """
    if not is_url(path):
        return Path(path).expanduser()
    copy = mirror(str(path)).pull()
    if copy.is_dir() and not any(copy.iterdir()):
        raise InputError(f"{path}: nothing is there")
    return copy


@cache
def mirror(url: str) -> "Mirror":
    """This process's one copy of a folder in a bucket."""
    return Mirror(url)


class Mirror:
    """A folder in a bucket and its copy on this machine.

    Attributes:
      url: The folder's address.
      folder: The copy, which is removed when the process ends.
    """

    def __init__(self, url: str):
        import fsspec  # late: paths on this machine need none of it

        logging.getLogger("gcsfs").disabled = True  # what matters is raised
        self.url = url.rstrip("/")
        options = {"skip_instance_cache": True, "use_listings_cache": False}
        try:
            connect = partial(fsspec.url_to_fs, self.url, **options)
            self._files, root = in_time(
                connect, PATIENCE
            )  # it may look for credentials
        except (ImportError, ValueError) as error:
            raise InputError(
                f"{url}: {in_a_line(error)}; for gs:// pip install 'ssl_vae[gcs]'"
            ) from None
        except Exception as error:  # every driver has exceptions of its own
            raise self._unreadable(error) from None
        temporary = Path(tempfile.mkdtemp(prefix="ssl_vae-"))
        self._remove = partial(shutil.rmtree, temporary, ignore_errors=True)
        atexit.register(self._remove)
        self._root = root.rstrip("/")
        self.folder = temporary / self._root.lstrip("/")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._there: dict[str, Any] = {}  # what the bucket had, and its marks
        self._sent: dict[str, Any] = {}  # what of it the copy had, and its marks
        self._listed = False

    def pull(self) -> Path:
        """Makes the copy what the bucket is; files that only the copy has stay.

        Returns:
          The copy: `folder`, or the file in it when the address is that of a file.

        Raises:
          InputError: when the bucket cannot be read.
        """
        try:
            in_time(self._contact, PATIENCE)
            there = self._listing()
            new = [name for name in there if self._there.get(name) != there[name]]
            if new:
                copies = [str(self._copy(name)) for name in new]
                self._files.get([self._object(name) for name in new], copies)
        except Exception as error:  # as above
            raise self._unreadable(error) from None
        for name in self._there.keys() - there.keys():
            (self.folder / name).unlink(missing_ok=True)
        here = self._here()
        self._there = there
        self._sent |= {name: here[name] for name in new if name in here}
        return self._copy("") if "" in there else self.folder

    def push(self) -> None:
        """Makes the bucket what the copy is; what is not finished is left out.

        Raises:
          RunError: when the bucket cannot be written; the copy is kept.
        """
        try:
            self._push()
        except Exception as error:  # as above
            atexit.unregister(self._remove)  # nothing else has the run
            raise RunError(
                f"{self.url}: cannot be written ({in_a_line(error)}); the run is kept"
                f" in {self.folder}"
            ) from None

    @contextmanager
    def following(self) -> Iterator[None]:
        """Pushes at once, every INTERVAL seconds, and at the end.

        Raises:
          InputError: when the bucket cannot be written from the start.
          RunError: when it cannot be at the end.
        """
        try:
            in_time(self._push, PATIENCE)
        except Exception as error:  # as above
            raise InputError(
                f"{self.url}: cannot be written ({in_a_line(error)}); see that the"
                " bucket exists and that you may write to it"
            ) from None
        done = threading.Event()
        thread = threading.Thread(target=self._follow, args=[done], daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.push()

    def _follow(self, done: threading.Event) -> None:
        told = False
        while not done.wait(INTERVAL):
            try:
                self._push()
            except FileNotFoundError:
                pass  # a state that was removed in the meantime: the next look is sound
            except Exception as error:  # as above
                if not told:
                    reason = in_a_line(error)
                    logger.warning("%s: cannot be written (%s)", self.url, reason)
                told = True

    def _push(self) -> None:
        here = self._here()
        new = [name for name in here if self._sent.get(name) != here[name]]
        gone = self._sent.keys() - here.keys()
        if self._listed and not new and not gone:
            return
        # With its results a run is finished: they go when all else is there.
        for names in (set(new) - {"results.json"}, set(new) & {"results.json"}):
            copies = [str(self.folder / name) for name in names]
            if copies:
                self._files.put(copies, [self._object(name) for name in names])
        listing = json.dumps(sorted(here), indent=0)
        self._files.pipe_file(self._object(LISTING), listing.encode())
        for name in gone:
            with suppress(FileNotFoundError):  # an earlier push was cut off
                self._files.rm_file(self._object(name))
        self._sent, self._listed = here, True
        self._there = self._listing()

    def _unreadable(self, error: Exception) -> InputError:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return InputError(
                f"{self.url}: cannot be copied to {self.folder} ({error.strerror});"
                " make room there, or set TMPDIR to a folder with more"
            )
        return InputError(
            f"{self.url}: cannot be read ({in_a_line(error)}); see that the bucket"
            " exists and that you may read it: gcloud auth application-default login"
        )

    def _object(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _copy(self, name: str) -> Path:
        return self.folder / (name or PurePosixPath(self._root).name)

    def _contact(self) -> None:
        """Raises what the driver does where the bucket cannot be read."""
        with suppress(FileNotFoundError):  # to be a new run's
            self._files.info(self._root)

    def _listing(self) -> dict[str, Any]:
        """Names of the whole files in the bucket, with what tells a change of each.

        The name is "" if the address is that of a file.
        """
        found = {
            path.removeprefix(self._root).removeprefix("/"): [
                str(info.get(mark)) for mark in _MARKS
            ]
            for path, info in self._files.find(self._root, detail=True).items()
            if not path.endswith("/")  # stands for a folder
        }
        if found.pop(LISTING, None):
            whole = set(json.loads(self._files.cat_file(self._object(LISTING))))
            found = {name: marks for name, marks in found.items() if name in whole}
        for name in found:
            if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
                raise ValueError(f"it has an object {name!r}")
        return found

    def _here(self) -> dict[str, Any]:
        """Names of the finished files of the copy, with what tells a change of each."""
        found = {}
        for path in self.folder.rglob("*"):
            inside = path.relative_to(self.folder)
            name = inside.as_posix()
            unfinished = any(part.endswith(".partial") for part in inside.parts)
            if unfinished or name == "lock" or ".orbax-checkpoint-tmp" in name:
                continue
            try:
                if path.is_file():
                    status = path.stat()
                    found[name] = status.st_mtime_ns, status.st_size, status.st_ino
            except FileNotFoundError:
                continue  # has just been removed
        return found
