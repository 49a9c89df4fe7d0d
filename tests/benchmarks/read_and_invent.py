"""What a bundle's caption model describes, invents and reads, on real vLLM: the floors of `captions.mode`.

    python -m tests.benchmarks.read_and_invent
    python -m tests.benchmarks.read_and_invent --set bundle.parts.captions.weights=out/train/mine/export --wrong

Inventing: sets of attributes with declared shares; how many answers are valid at once and in the end, how far each word's share
is from the declared one, and how many sentences state what they go with. Reading: the paraphrases of
`tests.models.captions.paraphrases`, which no training grammar made (`read_held`: those that the tables were not tuned on), by the
tables alone, by the model alone, by both, and as a job does, which asks the model only where the tables leave words over.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from models.attributes import ATTRIBUTES
from models.captions.answers import READABLE, read_schema
from models.captions.free_prompts import normalise_prompt
from models.captions.measure import Agreement, attribute_entropy, distinct_n
from models.captions.prompt import read_messages
from models.captions.reading import disagreements, read_attributes
from models.captions.sampling import draw_attributes
from models.captions.synonyms import EITHER_SIDE
from models.config import sort_edits
from models.seeds import seed_of
from models.stages import CAPTIONS
from models.weights.bundle import Bundle, load_bundle
from pipelines.captions.choose import clean
from pipelines.captions.engine import EngineSpec, text_seed
from pipelines.captions.invent import invent_samples, read_invented
from pipelines.captions.keys import Keys
from pipelines.captions.pool import Engines
from pipelines.captions.read import Reading, ask_reading, explains, parse_reading, read_by_words
from pipelines.captions.resident import Structured
from pipelines.config.profile import Profile, load_profile
from pipelines.plan.attributes import Vocabulary
from pipelines.run.session import ray_session
from tests.models.captions.paraphrases import Paraphrase, held_paraphrases, paraphrases

ROOMS = ("warm", "cold")
SHARES: dict[str, Any] = {
    "sex": {"woman": 0.5, "man": 0.5},
    "age": {"young": 0.4, "middle-aged": 0.35, "elderly": 0.25},
    "glasses": {"none": 0.6, "clear": 0.3, "opaque": 0.1},
    "headwear": {"none": 0.7, "cap": 0.1, "beanie": 0.1, "headscarf": 0.1},
    "expression": {"neutral": 0.3, "smile": 0.3, "laugh": 0.1, "sad": 0.1, "angry": 0.1, "surprised": 0.1},
}
"""Declared shares; the other attributes are as frequent as a job has them by default."""


def invent(pool: Engines, count: int, shares: dict[str, Any] = SHARES) -> dict[str, float]:
    """Return how `count` people of one view come out."""
    sources = json.dumps(dict.fromkeys(ATTRIBUTES, "asked"))
    words = json.dumps({name: some[0] for name, (_, _, some) in ATTRIBUTES.items()})
    rows = [
        {"identity_id": str(k), "view": 0, "draw": 0, "seed": k, "attributes": words, "attributes_source": sources}
        for k in range(count)
    ]
    answered, valid = 0, 0

    def ask(requests: Sequence[Structured]) -> list[str]:
        nonlocal answered, valid
        texts = [one.text for one in pool.collect(pool.submit(requests))]
        answered += len(texts)
        for request, text in zip(requests, texts, strict=True):
            offered = {name: one["enum"] for name, one in request.schema["properties"].items() if "enum" in one}
            valid += read_invented(text, offered, 0.0) is not None
        return texts

    found = invent_samples(rows, Vocabulary(shares), ask, pool.spec.options, Keys())
    sets = [one.attributes for one in found]
    # How far the share of each word is from the declared one, in points.
    counts = {name: Counter(one[name] for one in sets) for name in shares}
    off = max(abs(counts[name][word] / count - share) for name, some in shares.items() for word, share in some.items())
    # What the sentences say.
    stated = sum(not disagreements(one.caption, one.attributes) for one in found)
    denied = sum(_contradicts(one.caption, one.attributes) for one in found)
    return {
        "answers_in_schema": valid / max(1, answered),
        "answers_a_set": answered / count,
        "by_the_model": sum(one.source == "llm" for one in found) / count,
        "valid": sum(all(one[name] in ATTRIBUTES[name][2] for name in ATTRIBUTES) for one in sets) / count,
        "worst_share_off": off,
        "stated": stated / count,
        "contradicted": denied / count,
        "distinct_2": distinct_n([one.caption for one in found], 2),
        "entropy": sum(attribute_entropy(sets).values()) / len(ATTRIBUTES),
    }


def describe(pool: Engines, count: int) -> dict[str, float]:
    """Return how first captions of `count` attribute sets do, as `thermapair measure captions` asks for them."""
    seeds = [seed_of(0, "measure captions", k) for k in range(count)]
    sets = [draw_attributes(random.Random(seed)) for seed in seeds]
    written = pool.collect(pool.submit([(one, text_seed(seed, 0)) for one, seed in zip(sets, seeds, strict=True)]))
    agreement = Agreement()
    for one, text in zip(sets, written, strict=True):
        agreement.add(one, clean(text.text))
    return agreement.summary()


def _contradicts(caption: str, attributes: dict[str, str]) -> bool:
    """Whether the reader finds another word than the attribute's in a caption."""
    return any(word != attributes[name] for name, word in read_attributes(caption).items() if name in attributes)


def read(pool: Engines, asked: Sequence[Paraphrase], show: bool = False) -> dict[str, float]:
    """Return the share of paraphrases that are read aright, and of the single words in them."""
    alone = [
        Structured(read_messages(text, READABLE, ROOMS), 0, read_schema(text, ROOMS), 0.0)
        for text in (normalise_prompt(text) for text, _, _ in asked)
    ]
    both = [ask_reading(text, ROOMS) for text, _, _ in asked]
    answers = [one.text for one in pool.collect(pool.submit([*alone, *both]))]
    ways: dict[str, list[Reading | None]] = {
        "reader": [read_by_words(text, ROOMS) for text, _, _ in asked],
        "model": [parse_reading(answer, text, ROOMS) for answer, (text, _, _) in zip(answers[: len(asked)], asked)],
        "both": [parse_reading(answer, text, ROOMS) for answer, (text, _, _) in zip(answers[len(asked) :], asked)],
    }
    ways["job"] = [
        words if explains(text, ROOMS) else model or words
        for (text, _, _), words, model in zip(asked, ways["reader"], ways["both"], strict=True)
    ]
    return {name: value for way, readings in ways.items() for name, value in _score(way, asked, readings, show).items()}


def _score(way: str, asked: Sequence[Paraphrase], readings: Sequence[Reading | None], show: bool) -> dict[str, float]:
    """Return the share of prompts that are right in everything, and precision and recall over words."""
    whole, hits, said, wanted = 0, 0, 0, 0
    for (text, attributes, rooms), reading in zip(asked, readings, strict=True):
        own = Reading(
            attributes={name: list(EITHER_SIDE.get(word, (word,))) for name, word in attributes.items()},
            conditions=rooms,
        )
        reading = reading or Reading()
        found, stated = _items(reading), _items(own)
        hits, said, wanted = hits + len(found & stated), said + len(found), wanted + len(stated)
        whole += found == stated
        if show and way == "job" and found != stated:
            print(f"{text}\n    missed {sorted(stated - found)}, wrong {sorted(found - stated)}")
    return {way: whole / len(readings), f"{way}_precision": hits / max(1, said), f"{way}_recall": hits / max(1, wanted)}


def _items(reading: Reading) -> set[tuple[str, str]]:
    """Return what a reading says, one by one."""
    return {(name, "/".join(words)) for name, words in reading.attributes.items()} | {
        ("condition", room) for room in reading.conditions
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="starter")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--set", action="append", default=[], dest="edits")
    parser.add_argument("--count", type=int, default=1000, help="sets that are invented")
    parser.add_argument("--wrong", action="store_true", help="show prompts that are read wrongly")
    parser.add_argument("--only", nargs="+", choices=("read", "read_held", "invent", "describe"), default=[])
    asked = parser.parse_args()
    edits = sort_edits(asked.edits, {"bundle": Bundle, "profile": Profile})
    bundle, profile = load_bundle(asked.bundle, edits["bundle"]), load_profile(asked.profile, edits["profile"])
    with ray_session(profile.ray), Engines(EngineSpec(bundle.part(CAPTIONS), bundle.folder, profile.captions)) as pool:
        works: dict[str, Callable[[], dict[str, float]]] = {
            "read": lambda: read(pool, paraphrases(), asked.wrong),
            "read_held": lambda: read(pool, held_paraphrases(), asked.wrong),
            "invent": lambda: invent(pool, asked.count),
            "describe": lambda: describe(pool, asked.count),
        }
        for what in asked.only or works:
            work = works[what]
            print(what, json.dumps({name: round(value, 4) for name, value in work().items()}), flush=True)


if __name__ == "__main__":
    main()
