"""The errors a user can meet."""


class UserError(Exception):
    """A bad input: one sentence that names what is wrong and what to do.

    The command line prints it and exits with code 2.
    """


class Diverged(Exception):
    """A run whose numbers are no longer finite: one sentence that says where, and what to try.

    The command line prints it and exits with code 1. What was saved before stays.
    """
