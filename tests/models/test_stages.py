"""The table of stages: every package keeps the protocol, and whoever checks a job loads no framework."""

import inspect
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, Field

from models import stages
from models.columns import COLUMNS
from models.errors import UserError
from models.layers import layers_of
from models.stages import BY_JOB, CAPTIONS, PARTLESS, STAGES, Files, Flow
from models.weights.bundle import load_bundle, small_files
from models.weights.store import ROOT
from tests.models.rows_of import check_columns

KINDS = [(stage, kind) for stage, kinds in STAGES.items() for kind in kinds]
FRAMEWORKS = ("torch", "diffusers", "transformers", "onnxruntime", "ray", "cv2")


def light(stage: str, kind: str) -> stages.SettingsModule:
    return stages.import_settings(stages.package_of(stage, kind, "here"))


def files_of(stage: str, kind: str) -> Mapping[str, Files]:
    """Return the small files of the starter's part of this kind, nothing for a kind without weights."""
    if not light(stage, kind).WEIGHTS:
        return {}
    bundle = load_bundle("starter")
    part = next((one for name, one in bundle.parts.items() if (one.stage or name) == stage and one.kind == kind), None)
    if part is None and (stage in ("portrait", "thermal", "translate") or kind == "faceclip-sdxl"):
        return {"model": WithoutFiles()}
    assert part is not None, f"no weights here to ask {stage} {kind} with: name some"
    return small_files(part, bundle.folder)


class WithoutFiles:
    """Weights that say nothing beside themselves."""

    def __contains__(self, name: str) -> bool:
        return False

    def json(self, name: str) -> dict[str, Any]:
        return {"conditions": ["warm", "cold"]}


def flow_of(stage: str, kind: str) -> Flow:
    made = light(stage, kind)
    asked: dict[str, Any] = {"layers": layers_of(["warm", "cold"]), "size": 64}
    settings = made.Settings(**{name: asked[name] for name in BY_JOB if name in made.Settings.model_fields})
    return made.columns(made.Options(), settings, files_of(stage, kind))


def test_checking_a_job_imports_no_framework() -> None:
    """All settings, the null kinds as they run, and both real bundles with the small files of the one that is here."""
    told = f"""
import json, sys
import models.null.kinds, models.weights.bundle, models.weights.store
from models import stages
for kinds in stages.STAGES.values():
    for package in kinds.values():
        kind = stages.import_settings(package)
        kind.Options(), kind.Settings()
for name in ("null", "starter", "published"):
    bundle = models.weights.bundle.load_bundle(name)
    for part in bundle.parts.values():
        if name == "starter" and part.stage in stages.STAGES:
            kind = stages.import_settings(stages.STAGES[part.stage][part.kind])
            kind.columns(kind.Options(), kind.Settings(), models.weights.bundle.small_files(part, bundle.folder))
print(json.dumps([name for name in {FRAMEWORKS} if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(("stage", "kind"), KINDS)
def test_settings_have_what_the_protocol_names(stage: str, kind: str) -> None:
    made = light(stage, kind)
    assert all(isinstance(name, str) and isinstance(needed, bool) for name, needed in made.WEIGHTS.items())
    for model in (made.Options, made.Settings):
        assert issubclass(model, BaseModel)
        assert model.model_config.get("extra") == "forbid" and model.model_config.get("frozen")
        model()  # everything has a default: a part may leave out what it does not care for
    assert not set(BY_JOB) & set(made.Options.model_fields)


@pytest.mark.parametrize(("stage", "kind"), KINDS)
def test_every_column_of_a_kind_is_in_the_vocabulary(stage: str, kind: str) -> None:
    flow = flow_of(stage, kind)
    named = (*flow.reads, *flow.reads_if_there, *flow.writes)
    assert flow.writes and not [name for name in named if name not in COLUMNS]
    assert len(set(named)) == len(named), "a column is read once and written by somebody else"


@pytest.mark.parametrize("stage", STAGES)
def test_kinds_of_a_stage_write_the_same(stage: str) -> None:
    """A null bundle stands for a real one; it may leave out what a part need not have (a second set of landmarks, words)."""
    written = [set(flow_of(stage, kind).writes) for kind in STAGES[stage]]
    most = set().union(*written)
    needed = {name for name in most if "478" not in name and name not in ("caption_cut", "beyond_rooms")}
    assert all(needed <= kind for kind in written)


def test_no_column_has_two_writers() -> None:
    for place in (0, -1):
        kinds = [list(kinds)[place] for kinds in STAGES.values()]
        written = [name for stage, kind in zip(STAGES, kinds, strict=True) for name in flow_of(stage, kind).writes]
        assert "reject" in written
        assert len(set(written)) == len(written)


@pytest.mark.parametrize(("stage", "kind"), KINDS)
def test_heavy_finds_a_stage_of_the_protocol(stage: str, kind: str) -> None:
    made = stages.import_stage(stages.package_of(stage, kind, "here"))
    inspect.signature(made).bind({}, object(), dtype="float32", threads=1)
    inspect.signature(made.__call__).bind(object(), {}, object(), 8)


def test_stages_and_kinds_that_nobody_knows_are_named_with_those_that_are() -> None:
    with pytest.raises(
        UserError, match=r"^job\.x: no stage 'thermals'; known: portrait, visible, .*landmarks, captions\.$"
    ):
        stages.package_of("thermals", "unet", "job.x")
    with pytest.raises(
        UserError, match=r"^p\.kind: no kind 'gan' of stage thermal; known: unet, room-unet, latent-diffusion, null\.$"
    ):
        stages.package_of("thermal", "gan", "p.kind")
    assert CAPTIONS not in STAGES
    assert all(PARTLESS[stage] in STAGES[stage] for stage in PARTLESS)


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")
    steps: int = Field(5, ge=1)
    guidance: float = 1.0
    layers: tuple[str, ...] = ()


def test_values_that_cannot_be_are_named_all_at_once() -> None:
    with pytest.raises(UserError) as told:
        stages.parse_settings(Asked, {"stepps": 3, "steps": 0, "guidance": "high"}, "thermal.settings")
    text = str(told.value)
    assert "thermal.settings.stepps: unknown key; known here: steps, guidance" in text
    assert "layers" not in text, "what the job says is nothing to set"
    assert "thermal.settings.steps: Input should be greater than or equal to 1" in text
    assert "thermal.settings.guidance: Input should be a valid number" in text
    with pytest.raises(UserError, match=r"x\.a: unknown key; known here: none"):
        stages.parse_settings(stages.NoOptions, {"a": 1}, "x")


@pytest.mark.slow
def test_the_starters_stages_write_what_the_vocabulary_says() -> None:
    bundle, layers = load_bundle("starter"), layers_of(["warm", "cold"])
    rows = {
        "noise_id": np.array(["a", "b"], object),
        "caption": np.array(["A man with short hair.", "A woman."], object),
        "embedding": np.random.default_rng(0).standard_normal((2, 512)).astype(np.float32),
    }
    asked = {"visible": {"steps": 4}}
    there = {one.stage or name for name, one in bundle.parts.items()} | set(PARTLESS)
    # Nobody trained a translator yet, and the starter's visible part needs no portrait; their own tests run them.
    assert set(STAGES) - there == {"portrait", "translate"}
    for stage, kinds in STAGES.items():
        if stage not in there:
            continue
        made = light(stage, next(iter(kinds)))
        by_job = {"layers": layers, "size": bundle.size}
        values = asked.get(stage, {}) | {n: v for n, v in by_job.items() if n in made.Settings.model_fields}
        settings, weights = made.Settings(**values), {} if stage in PARTLESS else bundle.fetch(stage)
        options = made.Options(**({} if stage in PARTLESS else bundle.part(stage).options))
        flow = made.columns(
            options, settings, {} if stage in PARTLESS else small_files(bundle.part(stage), bundle.folder)
        )
        made_by = stages.import_stage(STAGES[stage][next(iter(kinds))])(weights, options, dtype="float32", threads=1)
        assert set(flow.reads) <= set(rows), f"{stage} reads what nobody before it writes"
        # Nothing but the columns it says it reads: a stage that looks at more would not notice in a longer chain.
        given = {name: rows[name] for name in (*flow.reads, *flow.reads_if_there) if name in rows}
        found = made_by(given, settings, 2)
        check_columns(found, flow.writes, rows=2, layers=2, size=bundle.size)
        rows |= found


def test_paths_of_packages_are_there() -> None:
    for kinds in STAGES.values():
        for package in kinds.values():
            home = Path(ROOT, *package.partition(":")[0].split("."))
            assert home.with_suffix(".py").is_file() or {"settings.py", "stage.py"} <= {p.name for p in home.iterdir()}


def test_a_kind_whose_package_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("nosuch", "models.null.kinds:Nobody", "models.nosuch"):
        monkeypatch.setitem(stages.STAGES["parser"], "other", package)
        with pytest.raises(UserError, match=f"names {package!r}, and there is no such package or class"):
            stages.import_settings(stages.package_of("parser", "other", "bundle"))
