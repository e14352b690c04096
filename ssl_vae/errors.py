"""What a user is told in one line instead of a traceback, and the exit status."""

import argparse
import codecs
import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn


class InputError(ValueError):
    """Bad input: a flag, a config field, a file or a folder that cannot be used.

    Its message is one line that names the thing at fault and the remedy. The command
    line prints it after ``error:`` and exits with status 2; nothing has been written.
    """


class RunError(RuntimeError):
    """A run that cannot go on: damaged or unwritable files, numbers that overflow.

    Its message is one line that names the fault and the remedy. The command line prints
    it after ``error:`` and exits with status 1; what was saved before is kept.
    """


class Stopped(Exception):
    """The run was asked to stop; what it had is saved and the same call goes on."""


def in_a_line(error: BaseException, most: int = 300) -> str:
    """What an error says, on one line of so many characters; or its kind's name."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else f"{text[:most]}..."


def say(text: str) -> None:
    """Tells the user one line, on stderr, if anybody still reads there."""
    with contextlib.suppress(OSError):
        print(" ".join(text.split()), file=sys.stderr, flush=True)  # noqa: T201


class Parser(argparse.ArgumentParser):
    """Of a command's arguments; says a description as it stands."""

    def __init__(self, *, prog: str, description: str) -> None:
        """See `argparse.ArgumentParser`."""
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, description=description, formatter_class=form)

    def error(self, message: str) -> NoReturn:
        """Raises InputError: the message and where help is."""
        raise InputError(f"{message}; see {self.prog} --help")


def path(text: str) -> Path:
    """The type of an argument that names a file or folder; ~ is the home."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~somebody whom nobody knows
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None


def exit_status(program: Callable[[], int]) -> int:
    """Runs a command to its end, whatever that is; Ctrl-C ends the process at once.

    Returns:
      The program's own status. 2 for bad input and 1 for what else went wrong, with one
      line on stderr; 0 where whoever reads has seen enough.
    """
    _open_output()
    try:
        status = _status_of(program)
        if not status:
            sys.stdout.flush()
    except BrokenPipeError:  # `| head`
        status = 0
    except InputError as error:
        say(f"error: {error}")
        status = 2
    except (RunError, OSError) as error:
        say(f"error: {error}")
        status = 1
    _drop_output()
    return status


def _status_of(program: Callable[[], int]) -> int:
    try:
        with _at_once_on_ctrl_c():
            return program()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)


@contextmanager
def _at_once_on_ctrl_c() -> Iterator[None]:
    """Lets the system end the process: an exception can be lost in JAX's callbacks."""
    pythons = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if pythons and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    else:
        yield


def _open_output() -> None:
    """Lets stdout take names of files that are no text, and what it has no code for.

    What was closed before the command began is opened: to nowhere.
    """
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
        how = "surrogateescape" if utf8 else "backslashreplace"
        sys.stdout.reconfigure(errors=how)


def _drop_output() -> None:
    """Keeps Python from trying again, at its end, to write what cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
