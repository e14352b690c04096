"""Where the time of a run goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds spent in each named part of a run."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        parts = ["data", "compile", "train", "features", "classifier"]
        self._seconds = dict.fromkeys(parts, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time inside the `with` to the part."""
        start = time.monotonic()
        yield
        self._seconds[name] += time.monotonic() - start

    def read(self, before: dict[str, float]) -> dict[str, float]:
        """Seconds by part and in total, those of earlier commands `before` included."""
        seconds = self._seconds | {"total": time.monotonic() - self._start}
        return {name: round(s + before.get(name, 0), 2) for name, s in seconds.items()}
