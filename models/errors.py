"""The errors a user sees: each message names the thing that is wrong and the way out."""


class UserError(Exception):
    """Input or configuration is wrong. The command line prints the message and exits with `exit_code`."""

    exit_code = 2


class EnvironmentFault(UserError):
    """Storage, disk, weights or an engine failed. Finished work is kept; the same command resumes it."""

    exit_code = 75


class Interrupted(UserError):
    """The run was asked to stop. Finished work is kept; the same command resumes it."""

    exit_code = 75
