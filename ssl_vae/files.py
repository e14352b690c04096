"""Files that are whole or not there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside this one to write to; its file then takes the place, in one rename.

    Whoever reads meets the old file or the new one and never a part, also where the
    writing ends in an error: that leaves the old one.
    """
    partial = path.with_name(path.name + ".partial")
    yield partial
    partial.replace(path)
