"""The error a user can meet."""


class UserError(Exception):
    """A bad input: one sentence that names what is wrong and what to do.

    The command line prints it and exits with code 2.
    """
