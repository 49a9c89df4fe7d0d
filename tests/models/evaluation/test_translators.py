"""Tables of translators: who is found, paired gains, groups, and attributes that thermal shows or does not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.attributes import ATTRIBUTES
from models.errors import UserError
from models.evaluation.translators import MAMBA, RAW, REGRESSION, TRUE, Probes, Recipe, find_groups, read_words, tables
from models.weights.store import ROOT

PERSON = np.repeat(np.arange(4), 2)
WORDS = {name: known[0] for name, (_, _, known) in ATTRIBUTES.items()}
FIRST = list(ATTRIBUTES).index("glasses")


def rows() -> dict[str, np.ndarray]:
    """Return two probes of each of four people: the second of each wears glasses, in a cold room and with little contrast."""
    said = [WORDS | {"glasses": ATTRIBUTES["glasses"][2][k % 2]} for k in range(8)]
    scene = np.linspace(20, 36, 16, dtype=np.float32).reshape(4, 4)
    return {
        "attributes": np.array([json.dumps(one) for one in said], object),
        "thermal": np.stack([scene if k % 2 == 0 else scene / 4 + 20 for k in range(8)]),
        "condition": np.array(["warm", "cold"] * 4, object),
    }


def probes(wrong: int, seeds: int = 1, read: int = 0) -> Probes:
    """Return probes of which the first `wrong` people's are taken for the next person; the judge reads word `read` of glasses."""
    vectors = np.eye(4)[np.where(PERSON < wrong, (PERSON + 1) % 4, PERSON)]
    words = np.zeros((8, len(ATTRIBUTES)))
    words[:, FIRST] = read
    return Probes(
        np.stack([vectors] * seeds),
        PERSON,
        np.eye(4),
        {"words": np.stack([words] * seeds), "psnr": np.ones((seeds, 8))},
    )


def test_rows_say_who_is_found_and_what_it_is_worth() -> None:
    found = tables(
        {REGRESSION: probes(3), MAMBA: probes(1, seeds=2), TRUE: probes(0)}, read_words(rows()), find_groups(rows())
    )
    assert [(row["row"], row["seeds"]) for row in found["identity"]] == [(REGRESSION, 1), (MAMBA, 2), (TRUE, 1)]
    assert [row["rank1"]["value"] for row in found["identity"]] == [0.25, 0.75, 1.0]
    assert found["identity"][2]["auc"]["value"] == 1 and found["identity"][0]["auc"]["value"] < 1
    (gain,) = found["against"]
    assert gain["rank1"]["value"] == pytest.approx(0.5) and gain["rank1"]["low"] <= 0.5 <= gain["rank1"]["high"]


def test_rank_one_of_probes_counts_probes_and_that_of_people_people() -> None:
    # Eight probes of the first person, all found; one each of the two others, found by the first seed alone.
    person = np.array([0] * 8 + [1, 2])
    seeds = np.stack([np.eye(3)[person], np.eye(3)[np.array([0] * 8 + [2, 1])]])
    found = Probes(seeds, person, np.eye(3), {})
    assert found.rank1_of_probes()["value"] == pytest.approx((10 + 8) / 20)
    assert found.estimate("rank1")["value"] == pytest.approx((1 + 1 / 3) / 2)
    # Whoever is drawn comes with all their probes: the worst draw holds nobody of the first person and the second seed alone.
    low, high = (found.rank1_of_probes()[bound] for bound in ("low", "high"))
    assert low == 0 and high == 1
    said = tables({MAMBA: found}, np.full((10, len(ATTRIBUTES)), -1), {})["identity"][0]
    assert said["rank1_probes"] == found.rank1_of_probes() and said["rank1"] == found.estimate("rank1")
    assert {"vr_at_far_5e-2", "vr_at_far_1e-2", "vr_at_far_1e-3"} < said.keys()


def test_groups_are_of_pose_occlusion_contrast_room_and_tone() -> None:
    groups = find_groups(rows())
    second = np.arange(8) % 2 == 1
    worn = np.array([json.loads(text)["glasses"] != "none" for text in rows()["attributes"]])
    assert (groups["glasses"] == worn).all() and (groups["room: cold"] == second).all()
    assert (groups["low contrast"] == second).all() and (groups["high"] == ~second).all()
    found = tables({RAW: probes(2)}, read_words(rows()), groups)["groups"][0]
    assert found["room: warm"]["value"] == 0.5 and f"tone: {ATTRIBUTES['skin_tone'][2][1]}" not in found


def test_accuracy_is_balanced_over_words_that_rows_say() -> None:
    found = tables({MAMBA: probes(0)}, read_words(rows()), {})
    assert found["seen"][0]["glasses"]["value"] == 0.5 and found["seen"][0]["glasses, chance"] == 0.5
    assert "skin_tone" not in found["seen"][0] and list(found["unseen"][0]) == ["row"]  # all rows have one tone alone


def test_lenses_that_thermal_shows_alike_are_told_apart_from_none_alone() -> None:
    # The judge sees dark glasses everywhere; rows say none or clear ones.
    found = tables({MAMBA: probes(0, read=2)}, read_words(rows()), {})["seen"][0]
    assert found["glasses"]["value"] == 0 and found["glasses worn"]["value"] == 0.5


def test_people_fill_lines() -> None:
    with pytest.raises(ValueError, match="do not fill lines"):
        Recipe(people=15)
    assert Recipe().digest("a") == Recipe(people=200, attention=("x",)).digest("a") != Recipe(draws=4).digest("a")


def test_other_judges_are_another_recipe_wherever_they_lie(tmp_path: Path) -> None:
    judges = tmp_path / "judges"
    shutil.copytree(ROOT / "models/starter-judge", judges)
    before = Recipe(judge=str(judges)).digest()
    assert before == Recipe().digest()
    with open(judges / "attributes/attributes.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    assert Recipe(judge=str(judges)).digest() != before
    with pytest.raises(UserError, match="nowhere does not exist"):
        Recipe(judge=str(tmp_path / "nowhere")).digest()
