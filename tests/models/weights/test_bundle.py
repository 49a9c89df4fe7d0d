"""Bundles: every form of their file, parts by any name, edits, licences; what cannot be is named before it is loaded."""

import json
import textwrap
from pathlib import Path

import fsspec
import pytest

from models import stages
from models.errors import EnvironmentFault, UserError
from models.weights import store
from models.weights.bundle import (
    LICENCES,
    Bundle,
    Part,
    Weights,
    digests,
    fetch,
    licence_of,
    load_bundle,
    pin,
    places,
    small_files,
    strictest,
)
from models.weights.store import ROOT, locate, seal, weights_digest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def bundle(tmp_path: Path, parts: str, *edits: str) -> Bundle:
    """Return the bundle of a file with these parts, in YAML."""
    path = tmp_path / "home" / "bundle.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text("name: mine\nsize: 64\nparts:\n" + textwrap.indent(textwrap.dedent(parts), "  "))
    return load_bundle(str(path), edits)


def write_sealed(folder: Path, content: str = "{}") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(content)
    seal(folder)
    return folder


def test_one_uri_is_the_main_weights(tmp_path: Path) -> None:
    found = bundle(tmp_path, "parser: {kind: unet, weights: there, licence: mit}")
    part = found.part("parser")
    assert part.weights == {"model": Weights(uri="there")} and part.licences == ["mit"]
    assert places(part, found.folder) == {"model": tmp_path / "home" / "there"}


def test_several_weights_by_name(tmp_path: Path) -> None:
    found = bundle(
        tmp_path,
        f"""
        visible:
          kind: latent-diffusion
          licence: openrail
          weights:
            model: /absolute
            vae: {{uri: "s3://store/vae/", digest: abc, licence: mit}}
            unet: {{uri: "hub:who/what", revision: {COMMIT}}}
            encoder: hub:who/what@{COMMIT}
            tokenizer: ../beside
            scheduler: file:///elsewhere
        """,
    )
    part = found.part("visible")
    assert part.licences == ["openrail", "mit", "openrail", "openrail", "openrail", "openrail"]
    assert {name: str(place) for name, place in places(part, found.folder).items()} == {
        "model": "/absolute",
        "vae": "s3://store/vae",
        "unet": f"hub:who/what@{COMMIT}",
        "encoder": f"hub:who/what@{COMMIT}",
        "tokenizer": str(tmp_path / "home" / ".." / "beside"),
        "scheduler": "/elsewhere",
    }


def test_several_weights_are_fetched_and_told_apart_by_name(tmp_path: Path) -> None:
    folders = {
        name: write_sealed(tmp_path / "home" / name, json.dumps({"of": name})) for name in ("model", "vae", "unet")
    }
    parts = "visible: {kind: latent-diffusion, licence: mit, weights: {model: model, vae: vae}}"
    found = bundle(tmp_path, parts)
    assert found.fetch("visible") == {name: folders[name] for name in ("model", "vae")}
    known = {name: weights_digest(folders[name]) for name in ("model", "vae")}
    assert digests(found.part("visible"), found.folder) == known and len(set(known.values())) == 2
    with_unet = bundle(tmp_path, parts, f"visible.weights.unet={folders['unet']}")
    assert with_unet.fetch("visible") == folders


def test_weights_of_a_bundle_at_a_uri_lie_beside_it() -> None:
    text = "name: far\nsize: 64\nparts: {parser: {kind: unet, weights: parser, licence: mit}}\n"
    with fsspec.open("memory://bundles/far/bundle.yaml", "wb") as file:
        file.write(text.encode())
    found = load_bundle("memory://bundles/far/bundle.yaml")
    assert places(found.part("parser"), found.folder) == {"model": "memory://bundles/far/parser"}
    assert locate("../near/parser", found.folder) == "memory://bundles/near/parser"
    assert locate("/here", found.folder) == Path("/here")
    with pytest.raises(EnvironmentFault, match="memory://bundles/none.yaml cannot be read"):
        load_bundle("memory://bundles/none.yaml")


def test_a_bundle_by_file_uri_is_the_file(tmp_path: Path) -> None:
    bundle(tmp_path, 'thermal: {kind: "null"}')
    assert load_bundle(f"file://{tmp_path}/home/bundle.yaml").folder == str(tmp_path / "home")


def test_folders_below_the_rooms_are_relative_to_them() -> None:
    found = load_bundle("starter")
    assert found.folder == "models/starter"
    assert found.main("parser") == ROOT / "models" / "starter" / "parser"


def test_parts_have_any_name_and_say_their_stage(tmp_path: Path) -> None:
    two = """
        lab: {stage: thermal, kind: unet, weights: lab, licence: mit}
        field: {stage: thermal, kind: "null"}
        parser: {kind: "null"}
        """
    found = bundle(tmp_path, two)
    assert [part.stage for part in found.parts.values()] == ["thermal", "thermal", "parser"]
    with pytest.raises(
        UserError, match=r"parts lab, field all make stage thermal; say which, as in --set parts\.thermal=lab"
    ):
        found.part("thermal")
    assert found.part_for("thermal", {"thermal": "field"}) == ("field", found.parts["field"])
    with pytest.raises(
        UserError, match=r"parts\.thermal: bundle mine has no part 'parser' of this stage; it has: lab, field"
    ):
        found.part("thermal", {"thermal": "parser"})
    assert found.part("parser", {"thermal": "field"}).kind == "null"
    assert found.part_for("faces") is None
    with pytest.raises(UserError, match="no part for stage faces: train one"):
        found.part("faces")


def test_a_folder_given_by_hand_is_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("HOME", "/home/me")
    one = "weights: {stage: thermal, kind: unet, weights: beside, licence: mit}\n"
    here = str(tmp_path / "cwd")

    def uri(*edits: str) -> str:
        return bundle(tmp_path, one + "thermal: {stage: thermal, kind: unet, weights: beside, licence: mit}", *edits).parts[
            "thermal"
        ].weights["model"].uri  # fmt: skip

    assert uri() == "beside"
    for edit in ("weights=mine", "weights.model=mine", "weights.model.uri=mine", "weights={model: mine}",
                 "weights={model: {uri: mine, licence: mit}}", "weights.model={uri: mine}", "weights=' mine'"):  # fmt: skip
        wanted = f"{here}/ mine" if "'" in edit else f"{here}/mine"
        assert uri(f"thermal.{edit}") == uri(f"parts.thermal.{edit}") == wanted, edit
    assert uri("thermal.weights=2026") == f"{here}/2026"
    assert uri("thermal.weights=~/mine") == "/home/me/mine"
    for kept in ("s3://a/b", f"hub:a/b@{COMMIT}", "file:///a", "/a"):
        assert uri(f"thermal.weights={kept}") == kept
    both = "visible: {kind: latent-diffusion, weights: beside, licence: mit}"
    part = bundle(tmp_path, both, "visible.weights.vae=mine", "visible.weights.model.digest=abc").part("visible")
    assert part.weights == {"model": Weights(uri="beside", digest="abc"), "vae": Weights(uri=f"{here}/mine")}
    # Of a set that is given whole the folder alone is a folder.
    part = bundle(tmp_path, both, "visible.weights={model: {uri: mine, digest: abc}, vae: other}").part("visible")
    assert part.weights == {"model": Weights(uri=f"{here}/mine", digest="abc"), "vae": Weights(uri=f"{here}/other")}
    found = bundle(tmp_path, one, "weights.kind=null", "weights.weights={}", "name=other")
    assert (found.name, found.parts["weights"].kind) == ("other", "null"), "a part may be called weights"
    part = bundle(tmp_path, one, "weights.weights.model={uri: x, digest: abc}", "weights.weights.model.licence=cc0-1.0").parts[
        "weights"
    ]  # fmt: skip
    assert part.weights["model"] == Weights(uri=f"{here}/x", digest="abc", licence="cc0-1.0")


def test_of_two_parts_of_a_stage_an_edit_says_which(tmp_path: Path) -> None:
    """For commands without a job: embed, landmarks find."""
    parts = """
        faces: {kind: "null"}
        faces_thermal: {stage: faces, kind: "null", batch: 2}
        parser: {kind: "null"}
        """
    with pytest.raises(UserError, match="say which, as in --set parts.faces=faces"):
        bundle(tmp_path, parts).part("faces")
    found = bundle(tmp_path, parts, "parts.faces=faces_thermal", "faces_thermal.batch=3")
    assert (found.part("faces").batch, list(found.parts)) == (3, ["faces_thermal", "parser"])
    assert bundle(tmp_path, parts, "parts.faces=faces").part("faces").batch == 8
    assert found.folder == bundle(tmp_path, parts).folder
    with pytest.raises(UserError, match="no part 'third' of this stage; it has: faces, faces_thermal"):
        bundle(tmp_path, parts, "parts.faces=third")
    # A part itself is a mapping, and nothing else names one.
    assert bundle(tmp_path, parts, "parts.parser={kind: unet, weights: p, licence: mit}").part("parser").kind == "unet"
    with pytest.raises(UserError, match=r"parts.parser: Input should be a valid dictionary"):
        bundle(tmp_path, parts, "parts.parser=3")


def test_the_strictest_licence_wins(tmp_path: Path) -> None:
    assert strictest([]) == LICENCES[0]
    assert strictest(["mit", "openrail", "apache-2.0"]) == "openrail"
    assert strictest(["research-only", "somebodys-own", "mit"]) == "somebodys-own", (
        "one that nobody knows is the strictest"
    )
    parts = """
        parser: {kind: unet, weights: p, licence: apache-2.0}
        thermal: {kind: unet, weights: {model: {uri: t, licence: cc-by-nc-4.0}}}
        faces: {kind: "null"}
        """
    assert licence_of(bundle(tmp_path, parts).parts.values()) == "cc-by-nc-4.0"
    own = bundle(tmp_path, "parser: {kind: unet, weights: {model: {uri: p, licence: mit}}, licence: llama}")
    assert licence_of(own.parts.values()) == "mit"
    assert licence_of(bundle(tmp_path, 'faces: {kind: "null"}').parts.values()) == LICENCES[0]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("thermals: {kind: unet}", r"mine: thermals\.stage: no stage 'thermals'; known: portrait, visible, .*captions"),
        ("x: {stage: hat, kind: unet}", r"mine: x\.stage: no stage 'hat'"),
        ("parser: {kind: gan}", r"mine: parser\.kind: no kind 'gan' of stage parser; known: unet, null"),
        ("parser: {kind: unet}", r"mine: parser\.weights: kind unet needs model; known here: model"),
        (
            "parser: {kind: unet, weights: {model: a, vae: b}, licence: mit}",
            r"mine: parser\.weights\.vae: kind unet has no such weights; known here: model",
        ),
        (
            'parser: {kind: "null", weights: a, licence: mit}',
            r"parser\.weights\.model: kind null has no such weights; known here: none",
        ),
        ("parser: {kind: unet, weights: a}", "weights model: no licence is named"),
        (
            'visible: {kind: "null", options: {picture: no}}',
            r"mine: visible\.options\.picture: unknown key; known here: pictures",
        ),
        (
            "visible: {kind: latent-diffusion, weights: a, licence: mit, settings: {step: 3}}",
            r"mine: visible\.settings\.step: unknown key; known here: steps, guidance, guidance_interval, scheduler, ",
        ),
        (
            "visible: {kind: latent-diffusion, weights: a, licence: mit, settings: {steps: 0}}",
            r"mine: visible\.settings\.steps: Input should be greater than or equal to 1",
        ),
        (
            'visible: {kind: "null", settings: {size: 8}}',
            r"mine: visible\.settings\.size: the job says it, not the part",
        ),
        ('parser: {kind: "null", batch: 0}', r"parts\.parser\.batch"),
        ('parser: {kind: "null", dtype: float8}', r"parts\.parser\.dtype"),
        ('parser: {kind: "null", batches: 3}', r"parts\.parser\.batches: unknown key"),
        ("parser: {weights: a, licence: mit}", r"parts\.parser\.kind: is missing"),
        ("parser: {kind: unet, weights: {model: {url: a}}, licence: mit}", r"parts\.parser\.weights\.model\.uri: is missing"),
        (
            "parser: {kind: unet, weights: {model: {uri: a, sha: b}}, licence: mit}",
            r"parts\.parser\.weights\.model\.sha: unknown key",
        ),
        ("parser: unet", r"parts\.parser: "),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named_before_anything_is_loaded(part: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        bundle(tmp_path, part)


def test_unknown_bundles_and_wrong_sizes_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"no bundle 'startr': name one of faceclip, null, published, starter, student, translator, or the path or URI",
    ):
        load_bundle("startr")
    with pytest.raises(UserError, match=r"size: .*multiple of 32"):
        bundle(tmp_path, 'faces: {kind: "null"}', "size=100")
    with pytest.raises(UserError, match=r"has no part .faces.; it has: parser. A new part needs its kind"):
        bundle(tmp_path, 'parser: {kind: "null"}', "faces.batch=3")


def test_digests_are_those_the_bundle_wants(tmp_path: Path) -> None:
    weights = write_sealed(tmp_path / "home" / "parser")
    right = weights_digest(weights)
    told = "parser: {kind: unet, licence: mit, weights: {model: {uri: parser, digest: %s}}}"
    found = bundle(tmp_path, told % right)
    assert digests(found.part("parser"), found.folder) == {"model": right}
    assert found.fetch("parser") == {"model": weights} and found.main("parser") == weights
    write_sealed(weights, '{"other": 1}')
    with pytest.raises(
        EnvironmentFault, match=f"its digest is {weights_digest(weights)}, and the bundle wants {right}"
    ):
        found.fetch("parser")


def test_other_bytes_in_the_place_of_pinned_weights_are_refused(tmp_path: Path) -> None:
    weights = write_sealed(tmp_path / "home" / "parser")
    found = bundle(tmp_path, "parser: {kind: unet, weights: parser, licence: mit}")
    pinned = pin(found, ["parser"])
    assert digests(pinned.part("parser"), pinned.folder) == digests(found.part("parser"), found.folder)
    assert pinned.fetch("parser") == {"model": weights}
    write_sealed(weights, '{"other": 1}')
    found.fetch("parser")  # a bundle that names no digest takes what is there
    with pytest.raises(EnvironmentFault, match="the bundle wants"):
        pinned.fetch("parser")


def test_small_files_are_read_where_the_weights_lie(tmp_path: Path) -> None:
    write_sealed(tmp_path / "home" / "a", '{"here": 1}')
    found = bundle(tmp_path, "parser: {kind: unet, weights: a, licence: mit}")
    files = small_files(found.part("parser"), found.folder)["model"]
    assert "config.json" in files and "other.json" not in files and files.json("config.json") == {"here": 1}


def test_a_part_survives_its_own_text() -> None:
    part = Part(kind="unet", stage="parser", weights={"model": Weights(uri="a", licence="mit")}, redraw_batch=2)
    assert Part.model_validate(json.loads(part.model_dump_json())) == part


def test_a_commit_stands_for_the_bytes_of_hub_weights(tmp_path: Path) -> None:
    """Nothing is fetched to know them."""
    found = bundle(
        tmp_path, 'parser: {kind: unet, licence: mit, weights: "hub:a/b"}', f"parser.weights.model.revision={COMMIT}"
    )
    assert digests(found.part("parser"), found.folder) == {"model": COMMIT}


def test_hub_weights_need_a_commit(tmp_path: Path) -> None:
    found = bundle(tmp_path, 'parser: {kind: unet, licence: mit, weights: {model: {uri: "hub:a/b", revision: main}}}')
    for ask in (fetch, digests):
        with pytest.raises(UserError, match=r"hub:a/b@main: name a hub model as hub:owner/name@"):
            ask(found.part("parser"), found.folder)


def test_arc2face_samples_as_its_authors_do() -> None:
    part = load_bundle("published").parts["visible"]
    kind = stages.import_settings(stages.package_of("visible", part.kind, "kind"))
    found = stages.parse_settings(kind.Settings, part.settings, "settings")
    assert found == kind.Settings(steps=25, guidance=3.0)
    # At every noise level, by the solver that stands for the folder's PNDM, and with no adapter changed.
    assert (found.guidance_interval, found.scheduler, found.eta, found.expression_scale) == ((0, 1), "folder", None, 1)
