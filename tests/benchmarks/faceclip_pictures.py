"""Draw what docs/weights.md shows of the small FaceCLIP: people it is shown, and how it draws them by another picture's caption.

python -m tests.benchmarks.faceclip_pictures --test URI --out docs/faceclip/pictures.jpg

A column is a person; the lines are the picture that it is shown, what it draws by its 77 tokens alone, the same guided to the
person, and the true picture of the caption. URI: rows with two views of each person, as `thermapair world --views 2` writes them.
"""

import argparse
from pathlib import Path

import numpy as np

from models.tasks.faceclip.rows import prepare_rows, write_captions
from models.tasks.faceclip.visible import COLUMNS
from models.weights.bundle import load_bundle
from pipelines.evaluation.faceclip.beside import BundlePart
from pipelines.pictures.codecs import encode_jpeg
from pipelines.rows.shards import Shards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test", required=True, help="rows of people whom nobody was trained on")
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    # The first view of each person is shown, the second is asked for by its caption.
    rows = Shards(given.test, COLUMNS, colour=True, memory=0, limit=2 * given.people).rows(np.arange(2 * given.people))
    faces, pictures = prepare_rows(rows)["crop"][::2], np.asarray(rows["visible"])
    captions = write_captions(rows["attributes"], np.arange(len(pictures)), 0.0)[1::2]
    names = [f"person {person}" for person in range(given.people)]

    def draw(*edits: str) -> np.ndarray:
        nobody = np.zeros((given.people, 512), np.float32)
        return BundlePart(load_bundle("faceclip", edits)).draw(nobody, faces, captions, names)

    lines = [pictures[::2], draw("visible.settings.identity_guidance=0"), draw(), pictures[1::2]]
    given.out.write_bytes(encode_jpeg(np.concatenate([np.concatenate(list(line), axis=1) for line in lines])))


if __name__ == "__main__":
    main()
