"""Any path is a URI: one place where a plain path, `file://` or `s3://` becomes a folder to read and write."""

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

from models.errors import UserError
from pipelines.storage.address import resolve_uri
from pipelines.storage.errors import explain_errors


def open_filesystems(uri: str) -> tuple[arrow_fs.FileSystem, fsspec.AbstractFileSystem, str]:
    """Return (pyarrow file system, fsspec file system, path on both) of `uri`.

    S3 takes its endpoint and credentials from the usual AWS environment (`AWS_ENDPOINT_URL` for other servers).
    """
    # A path of this machine is taken as it is: fsspec would read :: in it as a chain of file systems.
    if "://" not in uri or uri.startswith(("file://", "local://")):
        path = uri.partition("://")[2] if "://" in uri else uri
        return arrow_fs.LocalFileSystem(), LocalFileSystem(), os.path.abspath(os.path.expanduser(path))
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

    def shown(self, name: str = "") -> str:
        """Return `name` as a person would give it: a path of this machine, or a URI."""
        return self.path(name) if self.local else f"{self.uri.partition('://')[0]}://{self.path(name)}"

    def read(self, name: str) -> bytes:
        """Return the content of `name`; FileNotFoundError when it is not there."""
        path = self.path(name)
        with explain_errors(path, "read"):
            if not self.local:
                return self.fsspec.cat_file(path)
            # A pipe or a device named like a picture would be read for ever; a name that is no UTF-8 is listed as another.
            if "\\x" in name and not os.path.lexists(path):
                raise FileNotFoundError(errno.ENOENT, "its name is not UTF-8; rename it", path)
            if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
                raise OSError(errno.EINVAL, "it is a pipe or a device, no file", path)
            with open(path, "rb") as file:
                return file.read()

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
        temporary = str(target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.tmp"))
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
