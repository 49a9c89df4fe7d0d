"""Sealed folders of weights: where they lie, whether they arrived whole, and what identifies their bytes.

A folder carries `files.json` (written by `seal`) with the size and SHA-256 of every file in it. Its bytes are read once on
a machine: what was found whole is remembered by size and time of change, and hashed again when either differs.
"""

import hashlib
import json
import posixpath
import re
import secrets
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

from models.config import digest_of, parse_json
from models.errors import EnvironmentFault, UserError

ROOT = Path(__file__).resolve().parent.parent.parent
"""The folder of the four rooms. Paths below it travel to a cluster relative to it."""

CACHE = Path.home() / ".cache" / "thermapair"
SEAL = "files.json"
HUB = re.compile(r"hub:(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})$")


def remote(name: str) -> bool:
    """Whether `name` is a URI of something that is not a file of this machine."""
    return "://" in name and not name.startswith("file://")


def locate(uri: str, folder: str) -> str | Path:
    """Return where weights lie, a URI or a folder of this machine; `folder` is the bundle's, which relative ones are of."""
    if remote(uri) or uri.startswith("hub:"):
        return uri.rstrip("/")
    if remote(folder) and not uri.startswith(("/", "file://")):
        scheme, _, place = folder.partition("://")
        return f"{scheme}://{posixpath.normpath(posixpath.join(place, uri))}"
    return ROOT / folder / uri.removeprefix("file://")


def seal(folder: Path) -> Path:
    """Write `folder/files.json` with the size and SHA-256 of every other file below `folder`; returns its path."""
    files = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / SEAL and not path.name.endswith(".lock")
    }
    (folder / SEAL).write_text(json.dumps({"files": files}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return folder / SEAL


def fetch(place: str | Path) -> Path:
    """Return a local folder with whole, verified weights; what is remote is copied once a machine, under a file lock.

    Raises:
        EnvironmentFault: weights are missing, half-written or changed; the message names the file.
        UserError: a hub id without a pinned revision.
    """
    if isinstance(place, Path):
        verify(place)
        return place
    return _fetch_hub(place) if place.startswith("hub:") else _fetch_uri(place)


def verify(folder: Path) -> None:
    """Raise an EnvironmentFault unless `folder` holds exactly what its `files.json` says.

    Files that this machine found whole before, of the same size and time of change, are not read again.
    """
    files = list_files(folder)
    verified, now = _load_verified(folder, files), _stats(folder, files)
    if verified is not None and verified == now:
        return
    # Sizes first: they tell a file that was cut off without reading it.
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise EnvironmentFault(f"{path} is missing although {SEAL} lists it. Fetch the bundle again.")
        if path.stat().st_size != expected["size"]:
            raise EnvironmentFault(
                f"{path} is half-written: {path.stat().st_size} of {expected['size']} bytes. Fetch the bundle again."
            )
        if _sha256(path) != expected["sha256"]:
            raise EnvironmentFault(f"{path} is not the file that {SEAL} describes. Fetch it again, or seal the folder.")
    _save_verified(folder, files, now)


def weights_digest(place: str | Path) -> str:
    """Return what identifies the bytes of weights: the pinned revision, or the digest of their list of files."""
    if isinstance(place, str) and place.startswith("hub:"):
        return _hub_id(place)[1]
    return digest_of(list_files(place))


def contents_digest(path: Path) -> str:
    """Return the digest of a file, or of a folder's files but cards and seals; raises UserError where nothing is."""
    if not path.exists():
        raise UserError(f"{path} does not exist: a file or folder of weights is asked for")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    files = [file for file in files if file.name not in (SEAL, "README.md") and file.suffix != ".lock"]
    return digest_of([[str(file.relative_to(path)), _sha256(file)] for file in files])


def list_files(place: str | Path) -> dict[str, dict[str, Any]]:
    """Return the files that the seal of a folder or URI lists: name -> size and sha256."""
    if isinstance(place, str):
        return _parse(read_uri(f"{place}/{SEAL}"), place)
    _check_there(place)
    if not (place / SEAL).is_file():
        raise EnvironmentFault(f"{place} has no {SEAL}: it is half-written or was never sealed. Fetch or export again.")
    return _parse((place / SEAL).read_bytes(), str(place))


def _check_there(folder: Path) -> None:
    if not folder.is_dir():
        raise EnvironmentFault(f"weights are missing: {folder} does not exist. Train them or fetch the bundle again.")


class SmallFiles:
    """Names and small JSON files of weights, wherever they lie: enough to check a job without fetching them."""

    def __init__(self, place: str | Path) -> None:
        self.place = place

    def __contains__(self, name: str) -> bool:
        return name in _file_names(self.place)

    def json(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON file. Raises EnvironmentFault where it cannot be read."""
        try:
            return dict(parse_json(_read_small(self.place, name)))
        except (ValueError, TypeError) as error:
            raise EnvironmentFault(
                f"{self.place}/{name} is no JSON object ({error}). Fetch the bundle again."
            ) from None


def _file_names(place: str | Path) -> frozenset[str]:
    """Return the names of a set of weights; those of remote ones are read once."""
    return frozenset(list_files(place)) if isinstance(place, Path) else _remote_file_names(place)


@lru_cache(maxsize=64)
def _remote_file_names(place: str) -> frozenset[str]:
    if not place.startswith("hub:"):
        return frozenset(list_files(place))
    folder = _fetch_hub(place)
    return frozenset(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _read_small(place: str | Path, name: str) -> bytes:
    """Return a small file of a set of weights; remote ones are read once."""
    if isinstance(place, str):
        return _read_remote_small(place, name)
    _check_there(place)
    try:
        return (place / name).read_bytes()
    except OSError as error:
        raise EnvironmentFault(f"{place / name} cannot be read: {error.strerror}. Fetch the bundle again.") from None


@lru_cache(maxsize=64)
def _read_remote_small(place: str, name: str) -> bytes:
    return (_fetch_hub(place) / name).read_bytes() if place.startswith("hub:") else read_uri(f"{place}/{name}")


def _hub_id(weights: str) -> tuple[str, str]:
    """Return name and commit of `hub:owner/name@commit`."""
    match = HUB.match(weights)
    if not match:
        raise UserError(f"{weights}: name a hub model as hub:owner/name@ followed by its full 40-digit commit.")
    return match["name"], match["revision"]


def _fetch_hub(weights: str) -> Path:
    name, revision = _hub_id(weights)
    from huggingface_hub import snapshot_download  # slow to import, and needed by hub bundles alone

    try:
        return Path(snapshot_download(name, revision=revision))
    except Exception as error:
        raise EnvironmentFault(
            f"{weights} cannot be fetched: {error}. Is the hub reachable, its licence accepted?"
        ) from error


def _fetch_uri(uri: str) -> Path:
    """Copy a sealed folder to this machine's cache, where its list names it: the same weights are fetched once.

    What is there and whole is kept, so a copy that was cut off goes on, and a file that rotted is fetched again.
    """
    listing = read_uri(f"{uri}/{SEAL}")
    files = _parse(listing, uri)
    folder = CACHE / hashlib.sha256(listing).hexdigest()[:16]
    # Whole already, as this machine has found before: no need to wait for the lock.
    verified = _load_verified(folder, files)
    if verified is not None and verified == _stats(folder, files):
        return folder
    from filelock import FileLock

    # One process of this machine copies; the seal goes last, for with it the folder is whole.
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        for name, expected in files.items():
            if _is_whole(folder / name, expected):
                continue
            _copy_uri(f"{uri}/{name}", folder / name)
            if not _is_whole(folder / name, expected):
                raise EnvironmentFault(f"{uri}/{name} is not the file that {SEAL} describes. Upload the folder again.")
        (folder / SEAL).write_bytes(listing)
        _save_verified(folder, files, _stats(folder, files))
    return folder


Stats = dict[str, list[int]]


def _stats(folder: Path, files: dict[str, Any]) -> Stats:
    """Return size and time of change (ns) of each file that is there."""
    found: Stats = {}
    for name in files:
        try:
            status = (folder / name).stat()
        except OSError:
            continue
        found[name] = [status.st_size, status.st_mtime_ns]
    return found


def _verified_path(folder: Path, files: dict[str, Any]) -> Path:
    """Return where this machine remembers that `folder` was found whole with `files`."""
    return CACHE / "verified" / f"{digest_of(str(folder.resolve()), files)}.json"


def _load_verified(folder: Path, files: dict[str, Any]) -> Stats | None:
    """Return the files' stats as they were when this machine found them whole, None when it never has."""
    try:
        return dict(parse_json(_verified_path(folder, files).read_bytes()))
    except (OSError, ValueError):
        return None


def _save_verified(folder: Path, files: dict[str, Any], found: Stats) -> None:
    """Note that `folder` is whole with files as `found`, stats taken before they were read: a change since then is noticed.

    Where the home cannot be written, the files are hashed again each time.
    """
    path = _verified_path(folder, files)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
        temporary.write_text(json.dumps(found))
        temporary.replace(path)
    except OSError:
        return


def _is_whole(path: Path, expected: dict[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == expected["size"] and _sha256(path) == expected["sha256"]


def _copy_uri(uri: str, path: Path) -> None:
    """Copy a file to `path`, which is there whole or not at all."""
    import fsspec

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with fsspec.open(uri, "rb") as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 16 * 2**20)
    except Exception as error:
        raise EnvironmentFault(f"{uri} cannot be fetched: {error}") from error
    part.replace(path)


def read_uri(uri: str) -> bytes:
    """Return a small file at a URI. Raises EnvironmentFault where it cannot be read."""
    import fsspec  # slow to import, and needed by what is remote alone

    try:
        with fsspec.open(uri, "rb") as file:
            return file.read()
    except Exception as error:
        raise EnvironmentFault(f"{uri} cannot be read: {error}") from error


def _parse(content: bytes, where: str) -> dict[str, dict[str, Any]]:
    """Return the files that a seal lists: name -> size and sha256. Raises EnvironmentFault for a seal that is damaged."""
    try:
        files = {name: {"size": one["size"], "sha256": one["sha256"]}
                 for name, one in parse_json(content)["files"].items()}  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EnvironmentFault(f"{where}/{SEAL} is not a list of files. Fetch or export the folder again.") from None
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
        raise EnvironmentFault(f"{where}/{SEAL} names files outside its folder.")
    return files


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
