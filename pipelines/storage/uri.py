"""Any path is a URI: one place where a plain path, `file://` or `s3://` becomes file systems for pyarrow and fsspec."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO

import fsspec
import pyarrow.fs as arrow_fs
from fsspec.implementations.local import LocalFileSystem

from models.errors import EnvironmentFault, UserError
from pipelines.storage.address import resolve_uri


def open_filesystems(uri: str) -> tuple[arrow_fs.FileSystem, fsspec.AbstractFileSystem, str]:
    """Return (pyarrow file system, fsspec file system, path on both) of `uri`.

    S3 takes its endpoint and credentials from the usual AWS environment (`AWS_ENDPOINT_URL` for other servers).
    """
    if "://" not in uri:
        uri = f"file://{os.path.abspath(os.path.expanduser(uri))}"
    try:
        files, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise UserError(f"{uri}: {error}") from None
    path = path.rstrip("/")
    if isinstance(files, LocalFileSystem):
        return arrow_fs.LocalFileSystem(), files, path
    return arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(files)), files, path


class Storage:
    """A folder anywhere. Names given to its methods are relative to it. Picklable: workers open their own connections.

    Two of the same place are equal, so that what is cached by one is found by the other.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = resolve_uri(uri)

    def __getstate__(self) -> dict[str, str]:
        return {"uri": self.uri}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Storage) and self.uri == other.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    @cached_property
    def _filesystems(self) -> tuple[arrow_fs.FileSystem, fsspec.AbstractFileSystem, str]:
        return open_filesystems(self.uri)

    @property
    def arrow(self) -> arrow_fs.FileSystem:
        """The pyarrow file system; paths on it come from `path`."""
        return self._filesystems[0]

    @property
    def fsspec(self) -> fsspec.AbstractFileSystem:
        """The fsspec file system; paths on it come from `path`."""
        return self._filesystems[1]

    @property
    def local(self) -> bool:
        """Whether this is a folder of this machine."""
        return isinstance(self.fsspec, LocalFileSystem)

    def path(self, name: str = "") -> str:
        """Return the path of `name` on both file systems."""
        return f"{self._filesystems[2]}/{name}" if name else self._filesystems[2]

    def read(self, name: str) -> bytes:
        """Return the content of `name`; FileNotFoundError when it is not there."""
        with explain_errors(self.path(name), "read"):
            return self.fsspec.cat_file(self.path(name))

    def exists(self, name: str = "") -> bool:
        """Return whether `name` (the folder itself by default) is there, never from a cached listing."""
        self.fsspec.invalidate_cache()
        with explain_errors(self.path(name), "read"):
            return self.fsspec.exists(self.path(name))

    def list(self, folder: str = "") -> list[str]:
        """Return the sorted names (relative to this storage) of all files below `folder`."""
        self.fsspec.invalidate_cache()
        try:
            with explain_errors(self.path(folder), "read"):
                found = self.fsspec.find(self.path(folder))
        except FileNotFoundError:
            return []
        return sorted(name.removeprefix(self.path()).lstrip("/") for name in found)

    def write(self, name: str, content: bytes) -> None:
        """Write `name` whole or not at all, replacing what was there."""
        with explain_errors(self.path(name), "written"):
            if not self.local:
                self.fsspec.pipe_file(self.path(name), content)
                return
            temporary = self._temporary(name, content)
            os.replace(temporary, self.path(name))

    @contextlib.contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """Open `name` to be written piece by piece; it appears whole when the block ends, and not at all if that raises."""
        with explain_errors(self.path(name), "written"):
            if self.local:
                temporary = self._temporary(name, b"")
                try:
                    with open(temporary, "wb") as file:
                        yield file
                        file.flush()
                        os.fsync(file.fileno())
                    os.replace(temporary, self.path(name))
                except BaseException:
                    os.unlink(temporary)
                    raise
                return
            file = self.fsspec.open(self.path(name), "wb")
            try:
                yield file
            except BaseException:
                file.closed = True  # else it would finish the upload when it is collected
                file.discard()
                raise
            file.close()

    def create(self, name: str, content: bytes) -> bool:
        """Write `name` only if nothing is there; returns False when something is. Of several writers one wins.

        Locally the whole file appears under a link that refuses an existing name, so no half-written file can ever be
        the winner; on S3 the request carries If-None-Match.
        """
        try:
            with explain_errors(self.path(name), "written"):
                # Object storage refuses a name that is there; locally a link does.
                if not self.local:
                    self.fsspec.pipe_file(self.path(name), content, mode="create")
                    return True
                temporary = self._temporary(name, content)
                try:
                    os.link(temporary, self.path(name))
                finally:
                    os.unlink(temporary)
                return True
        except FileExistsError:
            return False

    def remove(self, name: str) -> None:
        """Delete `name`; nothing happens when it is not there."""
        with contextlib.suppress(FileNotFoundError), explain_errors(self.path(name), "removed"):
            self.fsspec.rm_file(self.path(name))

    def _temporary(self, name: str, content: bytes) -> str:
        """Write `content` to a hidden file beside `name` and flush it to disk."""
        target = Path(self.path(name))
        if target.parent.is_file():  # mkdir would say that it exists, which `create` takes for another's success
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target.parent))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = str(target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp"))
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
        return temporary


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
    if code == "NoSuchBucket":
        return UserError(f"{path}: the bucket does not exist (any more). Create it, or correct the address.")
    for codes, way_out in REASONS.values():
        if code in codes:
            return EnvironmentFault(f"{path} cannot be {doing}: {way_out}")
    # What the system says of a local file.
    number = error.errno if isinstance(error, OSError) and not remote(error) else None
    if doing == "written" and number in (errno.ENOTDIR, errno.EISDIR):
        return UserError(f"{path} cannot be written: {_name_obstacle(Path(path))}. Choose another place.")
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
