"""A bundle: which model does each stage of the job, where its weights lie, and that they arrived whole.

    stages in order: captions, visible, parser, thermal, faces, landmarks

The file is one of the repository's, a path or a URI. `weights` of a part is a folder beside it, an absolute path, a URI
(`s3://...`) or `hub:owner/name@revision` with a full commit. A folder carries `files.json` (written by `seal`) with the
size and SHA-256 of every file in it.
"""

import hashlib
import json
import os
import posixpath
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import fsspec
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from models.config import digest_of, parse_config, read_config
from models.errors import EnvironmentFault, UserError

ROOT = Path(__file__).resolve().parent.parent
"""The folder of the four rooms. Paths below it travel to a cluster relative to it."""

CACHE = Path.home() / ".cache" / "thermapair"
SEAL = "files.json"
HUB = re.compile(r"hub:(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})$")

LICENCES = ("unlicensed-synthetic", "cc0-1.0", "mit", "bsd-3-clause", "apache-2.0", "openrail++", "openrail",
            "llama", "cc-by-4.0", "cc-by-nc-4.0", "research-only")  # fmt: skip
"""From the freest to the strictest; a row carries the strictest of its models."""


class Part(BaseModel):
    """The model of one stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    weights: str
    licence: str
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch: int = Field(default=8, ge=1)
    """Rows of one forward pass. Fixed: shorter batches are padded, so that neighbours never change a row."""
    options: dict[str, Any] = {}
    """Further arguments of the stage's constructor."""


class Bundle(BaseModel):
    """Everything about the models that may change a byte of the output."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str = ""
    size: int = Field(ge=32, le=4096, multiple_of=32)
    """Side of the pictures in pixels; the networks halve it five times."""
    captions: Part
    visible: Part
    parser: Part
    thermal: Part
    faces: Part
    landmarks: Part | None = None
    """May be left out: pairs then have no landmarks."""
    reference: str = "reference.safetensors"
    """File in the faces part: the distribution of the recogniser's embeddings that identities are sampled from."""

    _folder: str = PrivateAttr(default="")

    def parts(self) -> dict[str, Part]:
        """Return the parts by the name of their stage."""
        return {name: value for name in type(self).model_fields if isinstance(value := getattr(self, name), Part)}

    @property
    def folder(self) -> Path:
        """The folder that relative weights are resolved against, where the bundle's file is on this machine."""
        return ROOT / self._folder

    def place(self, part: Part) -> str | Path:
        """Return where the weights of `part` lie: a URI, or a folder of this machine. Not for `hub:` ids."""
        if remote(part.weights):
            return part.weights.rstrip("/")
        if remote(self._folder) and not part.weights.startswith(("/", "file://")):
            scheme, _, folder = self._folder.partition("://")
            return f"{scheme}://{posixpath.normpath(posixpath.join(folder, part.weights))}"
        return self.folder / part.weights.removeprefix("file://")

    @property
    def licence(self) -> str:
        """The strictest licence of the parts; one that is not in `LICENCES` counts as the strictest."""
        licences = [part.licence for part in self.parts().values()]
        return max(licences, key=lambda name: LICENCES.index(name) if name in LICENCES else len(LICENCES))

    def digest(self) -> str:
        """Return the digest of the configuration and of the weights it names."""
        weights = {name: weights_digest(part, self) for name, part in self.parts().items()}
        return digest_of(self.model_dump(exclude={"description"}), weights)


def load_bundle(name: str, edits: Sequence[str] = ()) -> Bundle:
    """Return the bundle called `name` (`starter`, a file of `models/bundles`, or the path or URI of a YAML file).

    Relative weights in `edits` are of the working directory; those in the file are beside it.
    """
    edits = [_from_here(edit) for edit in edits]
    if remote(name):
        return _load_uri(name, edits)
    choices = [ROOT / "models" / name / "bundle.yaml", ROOT / "models" / "bundles" / f"{name}.yaml", Path(name)]
    path = next((choice for choice in choices if choice.is_file()), None)
    if path is None:
        known = [p.parent.name for p in ROOT.glob("models/*/bundle.yaml")]
        known += [p.stem for p in ROOT.glob("models/bundles/*.yaml")]
        raise UserError(
            f"no bundle {name!r}: name one of {', '.join(sorted(known))}, or the path or URI of a YAML file."
        )
    bundle = read_config(Bundle, path, edits)
    folder = path.resolve().parent
    bundle._folder = str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)
    return bundle


def _from_here(edit: str) -> str:
    """Return an edit of a part's weights with a relative folder made absolute, any other as it is."""
    key, _, value = edit.partition("=")
    if not key.strip().endswith(".weights") or remote(value) or value.startswith(("hub:", "file://")):
        return edit
    return f"{key}={os.path.abspath(os.path.expanduser(value))}"


def seal(folder: Path) -> Path:
    """Write `folder/files.json` with the size and SHA-256 of every other file below `folder`; returns its path."""
    files = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / SEAL and not path.name.endswith(".lock")
    }
    (folder / SEAL).write_text(json.dumps({"files": files}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return folder / SEAL


def fetch(part: Part, bundle: Bundle) -> Path:
    """Return a local folder with the whole, verified weights of `part`.

    Remote weights are copied once per machine under a file lock. Idempotent; cheap when they are there.

    Raises:
        EnvironmentFault: weights are missing, half-written or changed; the message names the file.
        UserError: a hub id without a pinned revision.
    """
    if part.weights.startswith("hub:"):
        return _fetch_hub(part.weights)
    place = bundle.place(part)
    if isinstance(place, str):
        return _fetch_uri(place)
    verify(place)
    return place


def verify(folder: Path) -> None:
    """Raise an EnvironmentFault unless `folder` holds exactly what its `files.json` says."""
    if not folder.is_dir():
        raise EnvironmentFault(f"weights are missing: {folder} does not exist. Train them or fetch the bundle again.")
    if not (folder / SEAL).is_file():
        raise EnvironmentFault(
            f"{folder} has no {SEAL}: it is half-written or was never sealed. Fetch or export again."
        )
    for name, expected in _listed((folder / SEAL).read_bytes(), str(folder)).items():
        path = folder / name
        if not path.is_file():
            raise EnvironmentFault(f"{path} is missing although {SEAL} lists it. Fetch the bundle again.")
        if path.stat().st_size != expected["size"]:
            raise EnvironmentFault(
                f"{path} is half-written: {path.stat().st_size} of {expected['size']} bytes. Fetch the bundle again."
            )
        if _sha256(path) != expected["sha256"]:
            raise EnvironmentFault(f"{path} is not the file that {SEAL} describes. Fetch it again, or seal the folder.")


def weights_digest(part: Part, bundle: Bundle) -> str:
    """Return what identifies the bytes of the weights: the pinned revision, or the digest of their list of files."""
    if part.weights.startswith("hub:"):
        return _hub_id(part.weights)[1]
    folder = bundle.place(part)
    if isinstance(folder, str):
        return digest_of(_listed(_read_uri(f"{folder}/{SEAL}"), folder))
    if not (folder / SEAL).is_file():
        verify(folder)
    return digest_of(_listed((folder / SEAL).read_bytes(), str(folder)))


def contents_digest(path: Path) -> str:
    """Return the digest of a file, or of a folder's files but cards and seals; raises UserError where nothing is."""
    if not path.exists():
        raise UserError(f"{path} does not exist: a file or folder of weights is asked for")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    files = [file for file in files if file.name not in (SEAL, "README.md") and file.suffix != ".lock"]
    return digest_of([[str(file.relative_to(path)), _sha256(file)] for file in files])


def _hub_id(weights: str) -> tuple[str, str]:
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


def remote(name: str) -> bool:
    """Whether `name` is a URI of something that is not a file of this machine."""
    return "://" in name and not name.startswith("file://")


def _load_uri(uri: str, edits: Sequence[str]) -> Bundle:
    bundle = parse_config(Bundle, _read_uri(uri), uri, edits)
    bundle._folder = uri.rpartition("/")[0]
    return bundle


def _fetch_uri(uri: str) -> Path:
    """Copy a sealed folder to this machine's cache, where its list names it: the same weights are fetched once.

    What is there and whole is kept, so a copy that was cut off goes on, and a file that rotted is fetched again.
    """
    listing = _read_uri(f"{uri}/{SEAL}")
    files = _listed(listing, uri)
    folder = CACHE / hashlib.sha256(listing).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        for name, expected in files.items():
            if _whole(folder / name, expected):
                continue
            _copy_uri(f"{uri}/{name}", folder / name)
            if not _whole(folder / name, expected):
                raise EnvironmentFault(f"{uri}/{name} is not the file that {SEAL} describes. Upload the folder again.")
        (folder / SEAL).write_bytes(listing)
    return folder


def _whole(path: Path, expected: dict[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == expected["size"] and _sha256(path) == expected["sha256"]


def _copy_uri(uri: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with fsspec.open(uri, "rb") as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 16 * 2**20)
    except Exception as error:
        raise EnvironmentFault(f"{uri} cannot be fetched: {error}") from error
    part.replace(path)


def _read_uri(uri: str) -> bytes:
    try:
        with fsspec.open(uri, "rb") as file:
            return file.read()
    except Exception as error:
        raise EnvironmentFault(f"{uri} cannot be read: {error}") from error


def _listed(content: bytes, where: str) -> dict[str, dict[str, Any]]:
    try:
        files = json.loads(content)["files"]
    except (ValueError, KeyError, TypeError):
        raise EnvironmentFault(f"{where}/{SEAL} is not a list of files. Fetch or export the folder again.") from None
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
        raise EnvironmentFault(f"{where}/{SEAL} names files outside its folder.")
    return files


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
