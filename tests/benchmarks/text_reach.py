"""How far captions reach the pictures: `python -m tests.benchmarks.text_reach --text-branch FOLDER [--people 48]`.

People of the starter's reference distribution, each with a caption whose words are drawn evenly. Every one is drawn three
times, with the same noise: with the identity's prompt alone (`captions: false`), with it and the text branch, and with the
caption in the starter's own prompt, which is the most that can be expected. The head is the caption's in all three, so pose and
expression are left out.

Asked words are looked for by the judge of attributes, whose own errors docs/evaluate.md has; with `--by pixels`, by what pixels
say: clothes by their colour, caps and opaque glasses by the starter's parser. Neither had a part in training the branch.
"""

import argparse
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from models.attributes import ATTRIBUTES
from models.captions.grammar import write_caption
from models.classes import CLASSES
from models.evaluation.judges import load_judges
from models.faces.metrics import unit_vectors
from models.parser.stage import Stage as Parser
from models.stages import NoOptions
from models.synthworld.render.shade import COLOUR_RGB
from models.visible import cache
from models.visible.sd.settings import Options, Settings
from models.visible.sd.stage import Stage
from models.weights.bundle import load_bundle
from pipelines.plan.people.identities import Reference

STARTER, JUDGES = Path("models/starter"), Path("models/starter-judge")
BATCH = 8
BY_HEAD = ("pose", "expression")
WAYS = ("no words", "text branch", "own prompt")
WORN = {"headwear": ("HEADWEAR", 0.01), "glasses": ("GLASSES", 0.004)}
"""Attribute -> class of its pixels, and the share of the picture from which on it is there."""


def ask(count: int) -> tuple[dict[str, np.ndarray], list[dict[str, str]]]:
    """Return rows of the visible stage, and what each caption says."""
    reference = Reference.of(load_bundle("starter"))
    said, captions = [], []
    for row in range(count):
        draw = random.Random(row)
        words = {name: draw.choice(every) for name, (_, _, every) in ATTRIBUTES.items() if name not in BY_HEAD}
        words["headwear"], words["glasses"] = draw.choice(("none", "cap")), draw.choice(("none", "opaque"))
        said.append(words)
        captions.append(write_caption(words, seed=row))
    rows = {
        "embedding": unit_vectors(np.stack([reference.sample(0, row) for row in range(count)])).astype(np.float32),
        "caption": np.array(captions, object),
        "noise_id": np.array([f"text-reach/{row}" for row in range(count)], object),
    }
    return rows, said


def make(rows: dict[str, np.ndarray], branch: Path, steps: int, scale: float) -> dict[str, np.ndarray]:
    """Return way -> pictures uint8 [N, S, S, 3]."""
    asked = {"steps": steps, "guidance": 2.0}
    words = Stage({"model": STARTER / "visible", "text_branch": branch}, Options(captions=False))
    return {
        "no words": words(rows, Settings(**asked, text_scale=0.0), BATCH)["visible"],
        "text branch": words(rows, Settings(**asked, text_scale=scale), BATCH)["visible"],
        "own prompt": Stage({"model": STARTER / "visible"}, Options())(rows, Settings(**asked), BATCH)["visible"],
    }


def find(pictures: np.ndarray, by: str) -> list[dict[str, str]]:
    """Return what each picture shows, in the words of those attributes that are read by `by`: judge or pixels."""
    if by == "judge":
        judged = load_judges(JUDGES).judge_attributes(pictures)
        words = {name: ATTRIBUTES[name][2] for name in judged if name not in BY_HEAD}
        return [
            {name: every[int(judged[name][row].argmax())] for name, every in words.items()}
            for row in range(len(pictures))
        ]
    classes = Parser({"model": STARTER / "parser"}, NoOptions())({"visible": pictures}, NoOptions(), BATCH)["classes"]
    return [read_pixels(picture, shown) for picture, shown in zip(pictures, classes, strict=True)]


def read_pixels(picture: np.ndarray, classes: np.ndarray) -> dict[str, str]:
    """Return clothing_colour, headwear and glasses of a picture uint8 [S, S, 3] by its classes uint8 [S, S]."""
    found = {
        name: {"headwear": "cap", "glasses": "opaque"}[name]
        if (classes == CLASSES.index(kind)).mean() > share
        else "none"
        for name, (kind, share) in WORN.items()
    }
    cloth = picture[classes == CLASSES.index("CLOTHING")]
    if len(cloth):
        # Light scales all three colours alike, so the direction says most and the length a third of it.
        mean = (cloth / 255.0).mean(axis=0) ** 2.2
        found["clothing_colour"] = min(COLOUR_RGB, key=lambda word: _distance(mean, np.array(COLOUR_RGB[word])))
    return found


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return how far two linear colours are apart: the angle between them, and a third of the log of their lengths' ratio."""
    lengths = float(np.linalg.norm(one)), float(np.linalg.norm(other))
    cosine = float(one @ other / max(lengths[0] * lengths[1], 1e-9))
    ratio = abs(float(np.log(max(lengths[0], 1e-4) / lengths[1])))
    return float(np.arccos(np.clip(cosine, -1, 1))) + ratio / 3


def table(said: list[dict[str, str]], found: Mapping[str, list[dict[str, str]]]) -> str:
    """Return a row for each attribute: how often what was asked for is found, each way, and by chance."""
    names = [name for name in said[0] if any(name in one for one in found[WAYS[0]])]
    lines = [f"| attribute | {' | '.join(WAYS)} | chance |", "|---|" + "---|" * (len(WAYS) + 1)]
    for name in names:
        asked = [one[name] for one in said]
        shares = [np.mean([one.get(name) == word for one, word in zip(found[way], asked, strict=True)]) for way in WAYS]
        chance = sum((asked.count(word) / len(asked)) ** 2 for word in set(asked))
        lines.append(f"| {name} | {' | '.join(f'{share:.2f}' for share in shares)} | {chance:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text-branch", type=Path, required=True, help="folder that `train text_branch` wrote")
    parser.add_argument("--people", type=int, default=48)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--scale", type=float, default=1.0, help="of the branch")
    parser.add_argument("--by", choices=("judge", "pixels"), default="judge")
    parser.add_argument("--keep", type=Path, help="write the pictures there, way beside way (PNG)")
    given = parser.parse_args()
    rows, said = ask(given.people)
    pictures = make(rows, cache.from_root(str(given.text_branch)), given.steps, given.scale)
    print(table(said, {way: find(made, given.by) for way, made in pictures.items()}))
    if given.keep:
        from PIL import Image

        lines = [
            np.concatenate([made[row] for row in range(min(given.people, 12))], axis=1) for made in pictures.values()
        ]
        Image.fromarray(np.concatenate(lines)).save(given.keep)


if __name__ == "__main__":
    main()
