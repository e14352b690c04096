"""Compiled programs that outlive the process: a second start compiles nothing."""

import contextlib
import os

from ssl_vae.datasets import cache_dir
from ssl_vae.errors import InputError


def keep_compiled() -> None:
    """Has JAX keep what it compiles in the cache folder; call it before JAX is used.

    A folder that JAX_COMPILATION_CACHE_DIR names is taken in its place. Where none can
    be written, everything is compiled anew each time.
    """
    with contextlib.suppress(OSError, InputError):
        folder = cache_dir() / "xla"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
            # JAX would leave out what takes less than a second; there is much of that.
            os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
