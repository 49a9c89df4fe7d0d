"""`thermapair evaluate lapig`: what there is to measure, its tables, and a small run that goes on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cluster import cli
from models.attributes import ATTRIBUTES
from models.errors import EnvironmentFault, UserError
from models.evaluation.lapig.recipe import GivenRecipe, Recipe
from models.evaluation.lapig.tables import tables
from models.evaluation.lapig.ways import ways
from models.faces.metrics import unit_vectors
from models.temperature import to_centikelvin
from models.weights.bundle import Bundle, load_bundle
from models.weights.store import ROOT, seal
from pipelines.evaluation.lapig import bench, given
from pipelines.evaluation.lapig.pages import render_tables
from pipelines.evaluation.lapig.sampled import compare_people
from pipelines.evaluation.measuring import keep, load_recipe, sort_edits
from tests.models.thermal.latent.tiny import write_part

TINY = ["people=2", "gallery=3", "together=2", "known=1", "fitted=2", "visible.settings.steps=1"]
FACTS = {
    "command": "thermapair evaluate lapig", "digest": "0", "bundle": "starter", "data": "", "commits": ["c"], "hardware": {},
}  # fmt: skip


def line(row: str, part: int, **measures: object) -> dict:
    return {"table": "pairs", "row": row, "part": part, "measures": {"person": [2 * part, 2 * part + 1], **measures}}


def test_wrong_values_and_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gallery: 50 people do not hold the 100"):
        load_recipe(Recipe, ["gallery=50"], "lapig")
    with pytest.raises(UserError, match="do not fill lines of 10"):
        load_recipe(Recipe, ["people=25"], "lapig")
    with pytest.raises(UserError, match="no table 'pear'; known: pairs, degrees, people"):
        bench.run(tmp_path, "starter", [], ["pear"])


def test_an_edit_of_neither_recipe_nor_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--set poeple=3: the recipe has no poeple, nor has a bundle; it has .*people"):
        bench.run(tmp_path / "out", overrides=["poeple=3"])
    own, others = sort_edits(
        Recipe, ["people=20", "thermal.weights=out/x", "faces=faces_thermal", "size=64", "new={kind: unet}"]
    )
    assert own == ["people=20"] and len(others) == 4


def test_tables_are_chosen_of_what_is_made_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "lapig", "--data", str(tmp_path), "--tables", "degrees", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    assert "of --data all is read that can be" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_rows_are_those_that_the_bundle_can_be_without() -> None:
    recipe = Recipe()
    assert list(ways(load_bundle("starter"), recipe)) == ["full", "no caption", "no head"]
    assert list(ways(load_bundle("null"), recipe)) == ["full", "no caption"]
    latent = ["thermal.kind=latent-diffusion", "thermal.weights=elsewhere", "thermal.licence=apache-2.0",
              "visible.options.latents=true", "visible.weights.text_branch={uri: words, licence: mit}"]  # fmt: skip
    found = ways(load_bundle("starter", latent), recipe)
    assert list(found) == ["full", "no caption", "no head", "no text branch", "U-Net", "unchained"]
    assert "text_branch" not in found["no text branch"].bundle.part("visible").weights
    assert found["U-Net"].bundle.part("thermal").kind == "unet"
    assert found["unchained"].bundle.part("thermal").options == {"latents": False}
    assert found["full"].bundle.folder == found["U-Net"].bundle.folder


def test_cells_name_every_part_once_and_more_people_add_to_them(tmp_path: Path) -> None:
    few, many = (bench.Bench(Recipe(people=count, gallery=40), load_bundle("starter"), tmp_path) for count in (20, 40))
    assert few.digest == many.digest != bench.Bench(Recipe(people=20), load_bundle("starter"), tmp_path).digest
    cells = [list(one.cells(("pairs", "degrees", "people"))) for one in (few, many)]
    assert len(set(cells[0])) == len(cells[0]) and set(cells[0]) < set(cells[1])
    # What was measured is not measured again, unless what was kept of it is gone.
    done = cells[0][-1]._replace(table="pairs", row="full", part=0)
    few.ledger.append({"digest": few.digest, **done._asdict(), "measures": {}})
    assert done in few.missing(("pairs",))
    keep(few.place(done), judge=np.zeros(1))
    assert done not in few.missing(("pairs",)) and done._replace(part=1) in few.missing(("pairs",))


def latent_bundle(folder: Path) -> Bundle:
    """Return the starter with a small latent diffusion, written to `folder`, as its thermal part."""
    part = write_part(folder, 64)
    seal(part)
    edits = ["thermal.kind=latent-diffusion", f"thermal.weights={part}", "thermal.licence=mit"]
    return load_bundle("starter", edits)


def test_other_judges_are_another_recipe_wherever_they_lie(tmp_path: Path) -> None:
    judges, starter = tmp_path / "judges", load_bundle("starter")
    shutil.copytree(ROOT / "models/starter-judge", judges)

    def digests(judge: str) -> tuple[str, str]:
        lapig = bench.Bench(Recipe(judge=judge), starter, tmp_path / "out").digest
        return lapig, GivenRecipe(judge=judge).digest("bundle", "rows")

    before = digests(str(judges))
    assert before == digests("models/starter-judge")
    with open(judges / "pose/pose.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    after = digests(str(judges))
    assert before[0] != after[0] and before[1] != after[1]
    with pytest.raises(UserError, match="nowhere does not exist"):
        digests(str(tmp_path / "nowhere"))


def test_the_plain_u_net_is_of_the_repository_and_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, own = latent_bundle(tmp_path / "latent"), tmp_path / "here" / "unet"
    shutil.copytree(ROOT / "models/starter/thermal", own)
    # The default is found from any folder; a relative one that is named is of the working directory, as everywhere.
    monkeypatch.chdir(own.parent)
    assert ways(bundle, Recipe())["U-Net"].bundle.fetch("thermal")["model"] == ROOT / "models/starter/thermal"
    assert ways(bundle, Recipe(unet="unet"))["U-Net"].bundle.fetch("thermal")["model"] == own
    # The same bytes are the same part; another training is not.
    same, copied = (bench.Bench(Recipe(unet=unet), bundle, tmp_path / "out").digest for unet in (Recipe().unet, "unet"))
    (own / "thermal.json").write_text((own / "thermal.json").read_text() + " ")
    seal(own)
    assert same == copied != bench.Bench(Recipe(unet="unet"), bundle, tmp_path / "out").digest
    # One that is missing is refused before anything is measured, and is nobody's matter where no row needs it.
    with pytest.raises(EnvironmentFault, match="nowhere does not exist"):
        bench.Bench(Recipe(unet="nowhere"), bundle, tmp_path / "out")
    bench.Bench(Recipe(unet="nowhere"), load_bundle("starter"), tmp_path / "out")


def test_tables_are_of_people_and_tell_words_and_tones() -> None:
    names = list(ATTRIBUTES)
    asked = [[0] * len(names), [1] * len(names)]
    found = [[0] * len(names), [0] * len(names)]
    # A picture each of four people, every second found; nobody's smile was asked for.
    asked[0][names.index("expression")] = asked[1][names.index("expression")] = -1
    lines = [line("full", part, rank1_100=[1.0, 0.0], asked_words=asked, found_words=found) for part in (1, 0)]
    lines[0]["stages"] = lines[1]["stages"] = {"visible": 3.0, "thermal": 1.0}
    made = tables(lines, (100,))
    assert made["identity"][0]["rank1_100"]["value"] == 0.5
    assert made["tones"][0]["dark"]["value"] == 1.0 and made["tones"][0]["brown"]["value"] == 0.0
    (attributes,) = made["attributes"]
    assert attributes["glasses"]["value"] == 0.5 and attributes["expression"] is None
    assert made["speed"] == [{"row": "full", "pairs_per_second": 0.5, "shares": {"visible": 0.75, "thermal": 0.25}}]
    page = render_tables(
        made | {"distribution": [], "people": []}, FACTS | {"recipe": Recipe().model_dump(mode="json")}
    )
    assert (
        "| full | 0.500 [" in page
        and "| glasses | 0.5" in page
        and "expression" not in page
        and "Not measured" in page
        and "\n\n\n" not in page
    )


def test_thermal_halves_of_one_picture_are_compared_and_no_others(tmp_path: Path) -> None:
    part = write_part(tmp_path, 64)
    seal(part)
    edits = [
        "thermal.kind=latent-diffusion",
        f"thermal.weights={part}",
        "thermal.licence=mit",
        "visible.options.latents=true",
    ]
    found = bench.Bench(Recipe(people=10, gallery=10), load_bundle("starter", edits), tmp_path / "out")
    chained = np.full((2, 1, 4, 4), 30.0, np.float32)
    keep(found.place(bench.Cell("pairs", "full", 0)), thermal=to_centikelvin(chained))
    for row in ("unchained", "U-Net"):
        assert found._apart(bench.Cell("pairs", row, 0), chained + 0.05) == {"apart": [0.05, 0.05]}
    for row in ("full", "no caption", "no head"):
        assert found._apart(bench.Cell("pairs", row, 0), chained) == {}


def test_likeness_to_the_trained_on_is_read_beside_that_of_strangers() -> None:
    rng, recipe = np.random.default_rng(0), Recipe(far=0.01, trained=30)
    known, training = (unit_vectors(rng.normal(size=(count, 8))) for count in (200, 30))
    # Half of the people who are made are copies of somebody trained on.
    made = np.stack([np.concatenate([training[:10], known[:10]])] * 2, axis=1)
    (row,) = compare_people({"as drawn": (made[:, 0], made)}, known, training, recipe)
    near = ((known @ training.T).max(axis=1) > row["threshold"]).mean()
    assert row["strangers"]["value"] == near and 0.1 < near < 0.4 and row["leaked"]["value"] >= 0.5
    facts = FACTS | {"recipe": recipe.model_dump(mode="json")}
    empty = {"distribution": [], "identity": []}
    page = render_tables({"people": [row]} | empty, facts)
    assert f"a share of {near:.3f} [" in page and "nearest of the 30 people trained" in page
    # Without people of training there is nobody to be alike to.
    (alone,) = compare_people({"as drawn": (made[:, 0], made)}, known, training[:0], recipe)
    page = render_tables({"people": [alone]} | empty, facts)
    assert (
        "whom no model learned from" not in page
        and "asked for.\n\n\n| row" not in page
        and "asked for.\n\n| row" in page
    )


def test_pairs_that_are_there_are_compared_over_all_parts(tmp_path: Path) -> None:
    assert (
        given.read_words(np.array(['{"glasses": "clear", "beard": "blue"}', ""], object))[0].count(-1)
        == len(ATTRIBUTES) - 1
    )
    lines = []
    for part, people in enumerate((["ann", "bob"], ["bob", "ann"])):
        vectors = np.eye(2)[[int(who == "bob") for who in people]]
        keep(tmp_path / f"given-{part}.npz", judge=vectors, grey=vectors, features=vectors, small=vectors * 100)
        lines.append(line("given", part) | {"measures": {"person": people, "cosine": [0.5, 0.7]}})
    made = given.collect_tables(lines[::-1], tmp_path)
    (row,) = made["identity"]
    assert row["rank1_2"]["value"] == 1.0 and row["cosine"]["value"] == pytest.approx(0.6)
    assert made["diversity"][0]["consistency"]["value"] == 1.0 and made["diversity"][0]["variety"]["value"] == 0.0


def test_what_rows_do_not_say_is_one_line_and_no_empty_cells() -> None:
    read = {"data": "sets/own", "read_split": "test", "pictures": 2, "shown": 2}
    names, facts = list(ATTRIBUTES), FACTS | {"recipe": GivenRecipe().model_dump(mode="json")} | read
    empty = {"distribution": [], "people": []}
    # A published set says nothing of anybody's looks; of its grey pictures no degrees are known.
    nothing = [[-1] * len(names)] * 2
    page = render_tables(
        tables([line("given", 0, face_found=[1.0, 1.0], asked_words=nothing, found_words=nothing)], (1,)) | empty, facts
    )
    assert "The rows say no words, no poses, no degrees with classes: what is read beside these is left out." in page
    assert (
        page.lstrip().startswith("# Pairs at `sets/own`, read by judges")
        and "2 pictures of 2 people, the split `test`" in page
    )
    assert "Words that are there" not in page and "|  |" not in page and "nan" not in page
    # Somebody's set says whether glasses are worn, and has poses.
    asked = [[0 if name == "glasses" else -1 for name in names]] * 2
    page = render_tables(
        tables([line("given", 0, yaw=[1.0, 2.0], asked_words=asked, found_words=asked)], (1,)) | empty, facts
    )
    assert "The rows say no degrees with classes: what" in page
    lines = page.partition("## Words that are there")[2].partition("##")[0].split("\n")
    assert [text.split()[1] for text in lines if text.startswith("| ")] == ["attribute", "---", "glasses", "mean"]


@pytest.mark.slow
def test_a_small_run_is_measured_and_goes_on(tmp_path: Path) -> None:
    edits = [word for edit in TINY for word in ("--set", edit)]
    assert cli.main(["evaluate", "lapig", "--tables", "pairs", "--out", str(tmp_path), *edits]) == 0
    found = json.loads((tmp_path / "tables.json").read_text())["tables"]
    rows = {entry["row"]: entry for entry in found["identity"]}
    assert set(rows) == {"true pair", "known picture", "full", "no caption", "no head"}
    # A copy of what is known is found, and is a copy; halves of two people do not fit.
    assert rows["known picture"]["rank1_3"]["value"] == 1.0 and rows["known picture"]["copy_paste"]["value"] > 0.3
    apart = {entry["row"]: entry["agreement"]["value"] for entry in found["agreement"]}
    assert apart["another's thermal"] > 2 * apart["true pair"]
    before = (tmp_path / "ledger.jsonl").read_text()
    assert cli.main(["evaluate", "lapig", "--tables", "pairs", "--out", str(tmp_path), *edits]) == 0
    assert (tmp_path / "ledger.jsonl").read_text() == before
