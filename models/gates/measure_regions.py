"""Measure how the parts of true faces of the world differ in temperature: `python -m models.gates.measure_regions` writes
`regions.json`.

The words are those of domain `portrait`; rooms in degrees are those of domain `rooms`, outdoors with sun and wind among them, as
nobody tells the gates of these. Pictures are of the generator's people, as a camera sees them. Some ten minutes of one core.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from models.gates.regions import ANY, FILE, PARTS, band_of, part_differences
from models.synthworld.render.render import render
from models.synthworld.sampling import splits
from models.synthworld.sampling.domain import load_domain, sample_scene

WORDS = ("warm", "cold")
SIDE, BATCH = 128, 8
FIRST = 60_000
"""Place in the split from which on people are taken: none whom a part of the starter learned from."""

Found = tuple[str, float, dict[str, float]]
"""Word, air in degrees Celsius, and the differences of the parts."""


def measure(domain: str, people: Sequence[int]) -> Iterator[Found]:
    """Yield what is found of a picture of each of `people` under either word."""
    look = load_domain(domain)
    # Everybody once under either word, a batch of renders at a time.
    named = [(word, sample_scene(look, identity, 0, word)) for identity in people for word in WORDS]
    for start in range(0, len(named), BATCH):
        few = named[start : start + BATCH]
        seen = render([scene for _, scene in few], SIDE)
        for (word, scene), celsius, classes in zip(few, seen.apparent.numpy(), seen.classes.numpy(), strict=True):
            yield word, scene.environment.ambient_c, part_differences(celsius, classes)


def summarise(words: Iterable[Found], rooms: Iterable[Found]) -> dict[str, dict[str, tuple[float, float]]]:
    """Return mean and standard deviation of each part by word, by band of rooms, and over all."""
    # A word or a band of rooms has its own values, and all together have theirs.
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    named = [(word, parts) for word, _, parts in words] + [(band_of(air), parts) for _, air, parts in rooms]
    for name, parts in named:
        for part, value in parts.items():
            values[name][part].append(value)
            values[ANY][part].append(value)
    return {
        name: {part: (round(float(np.mean(own[part])), 3), round(float(np.std(own[part])), 3)) for part in PARTS}
        for name, own in values.items()
    }


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=400, help="of either domain")
    people = splits.identities("generator")[FIRST : FIRST + parser.parse_args().people]
    found = summarise(measure("portrait", people), measure("rooms", people))
    lines = [f' "{name}": {json.dumps(parts)}' for name, parts in found.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
