"""Any path is a URI: one place where a plain path, `file://` or `s3://` becomes file systems for pyarrow and fsspec."""

import contextlib
import os
import secrets
from functools import cached_property
from pathlib import Path

import fsspec
import pyarrow.fs as arrow_fs
from fsspec.implementations.local import LocalFileSystem

from models.errors import EnvironmentFault, UserError


def views(uri: str) -> tuple[arrow_fs.FileSystem, fsspec.AbstractFileSystem, str]:
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
    """A folder anywhere. Names given to its methods are relative to it. Picklable: workers open their own connections."""

    def __init__(self, uri: str | Path) -> None:
        text = str(uri)
        self.uri = text.rstrip("/") if "://" in text else os.path.abspath(os.path.expanduser(text))

    def __getstate__(self) -> dict[str, str]:
        return {"uri": self.uri}

    @cached_property
    def _views(self) -> tuple[arrow_fs.FileSystem, fsspec.AbstractFileSystem, str]:
        return views(self.uri)

    @property
    def arrow(self) -> arrow_fs.FileSystem:
        """The pyarrow file system; paths on it come from `path`."""
        return self._views[0]

    @property
    def fsspec(self) -> fsspec.AbstractFileSystem:
        """The fsspec file system; paths on it come from `path`."""
        return self._views[1]

    @property
    def local(self) -> bool:
        """Whether this is a folder of this machine."""
        return isinstance(self.fsspec, LocalFileSystem)

    def path(self, name: str = "") -> str:
        """Return the path of `name` on both file systems."""
        return f"{self._views[2]}/{name}" if name else self._views[2]

    def read(self, name: str) -> bytes:
        """Return the content of `name`; FileNotFoundError when it is not there."""
        return self.fsspec.cat_file(self.path(name))

    def exists(self, name: str = "") -> bool:
        """Return whether `name` (the folder itself by default) is there, never from a cached listing."""
        self.fsspec.invalidate_cache()
        return self.fsspec.exists(self.path(name))

    def list(self, folder: str = "") -> list[str]:
        """Return the sorted names (relative to this storage) of all files below `folder`."""
        self.fsspec.invalidate_cache()
        try:
            found = self.fsspec.find(self.path(folder))
        except FileNotFoundError:
            return []
        return sorted(name.removeprefix(self.path()).lstrip("/") for name in found)

    def write(self, name: str, content: bytes) -> None:
        """Write `name` whole or not at all, replacing what was there."""
        try:
            if not self.local:
                self.fsspec.pipe_file(self.path(name), content)
                return
            temporary = self._temporary(name, content)
            os.replace(temporary, self.path(name))
        except OSError as error:
            raise fault(error, self.path(name)) from error

    def create(self, name: str, content: bytes) -> bool:
        """Write `name` only if nothing is there; returns False when something is. Of several writers one wins.

        Locally the whole file appears under a link that refuses an existing name, so no half-written file can ever be
        the winner; on S3 the request carries If-None-Match.
        """
        try:
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
        except OSError as error:
            raise fault(error, self.path(name)) from error

    def remove(self, name: str) -> None:
        """Delete `name`; nothing happens when it is not there."""
        with contextlib.suppress(FileNotFoundError):
            self.fsspec.rm_file(self.path(name))

    def _temporary(self, name: str, content: bytes) -> str:
        """Write `content` to a hidden file beside `name` and flush it to disk."""
        target = Path(self.path(name))
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


def fault(error: OSError, path: str) -> EnvironmentFault:
    """Return `error` as a message that names `path` and the way out."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return EnvironmentFault(
        f"{path} cannot be written: {reason}. Finished partitions are kept; make room or repair the storage and "
        "run the same command again."
    )
