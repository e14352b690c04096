"""The processes that carry out one run together, on one machine or on many.

Every process gives its devices and does the same trainings. One of them leads: what
needs no devices, such as a classifier, it does alone, and it alone writes; the others
follow. A process that runs by itself leads.
"""

import faulthandler
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import jax
import numpy as np
from jax._src import distributed  # its key-value store has no public name
from jax.experimental import multihost_utils

from ssl_vae.errors import InputError, RunError, Stopped, say

_numbers = itertools.count()  # of teams: what is told stays told until all have ended


class Team:
    """This process among those of the run; `go` must be called by all in turn.

    All make as many teams: one run's may have ended in different rounds.
    """

    def __init__(self, stop: Callable[[], bool] = lambda: False) -> None:
        """With what says whether this process was asked to stop."""
        check_devices()
        self._stop = stop
        self.size = jax.process_count()
        self.leads = jax.process_index() == 0
        self._number, self._round = next(_numbers), 0
        self._asked = f"ssl_vae/{self._number}/asked"  # of the one that leads

    def go(self) -> None:
        """Waits for the one that leads; it waits for nobody.

        Raises:
          Stopped: when it was asked to stop.
          RunError: when it has ended.
        """
        if self.leads:
            self._tell("go")
            return
        key = self._next()
        while (said := _told(key)) is None:
            if self._stop():
                _store().key_value_set(f"{self._asked}/stop", "", allow_overwrite=True)
        if said == "go":
            return
        kind, _, text = said.partition(": ")
        raise Stopped(text) if kind == "stopped" else RunError(text)

    @contextmanager
    def led(self) -> Iterator[None]:
        """Tells those that follow when the one that leads does not go on."""
        try:
            yield
        except Stopped as stopped:
            self._tell(f"stopped: {stopped}")
            raise
        except BaseException as error:
            self._tell(f"ended: process 0 has ended ({type(error).__name__}): {error}")
            raise

    def _tell(self, text: str) -> None:
        if self.leads and self.size > 1:
            _store().key_value_set(self._next(), text)

    def _next(self) -> str:
        self._round += 1
        return f"ssl_vae/{self._number}/{self._round}"

    def stop(self) -> bool:
        """Whether this process was asked to stop, or one that waits for it was."""
        if self._stop():
            return True
        if not self.leads or self.size == 1:
            return False
        return bool(_store().key_value_dir_get(self._asked))

    def any(self, flag: bool) -> bool:
        """Whether the flag is true in any process; all must ask."""
        if self.size == 1:
            return flag
        return bool(np.any(multihost_utils.process_allgather(np.array(flag))))

    def share(self, array: np.ndarray) -> np.ndarray:
        """The array of the one that leads; the others give one of its shape."""
        if self.size == 1:
            return array
        self.go()
        return np.asarray(multihost_utils.broadcast_one_to_all(array))

    def check_agreement(self, sha256: str) -> None:
        """Refuses processes that were started to do different things.

        Args:
          sha256: Hex digest of what this one is to do.

        Raises:
          InputError: in all of them.
        """
        if self.size == 1:
            return
        self.go()
        mine = np.frombuffer(bytes.fromhex(sha256), np.uint8)
        if (multihost_utils.process_allgather(mine) != mine).any():
            raise InputError(
                "the processes of this run were given different recipes, labels or"
                " data; give all of them the same command and the same --workdir"
            )


def check_devices() -> None:
    """Refuses to go on without a device, most likely for a wrong JAX_PLATFORMS.

    Raises:
      InputError: naming it, and what JAX says.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX's own, without a word
        why = f" ({_first_line(error)})" if str(error) else ""
        asked = os.environ.get("JAX_PLATFORMS")
        if not asked:
            raise InputError(f"JAX finds no device that it can use{why}") from None
        raise InputError(
            f"JAX_PLATFORMS={asked}: JAX finds no such device{why}; see that it is"
            " free, or leave this unset"
        ) from None


def _store() -> Any:
    """What the processes tell each other without their devices: text by key."""
    return distributed.global_state.client


def _told(key: str) -> str | None:
    """What is told under a key; None if that is not yet so after a second."""
    try:
        return str(_store().blocking_key_value_get(key, 1000))
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        return None


def begin(
    mode: str,
    *,
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    patience: int,
) -> None:
    """Joins this process to the others of its run, before any other use of JAX.

    Args:
      mode: "on", "off" or "auto": on if an address is given or JAX knows the machine,
        such as a slice of Cloud TPU or a job of Slurm, to be one of several.
      coordinator_address: HOST:PORT of process 0; JAX knows it where it knows the
        machine, and so it does the next two.
      num_processes: How many there are.
      process_id: Which one this is, from 0 on.
      patience: Seconds until a process that does not come, or falls silent, is missed.

    Raises:
      InputError: when it is not known who the others are.
    """
    if mode == "off":
        return
    if mode == "auto" and not (coordinator_address or _known()):
        if (num_processes or 1) > 1 or process_id:
            raise InputError(
                "--num_processes and --process_id need the --coordinator_address at"
                " which the processes meet"
            )
        return
    # SIGTERM is ours: the processes agree on the step at which they stop.
    jax.config.update("jax_enable_preemption_service", False)
    faulthandler.disable()  # JAX aborts when another dies; its own words say so
    where = coordinator_address or "the coordinator"
    # JAX itself ends a process that has waited in vain, and with pages of C++.
    late = threading.Timer(patience, _give_up, [where, patience])
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            initialization_timeout=patience + 60,
            heartbeat_timeout_seconds=patience,
            shutdown_timeout_seconds=patience,  # of one that fails while others wait
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"--distributed={mode}: {_first_line(error).rstrip('.')}; give"
            " --coordinator_address, --num_processes and --process_id"
        ) from None
    finally:
        late.cancel()
    _check_number(distributed.global_state.num_processes)


def _check_number(mine: int) -> None:
    """Refuses processes that were told different numbers of themselves: all of them.

    JAX goes by the number of process 0.

    Raises:
      InputError: with two that differ.
    """
    _store().key_value_set(
        f"ssl_vae/of/{distributed.global_state.process_id}", f"{mine}"
    )
    of_first = _number_of(0)
    for other in range(1, of_first):
        if (number := _number_of(other)) != of_first:
            raise InputError(
                f"--num_processes={mine}: process 0 was given {of_first} and process"
                f" {other} {number}; give all of them the same"
            )


def _number_of(process: int) -> int:
    while (said := _told(f"ssl_vae/of/{process}")) is None:
        pass
    return int(said)


@contextmanager
def ended_with_others() -> Iterator[None]:
    """Ends this process, with one line, where an exchange with a dead one fails.

    So it does between CPUs, at once. Where there is no exchange, and on accelerators,
    it is JAX that misses the other after a while, and ends this process in its words.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # the latter: of a gather
        if "Gloo" not in str(error):
            raise
        say(
            "error: another process of this run has died or cannot be reached any more"
            f" ({_first_line(error)}); start all of them again, and the run goes on"
            " from its newest checkpoint"
        )
        os._exit(1)  # whatever is closed in good order waits for the other


def _known() -> bool:
    """Whether JAX knows this machine to be one of several."""
    from jax._src.clusters import ClusterEnv  # late: it looks around when imported

    kinds = ClusterEnv._cluster_types
    return any(kind.is_env_present() for kind in kinds if not kind.opt_in_only_method)


def _give_up(where: str, patience: int) -> NoReturn:
    say(
        f"error: --coordinator_address={where}: the processes of this run have not all"
        f" met there within {patience} seconds; see that process 0 runs at that"
        " address, that the port is open, and that all were given the same"
        " --num_processes and each its own --process_id"
    )
    os._exit(2)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
