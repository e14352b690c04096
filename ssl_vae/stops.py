"""Signals that ask a run to stop."""

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ssl_vae.errors import say

STOP_SIGNALS = signal.SIGTERM, signal.SIGINT
STOPPED = 128 + signal.SIGTERM  # exit status
GRACE = 8.0  # seconds for the step boundary and the save after a signal


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; both end the process if it does not stop.

    The main thread may be in one long call, compiling or fitting, in which Python runs
    no handler. So a thread is told, and ends the process after GRACE seconds, or at
    the second signal. That is safe at any moment: what is on disk is whole, and the
    same command goes on from it.
    """
    heard = threading.Event()
    read, write = os.pipe()
    os.set_blocking(write, False)

    def watch() -> None:
        if not os.read(read, 1):  # closed: the work is done
            return
        heard.set()
        say("stopping; a second signal ends at once")
        if select.select([read], [], [], GRACE)[0] and not os.read(read, 1):
            return
        say("stopped: at once; the same command goes on from what was saved before")
        os._exit(STOPPED)

    threading.Thread(target=watch, daemon=True).start()
    old_write = signal.set_wakeup_fd(write)
    before = {n: signal.signal(n, lambda *_: None) for n in STOP_SIGNALS}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_write)
        os.close(write)
