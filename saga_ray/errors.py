"""The exception that a user is meant to read, and the one that is no failure."""


class UserError(Exception):
    """Something the user can put right: one sentence that says what is wrong, where, and what to do.

    The command line prints the sentence alone and exits with code 2; `--debug` adds the traceback.
    """


class Stopped(Exception):
    """A run that was asked to end before its last step has ended."""
