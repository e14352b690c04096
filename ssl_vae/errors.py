"""What a user may be told in one line instead of a traceback."""

import argparse
import sys
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
    """Tells the user one line, on stderr."""
    print(" ".join(text.split()), file=sys.stderr, flush=True)  # noqa: T201


def say_why(error: InputError | RunError) -> int:
    """Tells what ends a command, and returns its exit status."""
    say(f"error: {error}")
    return 2 if isinstance(error, InputError) else 1


class Parser(argparse.ArgumentParser):
    """Of a command's arguments; says a description as it stands."""

    def __init__(self, *, prog: str, description: str) -> None:
        """See `argparse.ArgumentParser`."""
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, description=description, formatter_class=form)

    def error(self, message: str) -> NoReturn:
        """Raises InputError: the message and where help is."""
        raise InputError(f"{message}; see {self.prog} --help")
