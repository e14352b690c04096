"""A check of the network that keeps its time limit."""

import urllib.error
import urllib.request
from functools import partial

from ssl_vae.clock import in_time

_SECONDS = 4.0


def why_unreachable(url: str, seconds: float = _SECONDS) -> str | None:
    """Reason why a file cannot be downloaded, None where it can.

    Asks as the download will, so proxies count.

    Args:
      url: address of the file; only its headers are asked for.
      seconds: limit for the whole check.
    """
    try:
        return in_time(partial(_ask, url, seconds), seconds)
    except TimeoutError as error:
        return str(error)


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
    except Exception as error:  # of a proxy, of a certificate, ...
        return str(error) or type(error).__name__
