"""A bundle that knows the avatars of the world and no photographs says so, once and in time."""

import logging

from models.weights.bundle import Bundle

log = logging.getLogger(__name__)

AVATARS = ("avatar", "synthetic world")
"""Words by which a bundle's description says what it was trained on."""
_told = set[str]()


def warn_of_photographs(bundle: Bundle) -> None:
    """Say, once in a process, that what `bundle` makes of photographs means nothing, where it knows avatars alone."""
    if bundle.name in _told or not any(word in bundle.description.lower() for word in AVATARS):
        return
    _told.add(bundle.name)
    log.warning(
        "WARNING: bundle %s knows the avatars of its synthetic world and no photographs: faces, points and embeddings that it "
        "finds in photographs mean nothing. docs/weights.md says how to use published weights.",
        bundle.name,
    )
