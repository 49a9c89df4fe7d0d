"""The errors a user sees: each message names the thing that is wrong and the way out."""

from collections.abc import Mapping


class UserError(Exception):
    """Input or configuration is wrong. The command line prints the message and exits with `exit_code`."""

    exit_code = 2


class EnvironmentFault(UserError):
    """Storage, disk, weights or an engine failed. Finished work is kept; the same command resumes it."""

    exit_code = 75


class BadRows(Exception):
    """A stage cannot take some of the rows that it was given: they are rejected with their reasons, the others computed."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        """reasons: by the row's place in what the stage was given; its kind, a colon and what is wrong."""
        super().__init__("; ".join(reasons.values()))
        self.reasons = dict(reasons)


class CeilingReached(UserError):
    """The run has made or spent what it was allowed to. Finished work is kept; with a higher ceiling the same command goes on."""

    exit_code = 3


class Interrupted(UserError):
    """The run was asked to stop. Finished work is kept; the same command resumes it."""

    exit_code = 75
