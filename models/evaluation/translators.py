"""`thermapair evaluate translation`: which translators are compared, and what stands in their tables.

Every figure is of a probe, a translated picture that is looked up among true visible ones of another view, by a judge.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.attributes import ATTRIBUTES, THERMAL_ALIKE
from models.columns import Columns
from models.config import digest_of
from models.evaluation.bootstrap import difference, interval, mean
from models.evaluation.judges_reach import by_person, estimate_ratio, sum_by_person
from models.faces.metrics import RATES, unit_vectors, verify
from models.visible.cache import from_root
from models.weights.store import contents_digest

RAW, TRUE, MAMBA = "raw probe", "true visible", "Self-attn Mamba"
REGRESSION, ATTENTION, INTERLEAVED = "regression U-Net", "attention", "interleaved"
MULTI_SCALE, TWO_STAGE, ADVERSARIAL = "multi-scale", "two-stage", "adversarial"
ONE_STEP, UNTOLD, GIVEN = "one step", "without attributes", "given attributes"
UNGUIDED = "without identity guidance"
STUDENT = "student"
ADAPTED = "adapted recogniser"
WHY = {
    RAW: "the thermal picture itself, in grey, as the probe",
    REGRESSION: "a translator trained for the mean alone (`regression=true`), in one step: no diffusion",
    ATTENTION: "latent diffusion with attention in the block",
    MAMBA: "the bundle's translator, with scan and windows in the block",
    INTERLEAVED: "one scan over thermal and visible cells in turn",
    MULTI_SCALE: "thermal features at every level of the U-Net",
    TWO_STAGE: "attributes by a control network on a translator that stays as it is",
    ADVERSARIAL: "trained against a critic of patches beside (`adversarial=0.1`)",
    UNGUIDED: "the bundle's translator, whose steps no recogniser guides to whom the thermal face shows",
    STUDENT: "a student of few steps (`train distill_translator`), in the most that it was trained for",
    ONE_STEP: "the bundle's translator in a single step: its mean",
    UNTOLD: "the bundle's translator, told no attributes",
    GIVEN: "the bundle's translator, told the true attributes",
    ADAPTED: "no translation: the thermal picture as the probe of a recogniser adapted to it (`train hfr`), among faces by the "
    "recogniser that it was adapted from; all others are read by the judge",
    TRUE: "the true visible picture as the probe: the most that can be expected",
}
"""Row -> what it says, in the order of the tables."""
FOLDERS = {REGRESSION: "regression", ATTENTION: "attention", INTERLEAVED: "interleaved", MULTI_SCALE: "multi_scale",
           TWO_STAGE: "two_stage", ADVERSARIAL: "adversarial", STUDENT: "student"}  # fmt: skip
"""Row -> the recipe's field that names its translators."""
Figures = dict[str, list[Any]]
Line = dict[str, Any]
Table = dict[str, Any]
EXTENT = ("people",)


class Recipe(BaseModel):
    """Whose pictures are translated, how often, and by which further translators: folders, one for each seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["evaluate-translation"] = "evaluate-translation"
    people: int = Field(100, ge=2, description="of the gallery, the first with two views")
    together: int = Field(10, ge=1, description="people of a line of the ledger")
    draws: int = Field(2, ge=1, le=64, description="translations of each picture; the first is the probe")
    judge: str = Field("models/starter-judge", description="folder of the judges")
    landmarks: str = Field(
        "models/starter/landmarks", description="folder of what finds the faces of rows without points"
    )
    mamba: tuple[str, ...] = Field((), description="further seeds of the bundle's own translator")
    regression: tuple[str, ...] = ()
    attention: tuple[str, ...] = ()
    interleaved: tuple[str, ...] = ()
    multi_scale: tuple[str, ...] = ()
    two_stage: tuple[str, ...] = ()
    adversarial: tuple[str, ...] = ()
    student: tuple[str, ...] = ()
    hfr: tuple[str, ...] = Field((), description="further seeds of the bundle's recogniser for thermal faces")

    @model_validator(mode="after")
    def _check_people(self) -> "Recipe":
        if self.people % self.together:
            raise ValueError(f"people: {self.people} do not fill lines of {self.together} (together)")
        return self

    def digest(self, *more: str) -> str:
        """Return what tells one recipe's numbers from another's, judges included, wherever they lie. Further translators have
        lines of their own, by their weights; more: what identifies bundle and rows. Raises UserError where there are no
        judges."""
        own = {*EXTENT, "judge", "landmarks", "mamba", "hfr", *FOLDERS.values()}
        judges = contents_digest(from_root(self.judge))
        return digest_of(self.model_dump(mode="json", exclude=own), judges, *more)


def read_words(rows: Columns) -> np.ndarray:
    """Return the number of each attribute's word, int64 [N, attributes]; -1 where a row does not say it in our words."""
    said = [json.loads(text) for text in rows["attributes"]]
    return np.array(
        [[k.index(row[n]) if row.get(n) in k else -1 for n, (_, _, k) in ATTRIBUTES.items()] for row in said]
    )


def find_groups(rows: Columns) -> dict[str, np.ndarray]:
    """Return name -> bool [N] of the subsets that are looked at alone: pose, occlusion, contrast, room, tone."""
    said = [json.loads(text) for text in rows["attributes"]]

    def is_one_of(name: str, *words: str) -> np.ndarray:
        return np.array([row.get(name) in words for row in said])

    # Contrast is the picture's own, in thirds of all probes: a cold or blurred face has little.
    degrees = np.asarray(rows["thermal"], np.float32)
    contrast = np.nanpercentile(degrees, 95, axis=(1, 2)) - np.nanpercentile(degrees, 5, axis=(1, 2))
    # What the rows say, and the room where they do.
    found = {f"pose: {word}": is_one_of("pose", word) for word in ATTRIBUTES["pose"][2]}
    worn = {
        name: is_one_of(name, *(word for word in ATTRIBUTES[name][2] if word != "none"))
        for name in ("glasses", "headwear")
    }
    found |= worn | {"neither": is_one_of("glasses", "none") & is_one_of("headwear", "none")}
    found |= {
        "low contrast": contrast <= np.quantile(contrast, 1 / 3),
        "high": contrast >= np.quantile(contrast, 2 / 3),
    }
    if "condition" in rows:
        rooms = np.asarray(rows["condition"]).astype(str)
        found |= {f"room: {room}": rooms == room for room in sorted(set(rooms))[:4]}
    return found | {f"tone: {word}": is_one_of("skin_tone", word) for word in ATTRIBUTES["skin_tone"][2]}


class Probes:
    """The probes of one row of the tables: vectors by the judge [seeds, P, D], and figures [seeds, P] by name.

    person: int [P], places in `gallery` [G, D], or [seeds, G, D] where each seed has its own.
    """

    def __init__(
        self, vectors: np.ndarray, person: np.ndarray, gallery: np.ndarray, figures: Mapping[str, np.ndarray]
    ) -> None:
        self.similarity = unit_vectors(vectors) @ np.swapaxes(unit_vectors(gallery), -1, -2)
        self.same = person[:, None] == np.arange(gallery.shape[-2])
        self.person = person
        own = np.take_along_axis(self.similarity, person[None, :, None], axis=2)[..., 0]
        hits = (self.similarity.argmax(axis=2) == person).astype(float)
        self.figures = {"rank1": hits, "cosine": own, **figures}

    def people(self, name: str, where: np.ndarray | None = None) -> np.ndarray:
        """Return each person's mean of a figure, [seeds, people]; where: bool [P], probes that count."""
        values = self.figures[name] if where is None else np.where(where, self.figures[name], np.nan)
        return np.stack([by_person(seed, self.person) for seed in values])

    def estimate(self, name: str, where: np.ndarray | None = None) -> dict[str, float]:
        """Return the mean over people of a figure, with its interval over them and over seeds."""
        return interval(mean, [self.people(name, where)])._asdict()

    def rank1_of_probes(self) -> dict[str, float]:
        """Return the share of all probes whose nearest is the right person, as most papers report it: who has more probes counts
        for more. Its interval is over people, who are drawn with all their probes, and over seeds."""
        hits = self.figures["rank1"]
        sums = [np.stack([sum_by_person(one, self.person) for one in each]) for each in (hits, np.ones_like(hits))]
        return interval(lambda *drawn: np.divide(*(one.sum(axis=(-2, -1)) for one in drawn)), sums)._asdict()

    def verification(self, draws: int = 200) -> dict[str, dict[str, float]]:
        """Return area under the curve, equal error rate and rates at `RATES`, intervals by drawing people."""
        # People are drawn with all their probes, which are not independent of each other; the first figures are of all.
        rng, people = np.random.default_rng(0), np.unique(self.person)
        rows = [np.flatnonzero(self.person == one) for one in people]
        found = [self._verify(np.arange(len(self.person)))]
        for _ in range(draws):
            found.append(self._verify(np.concatenate([rows[k] for k in rng.integers(len(rows), size=len(rows))])))
        return {
            name: {
                "value": found[0][name],
                "low": float(np.quantile([one[name] for one in found[1:]], 0.025)),
                "high": float(np.quantile([one[name] for one in found[1:]], 0.975)),
            }
            for name in ("auc", "eer", *RATES)
        }

    def _verify(self, chosen: np.ndarray) -> dict[str, float]:
        """Return the figures of `verify` of chosen probes, the mean over seeds."""
        same = self.same[chosen]
        each = [verify(one[chosen][same], one[chosen][~same]) for one in self.similarity]
        return {name: float(np.mean([one[name] for one in each])) for name in each[0]}


def tables(rows: Mapping[str, Probes], truth: np.ndarray, groups: Mapping[str, np.ndarray]) -> dict[str, list[Table]]:
    """Return the tables of rows in their order. truth: the words of each probe, as `read_words`; groups: of probes."""
    order = [name for name in WHY if name in rows]
    return {
        "identity": [
            {
                "row": name,
                "seeds": len(rows[name].similarity),
                "rank1_probes": rows[name].rank1_of_probes(),
                **{figure: rows[name].estimate(figure) for figure in ("rank1", "cosine")},
                **rows[name].verification(),
            }
            for name in order
        ],
        "pictures": [
            {
                "row": name,
                **{one: rows[name].estimate(one) for one in ("psnr", "ssim", "diversity") if one in rows[name].figures},
            }
            for name in order
            if {"psnr", "diversity"} & rows[name].figures.keys()
        ],
        "against": _compare(rows),
        "groups": [
            {
                "row": name,
                **{group: rows[name].estimate("rank1", where) for group, where in groups.items() if where.any()},
            }
            for name in order
        ],
        "seen": [entry for name in order if (entry := _read(rows[name], name, truth, True))],
        "unseen": [entry for name in order if (entry := _read(rows[name], name, truth, False))],
    }


def _compare(rows: Mapping[str, Probes]) -> list[Table]:
    """Return how much higher the rank-1 of the bundle's translator is than that of others, on the same people."""
    if MAMBA not in rows:
        return []
    entries = []
    for name in (REGRESSION, ONE_STEP, ATTENTION, UNGUIDED, UNTOLD, ADAPTED):
        if name in rows:
            # Paired by person; where one has more seeds, those that both have.
            one, other = rows[MAMBA].people("rank1"), rows[name].people("rank1")
            seeds = min(len(one), len(other))
            gain = interval(difference, [one[:seeds], other[:seeds]])._asdict()
            entries.append({"row": f"{MAMBA} over {name}", "seeds": seeds, "rank1": gain})
    return entries


def _read(found: Probes, name: str, truth: np.ndarray, seen: bool) -> Table:
    """Return the balanced accuracy of the words that the judge reads, of attributes that thermal shows (seen), or does not.

    Words that thermal shows alike are told apart by nobody: beside their attribute stands what it shows, "glasses worn".
    """
    if "words" not in found.figures:
        return {}
    entry: Table = {"row": name}
    wanted = "observable" if seen else "unobservable"
    for place, (attribute, (_, shown, words)) in enumerate(ATTRIBUTES.items()):
        if shown != wanted:
            continue
        true, read = truth[:, place], found.figures["words"][0][:, place]
        entry |= _share_right(attribute, true, read, found.person)
        if seen and attribute in THERMAL_ALIKE:
            what, alike = THERMAL_ALIKE[attribute]
            # All of them under the number of the first.
            among = [words.index(word) for word in alike]
            true, read = (np.where(np.isin(values, among), among[0], values) for values in (true, read))
            entry |= _share_right(f"{attribute} {what}", true, read, found.person)
    return entry


def _share_right(label: str, truth: np.ndarray, read: np.ndarray, person: np.ndarray) -> Table:
    """Return the share read rightly, int [N] each, as the mean over words, and chance; nothing where rows say one word alone."""
    said = np.unique(truth[truth >= 0])
    if len(said) < 2:
        return {}
    known = truth[:, None] == said
    right = known & (truth == read)[:, None]
    accuracy = estimate_ratio(*(sum_by_person(one, person) for one in (right, known)))
    return {label: accuracy._asdict(), f"{label}, chance": 1 / len(said)}


def join_figures(lines: Sequence[Line], parts: int) -> dict[str, np.ndarray]:
    """Return the figures of the first `parts` parts of a row in order, [P, ...]; of a part that was measured again the last."""
    found = {line["part"]: line["measures"] for line in lines}
    each = [found[part] for part in range(parts)]
    return {name: np.concatenate([np.asarray(one[name]) for one in each]) for name in each[0]}
