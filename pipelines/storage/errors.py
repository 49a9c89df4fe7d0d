"""What goes wrong with storage, in the user's words: whose fault it is, and what to do."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from models.errors import EnvironmentFault, UserError


@contextlib.contextmanager
def explain_errors(path: str, doing: str) -> Iterator[None]:
    """Raise what a storage library raises inside the block as one message; that a file is there, or not, passes."""
    try:
        yield
    except Exception as error:
        answer = isinstance(error, FileExistsError) or (isinstance(error, FileNotFoundError) and doing != "written")
        if (answer and code_of(error) != "NoSuchBucket") or not (isinstance(error, OSError) or remote(error)):
            raise
        raise fault(error, path, doing) from error


CREDENTIALS = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
AGAIN = "run the same command again: finished work is kept"
REASONS = {
    "expired": (
        ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"),
        f"the credentials have expired. Renew {CREDENTIALS} and {AGAIN}.",
    ),
    "refused": (
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AccessDenied", "401", "403"),
        f"the storage refuses these credentials. Correct {CREDENTIALS}, or their permissions, and {AGAIN}.",
    ),
    "unsaid": (  # the answer to a HEAD request has no body to say why
        ("400",),
        f"the storage refuses the request (HTTP 400), as it does when credentials have expired. Renew {CREDENTIALS} "
        f"and {AGAIN}.",
    ),
    "busy": (
        ("SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "RequestLimitExceeded", "503"),
        "the storage asks to slow down, and still did after several retries, each later than the last. Wait, or lower "
        f"--set profile.writer.tasks, and {AGAIN}.",
    ),
}
"""Codes of an S3 error, and what follows from them."""


def fault(error: BaseException, path: str, doing: str = "written") -> UserError:
    """Return `error` of a storage as a message that names `path` and the way out.

    A bucket that is not there is a UserError: the words of the command are wrong, or everything it made is gone. All else
    can be repaired while finished work lies there, and is an EnvironmentFault.
    """
    # What the server's own code says.
    code = code_of(error)
    if code == "NotImplemented" and doing == "written":
        return UserError(
            f"{path}: the storage refuses If-None-Match, without which of two writers of a partition neither is refused. Take a "
            "bucket with conditional writes (as Amazon S3 has), or a folder that all nodes mount."
        )
    if code == "NoSuchBucket":
        return UserError(f"{path}: the bucket does not exist (any more). Create it, or correct the address.")
    for codes, way_out in REASONS.values():
        if code in codes:
            return EnvironmentFault(f"{path} cannot be {doing}: {way_out}")
    # What the system says of a local file.
    number = error.errno if isinstance(error, OSError) and not remote(error) else None
    if doing == "written" and number in (errno.ENOTDIR, errno.EISDIR):
        return UserError(f"{path} cannot be written: {_name_obstacle(Path(path))}. Choose another place.")
    if doing == "written" and number == errno.ENAMETOOLONG:
        return UserError(
            f"{path} cannot be written: the name is longer than this file system takes. Choose shorter names, or s3://."
        )
    reason = os.strerror(number) if number else str(error).strip() or type(error).__name__
    return EnvironmentFault(
        f"{path} cannot be {doing}: {reason}. Finished partitions are kept; make room or repair the storage and "
        "run the same command again."
    )


def _name_obstacle(path: Path) -> str:
    """Return which file stands where a folder is needed, or that a folder stands where `path` is to be a file."""
    file = next((folder for folder in path.parents if folder.is_file()), None)
    return f"{file} is a file, and a folder is needed" if file else f"{path} is a folder, and a file is needed"


OWN = (errno.ELOOP, errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO,
       errno.EINVAL)  # fmt: skip
"""Errors of reading that one file may have while all others are well."""


def own_reason(error: Exception) -> str:
    """Return why a single file, among many that are read, cannot be; raises `error` where the storage is to blame."""
    cause = error.__cause__ if isinstance(error, EnvironmentFault) else error
    if not isinstance(cause, OSError) or (cause is not error and (remote(cause) or cause.errno not in OWN)):
        raise error
    return f"cannot be read: {cause.strerror or cause}"


def code_of(error: BaseException | None) -> str:
    """Return the code of the S3 error that `error` is, or was raised for; empty for other errors."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""


def remote(error: BaseException) -> bool:
    """Whether a client of object storage raised `error`, or what it was raised for."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    return any(type(found).__module__.split(".")[0] in ("botocore", "aiobotocore") for found in causes)
