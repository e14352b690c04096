"""Where the time of a run goes, and waiting no longer than one wants to."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


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


def in_time(function: Callable[[], T], seconds: float) -> T:
    """What a function returns, or the exception that it took too long.

    In a thread that may outlive this: a lookup of a host's name heeds no timeout.

    Raises:
      TimeoutError: after so many seconds; and whatever the function raises.
    """
    answers: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def answer() -> None:
        try:
            answers.put((function(), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=answer, daemon=True).start()
    try:
        found, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} seconds") from None
    if error:
        raise error
    return found
