"""The one exception that a user can cause."""


class InputError(ValueError):
    """Bad input: a flag, a config field, a file or a folder that cannot be used.

    Its message is one line that names the thing at fault and the remedy. The command
    line prints it after ``error:`` and exits with status 2; nothing has been written.
    """
