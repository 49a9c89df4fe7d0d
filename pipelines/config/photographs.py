"""A bundle that knows the avatars of the world and no photographs says so, once and in time."""

import logging
from contextlib import suppress
from pathlib import PurePath

from models.config import parse_json
from models.errors import EnvironmentFault, UserError
from models.weights.bundle import Bundle
from pipelines.storage.commits import MANIFEST
from pipelines.storage.uri import Storage

log = logging.getLogger(__name__)

AVATARS = ("avatar", "synthetic world")
"""Words by which a bundle's description says what it was trained on."""
ABOVE = 2
"""Folders above that of the pictures in which an output's manifest may lie."""
_told = set[str]()


def warn_of_photographs(bundle: Bundle, images: str) -> None:
    """Say, once in a process, that what `bundle` makes of photographs means nothing, where it knows avatars alone and nothing
    says that the pictures in the folder `images` are such.
    """
    if bundle.name in _told or not any(word in bundle.description.lower() for word in AVATARS) or show_avatars(images):
        return
    _told.add(bundle.name)
    log.warning(
        "WARNING: bundle %s knows the avatars of its synthetic world and no photographs: faces, points and embeddings that it "
        "finds in photographs mean nothing. docs/weights.md says how to use published weights.",
        bundle.name,
    )


def show_avatars(images: str) -> bool:
    """Return whether a folder of pictures is known to be of the world: it, or one just above, is an output of `world`, or of
    `gather` from one.
    """
    for folder in (images, *map(str, PurePath(images).parents[:ABOVE] if "://" not in images else ())):
        with suppress(OSError, ValueError, KeyError, TypeError, UserError, EnvironmentFault):
            manifest = parse_json(Storage(folder).read(MANIFEST))
            if manifest["kind"] in ("world", "gathered"):
                return manifest["kind"] == "world" or show_avatars(manifest["job"]["images"])
    return False
