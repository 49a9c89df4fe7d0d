"""The space of a recogniser that was adapted to thermal faces: that of the one it was adapted from."""

import hashlib
import json
from pathlib import Path

from models.errors import UserError
from models.faces.pack import recogniser_digest

FILE = "space.json"
"""Beside the weights of an adapted recogniser: the digest of the file that it was adapted from."""


def write_space(folder: Path, original: Path) -> None:
    """Say in `folder` that its recogniser was adapted from the ONNX file `original`."""
    digest = hashlib.sha256(original.read_bytes()).hexdigest()[:16]
    (folder / FILE).write_text(json.dumps({"recogniser": digest}) + "\n", encoding="utf-8")


def check_space(faces: Path, thermal: Path) -> None:
    """Raise a UserError where the recogniser in `thermal` was adapted from another one than that in `faces`: their embeddings
    lie in two spaces, and a probe would find nobody in a gallery. One that says nothing of it is taken."""
    if not (thermal / FILE).is_file():
        return
    adapted, there = json.loads((thermal / FILE).read_text(encoding="utf-8"))["recogniser"], recogniser_digest(faces)
    if adapted != there:
        raise UserError(
            f"{thermal} was adapted from recogniser {adapted}, and {faces} holds {there}: probes and gallery would lie in two "
            "spaces. Name the recogniser that it was adapted from, or adapt this one (train hfr --set recogniser=FILE.onnx)."
        )
