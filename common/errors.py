"""The one exception that a user can cause."""


class UserError(Exception):
    """Something the user gave is wrong.

    The message is one line that says what is wrong and what to do. Commands print it and end with
    exit code 2; every other exception is a bug and keeps its traceback.
    """
