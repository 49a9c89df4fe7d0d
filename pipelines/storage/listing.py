"""What lies in a folder that somebody else filled: files with their sizes, under names that a table can hold."""

from pathlib import PurePosixPath

from pipelines.storage.uri import Storage

DROPPINGS = {"@eaDir", "__MACOSX", ".thumbnails", ".Trashes", "#recycle", ".ipynb_checkpoints"}
"""Folders in which other programs keep thumbnails and copies of the pictures around them."""
DOUBLE = "._"
"""What macOS's files beside the files of others begin with."""


def list_sizes(storage: Storage) -> dict[str, int]:
    r"""Return the size of every file below a folder by its name, sorted.

    Thumbnails and copies of other programs are left out. In a name that is no UTF-8 its other bytes read `\xff`; such a file
    cannot be read, which costs no other.
    """
    found = storage.fsspec.find(storage.path(), detail=True)
    names = {name.removeprefix(storage.path()).lstrip("/"): int(one["size"] or 0) for name, one in found.items()}
    return {_printable(name): names[name] for name in sorted(names) if not _is_dropping(name)}


def _is_dropping(name: str) -> bool:
    path = PurePosixPath(name)
    return path.name.startswith(DOUBLE) or not DROPPINGS.isdisjoint(path.parts[:-1])


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
