"""A check of the network that keeps its time limit."""

import queue
import threading
import urllib.error
import urllib.request

_SECONDS = 4.0


def why_unreachable(url: str, seconds: float = _SECONDS) -> str | None:
    """Reason why a file cannot be downloaded, None where it can.

    Asks as the download will, so proxies count. The answer of a thread is waited for:
    a lookup of the host's name may hang, and heeds no timeout of a socket.

    Args:
      url: address of the file; only its headers are asked for.
      seconds: limit for the whole check.
    """
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(
        target=lambda: answers.put(_ask(url, seconds)), daemon=True
    ).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return f"no answer within {seconds:g} seconds"


def _ask(url: str, seconds: float) -> str | None:
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=seconds):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return f"HTTP status {error.code}"
    except urllib.error.URLError as error:
        return str(error.reason)
    except Exception as error:  # a thread must answer, or the caller waits in vain
        return str(error) or type(error).__name__
