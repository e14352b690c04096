"""What a user may be told in one line instead of a traceback."""


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
