"""Weights that are pinned: whoever loads them later gets the same bytes or a refusal."""

from pathlib import Path

import pytest

from models.errors import EnvironmentFault
from models.weights.bundle import digests, fetch, load_bundle, pin
from models.weights.store import seal

FILE = "parts: {parser: {kind: unet, weights: parser, licence: mit}}\nname: one\nsize: 64\n"


def test_other_bytes_in_the_place_of_pinned_weights_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "parser"
    weights.mkdir()
    (weights / "parser.safetensors").write_bytes(b"first")
    seal(weights)
    (tmp_path / "bundle.yaml").write_text(FILE)
    bundle = load_bundle(str(tmp_path / "bundle.yaml"))
    pinned = pin(bundle, ["parser"])
    assert digests(pinned.parts["parser"], pinned.folder) == digests(bundle.parts["parser"], bundle.folder)
    fetch(pinned.parts["parser"], pinned.folder)

    (weights / "parser.safetensors").write_bytes(b"other")
    seal(weights)
    fetch(bundle.parts["parser"], bundle.folder)  # a bundle that names no digest takes what is there
    with pytest.raises(EnvironmentFault, match="the bundle wants"):
        fetch(pinned.parts["parser"], pinned.folder)
