"""A picture that fails must never lose a run's numbers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ssl_vae.errors import in_a_line

logger = logging.getLogger("ssl_vae")


@contextmanager
def attempt(what: str) -> Iterator[None]:
    """Turns whatever goes wrong inside the `with` into one line of the log."""
    try:
        yield
    except Exception as error:  # of any kind: the run is worth more than its picture
        logger.warning("no %s: %s: %s", what, type(error).__name__, in_a_line(error))
