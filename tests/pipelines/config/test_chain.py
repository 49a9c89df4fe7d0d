"""The chain of a job follows from columns: who is needed, in which order, and what is refused by name."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.errors import UserError
from models.layers import layers_of
from models.null import kinds as null
from models.stages import STAGES, Flow, NoOptions
from models.weights.bundle import Bundle, load_bundle
from pipelines.config.chain import ChainSpec, check_profile, resolve_chain
from pipelines.config.generate import BRINGS, chain_for
from pipelines.config.job import GenerateJob
from pipelines.config.recipe import chain_of, stage_recipes
from pipelines.storage.commits import read_commits
from tests.pipelines import small

Job = Callable[..., GenerateJob]
LAYERS = layers_of(("warm", "cold"))


class Other(null.Parser):
    """A second kind of the parser, which takes everything for skin."""

    class Stage(null.Parser.Stage):
        def __call__(self, rows: Any, settings: Any, batch: int) -> Any:
            found = super().__call__(rows, settings, batch)
            return {name: values * 0 + 1 for name, values in found.items()}


class Double(null.Parser):
    """A parser that finds faces, too."""

    @staticmethod
    def columns(options: NoOptions, settings: NoOptions, files: Any) -> Flow:
        return Flow(reads=("visible",), writes=("classes", "bbox"))


class Circular(null.Parser):
    """A parser that wants temperatures."""

    @staticmethod
    def columns(options: NoOptions, settings: NoOptions, files: Any) -> Flow:
        return Flow(reads=("visible", "thermal"), writes=("classes",))


class Curious(null.Parser):
    """A parser that looks at temperatures where there are any."""

    @staticmethod
    def columns(options: NoOptions, settings: NoOptions, files: Any) -> Flow:
        return Flow(reads=("visible",), reads_if_there=("thermal",), writes=("classes",))


class Foreign(null.Parser):
    """A parser that writes what nobody knows."""

    @staticmethod
    def columns(options: NoOptions, settings: NoOptions, files: Any) -> Flow:
        return Flow(reads=("visible",), writes=("classes", "aura"))


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The null bundle, with further kinds of its parser in the table."""
    for kind in (Other, Double, Circular, Curious, Foreign):
        monkeypatch.setitem(STAGES["parser"], kind.__name__.lower(), f"{__name__}:{kind.__name__}")
    return load_bundle("null")


def resolve(bundle: Bundle, given: Sequence[str], wanted: Sequence[str], **more: Any) -> ChainSpec:
    return resolve_chain(bundle, given=given, wanted=wanted, **({"layers": LAYERS} | more))


def test_a_second_kind_of_a_stage_is_one_line_of_the_table(nothing: Bundle, job: Job, tmp_path: Path) -> None:
    other = load_bundle("null", ["parser.kind=other"])
    plan = small.make_here(job("identities.count=2", "gates.face_area=[1, 1]"), other, tmp_path / "out")
    assert plan.recipe.stages[1].kind == "other"
    (record,) = read_commits(plan.out).values()
    assert record.rows == 16 and record.facts["rejected"] == 0  # the whole picture is face


def test_what_is_given_leaves_stages_out() -> None:
    bundle = load_bundle("null")
    assert resolve(bundle, ("noise_id", "embedding"), ("thermal", "scores")).stages == (
        "visible", "thermal", "faces", "gates",
    )  # fmt: skip
    assert resolve(bundle, ("visible",), ("thermal",)).stages == ("thermal",)
    assert resolve(bundle, ("visible",), ("thermal", "classes")).stages == ("parser", "thermal")
    assert resolve(bundle, ("visible", "classes"), ("thermal", "classes")).stages == ("thermal",)
    assert resolve(bundle, ("visible",), (), optional=("landmarks_70", "landmarks_478")).stages == (
        "thermal", "faces", "landmarks",
    )  # fmt: skip


def test_columns_order_the_stages_and_the_table_breaks_ties(nothing: Bundle) -> None:
    chain = resolve(nothing, ("noise_id", "embedding"), ("landmarks_70", "scores", "classes"))
    assert chain.stages == ("visible", "parser", "thermal", "faces", "gates", "landmarks")
    late = load_bundle("null", ["parser.kind=circular"])
    assert resolve(late, ("visible",), ("classes",)).stages == ("thermal", "parser")
    curious = load_bundle("null", ["parser.kind=curious"])
    assert resolve(curious, ("visible",), ("classes", "thermal")).stages == ("thermal", "parser")
    assert resolve(curious, ("visible",), ("classes",)).stages == ("parser",)


def test_gates_read_temperatures_only_where_there_are_any() -> None:
    given = ("visible", "embedding")
    bare = {stage: read for stage, _, _, read in resolve(load_bundle("null"), given, ("scores",)).pipes}
    assert [column for column, _ in bare["gates"]] == ["embedding", "found_embedding", "faces", "detection_score"]
    whole = {stage: read for stage, _, _, read in resolve(load_bundle("null"), given, ("scores", "thermal")).pipes}
    assert ("thermal", "thermal") in whole["gates"] and ("embedding", "source") in whole["gates"]
    text = str(resolve(load_bundle("null"), given, ("scores", "thermal")))
    assert "gates (no part): reads embedding from source; found_embedding, faces, detection_score from faces;" in text


def test_a_column_that_nobody_writes_is_named_with_who_wants_it() -> None:
    lacking = _without("faces")
    with pytest.raises(UserError, match=r"column bbox is wanted, and no part of bundle null writes it"):
        resolve(lacking, ("visible",), ("bbox",))
    with pytest.raises(UserError, match=r"stage gates reads column found_embedding, which the source does not bring .*"
                                        r"it has parts for: visible, parser, thermal, landmarks"):  # fmt: skip
        resolve(lacking, ("visible", "embedding"), ("scores",))
    assert resolve(lacking, ("visible",), ("thermal",), optional=("landmarks_478",)).stages == ("thermal",)


def _without(name: str) -> Bundle:
    bundle = load_bundle("null")
    return bundle.model_copy(update={"parts": {key: part for key, part in bundle.parts.items() if key != name}})


@pytest.mark.parametrize(
    ("kind", "given", "wanted", "message"),
    [
        ("double", ("visible",), ("bbox",), "column bbox is written by two stages, parser and faces"),
        ("double", ("visible",), ("classes", "keypoints"), "column bbox comes from stage parser and is written by stage faces"),
        ("double", ("visible", "bbox"), ("classes",), "column bbox comes from the source and is written by stage parser, too"),
        ("circular", ("visible",), ("thermal", "nonsense"), "column nonsense is wanted"),
        ("foreign", ("visible",), ("classes",), r"stage parser \(foreign\): no column 'aura' in models/columns.py"),
    ],
)  # fmt: skip
def test_columns_that_two_write_or_nobody_knows(
    kind: str, given: Sequence[str], wanted: Sequence[str], message: str, nothing: Bundle
) -> None:
    with pytest.raises(UserError, match=message):
        resolve(load_bundle("null", [f"parser.kind={kind}"]), given, wanted)


def test_stages_that_read_what_one_another_write_have_no_order(
    nothing: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        null.Thermal,
        "columns",
        staticmethod(lambda *_: Flow(reads=("classes",), writes=("thermal", "thermal_clipped"))),
    )
    with pytest.raises(UserError, match="stages parser, thermal read what one another write: no order fits"):
        resolve(load_bundle("null", ["parser.kind=circular"]), ("visible",), ("thermal",))


def test_of_two_parts_of_a_stage_a_job_says_which(job: Job, nothing: Bundle, tmp_path: Path) -> None:
    both = load_bundle("null", ["second.stage=parser", "second.kind=other"])
    with pytest.raises(
        UserError, match=r"parts parser, second all make stage parser; say which, as in --set parts.parser="
    ):
        chain_for(job(), both)
    chosen = chain_for(job("parts={parser: second}"), both)
    assert (chosen.link("parser").name, chosen.link("parser").part.kind) == ("second", "other")
    assert chain_for(job("parts={parser: parser}"), both).link("parser").part.kind == "null"
    with pytest.raises(
        UserError, match=r"parts.parser: bundle null has no part 'third' of this stage; it has: parser, second"
    ):
        chain_for(job("parts={parser: third}"), both)
    # Whoever needs no classes need not choose.
    assert resolve(both, ("visible",), ("thermal",)).stages == ("thermal",)
    # Rows are made again by the part that made them.
    plan = small.make_here(job("parts={parser: second}", "gates.face_area=[0, 1]"), both, tmp_path / "out")
    again = chain_of(plan.recipe, both, BRINGS)
    assert [(link.package, link.settings, link.flow) for link in again.links] == [
        (link.package, link.settings, link.flow) for link in plan.chain.links
    ]
    assert again.tracked == plan.chain.tracked and stage_recipes(again) == plan.recipe.stages


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("parts={painter: x}", r"parts.painter: no stage 'painter'; known: portrait, visible, parser"),
        ("settings.painter.steps=3", r"settings.painter: no stage 'painter'; known: portrait, visible, parser"),
        ("settings.visible.guidance=3", r"settings.visible.guidance: unknown key; known here: steps$"),  # diffusion's
        ("settings.visible.steps=few", r"settings.visible.steps: Input should be a valid integer"),
        ("settings.visible.size=64", r"settings.visible.size: conditions and samples of the job, and the bundle's size, say it"),
        ("settings.thermal.layers=[]", r"settings.thermal.layers: conditions and samples"),
        ("settings.gates.identity=0", r"settings.gates: the gates have a section of their own, gates"),
        ("settings.landmarks={}", r"landmarks is asked for something, and no column of this job needs that stage"),
        ("conditions=[warm, tropical]", r"the small thermalizer knows no condition 'tropical'; it has: warm, cold"),
        ("conditions=[warm, 22.5]", r"knows no room in degrees, so not '22.5'; it has: warm, cold"),
        ("samples=2", r"makes one picture of a condition, always the same: samples has to be 1"),
    ],
)  # fmt: skip
def test_what_a_job_cannot_ask_for_is_refused_by_name(edit: str, message: str, bundle: Bundle, job: Job) -> None:
    with pytest.raises(UserError, match=message):
        chain_for(job(edit), bundle)


def test_conditions_are_those_that_the_weights_name(tmp_path: Path, bundle: Bundle) -> None:
    """Read from the small file beside the weights; whether a mask is needed stands there, too."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thermal.json").write_text(json.dumps({"conditions": ["hot"], "mask_background": False}))
    own = small.with_part(bundle, "thermal", kind="unet", weights=str(tmp_path / "mine"), licence="mit")
    with pytest.raises(UserError, match="this thermalizer knows no condition 'warm'; it has: hot"):
        resolve(own, ("visible",), ("thermal",))
    assert resolve(own, ("visible",), ("thermal",), layers=layers_of(("hot",))).stages == ("thermal",)
    with pytest.raises(UserError, match="samples has to be 1"):
        resolve(own, ("visible",), ("thermal",), layers=layers_of(("hot",), 2))
    with pytest.raises(UserError, match="no room in degrees, so not '21'"):
        resolve(own, ("visible",), ("thermal",), layers=layers_of(("21",)))
    (tmp_path / "mine" / "thermal.json").write_text(json.dumps({"conditions": ["hot"]}))
    assert resolve(own, ("visible",), ("thermal",), layers=layers_of(("hot",))).stages == ("parser", "thermal")


def test_columns_that_follow_from_a_setting_are_tracked(nothing: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request may ask for what its service's defaults do not: a column without a bit would never be made."""

    class Tones(NoOptions):
        clipped: bool = False

    monkeypatch.setattr(null.Parser, "Settings", Tones)
    monkeypatch.setattr(
        null.Parser,
        "columns",
        staticmethod(
            lambda o, settings, f: Flow(("visible",), ("classes", "bbox") if settings.clipped else ("classes",))
        ),
    )
    chain = resolve(nothing, ("visible",), ("classes",))
    assert chain.tracked == ("visible", "classes")
    assert chain.with_settings(nothing, {"parser": {"clipped": True}}, ()).tracked == ("visible", "classes", "bbox")


def test_redraws_stay_with_the_first_stage(bundle: Bundle, job: Job) -> None:
    chain = chain_for(job(), bundle)
    split = small.profile("groups=[{stages: [visible]}, {stages: [parser, thermal, faces, gates]}]")
    with pytest.raises(
        UserError,
        match=r"drawn again up to 3 times by the actor that holds the first stage, visible.*"
        r"Put visible, parser, thermal, faces, gates into one group, or set gates.attempts=1",
    ):
        check_profile(split, chain, attempts=3)  # fmt: skip
    assert len(check_profile(split, chain, attempts=1)) == 2
    threads = small.profile("groups=[{stages: [visible], threads: 2}]")
    with pytest.raises(UserError, match="would compute on a CPU in 2 threads"):
        check_profile(threads, chain)
    assert check_profile(small.profile("groups=[{stages: [visible], threads: 2, gpus: 1}]"), chain)
