"""Addresses of places: a path made absolute, or a URI. Strings alone, so that a command that checks a job imports no storage."""

import os
from pathlib import Path

from models.errors import UserError

LOCAL = ("file", "local", "memory")
"""Schemes of URIs that begin with no name of a bucket or a host."""


def resolve_uri(place: str | Path) -> str:
    """Return the one address of `place`: an absolute path, or a URI without a slash at its end.

    Raises:
        UserError: the URI names no bucket.
    """
    text = str(place)
    if "://" not in text:
        return os.path.abspath(os.path.expanduser(text))
    scheme, _, rest = text.partition("://")
    if scheme not in LOCAL and not rest.partition("/")[0]:
        raise UserError(f"{text} names no bucket: write {scheme}://BUCKET/FOLDER.")
    return f"{scheme}://{rest.rstrip('/') or '/'}"
