"""What a row is called, and which split its person belongs to: functions of names, the same in every run."""

import hashlib

from models.seeds import seed_of


def hash_id(*parts: object) -> str:
    """Return an id of 20 hex digits that depends on `parts` (joined as text) alone."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:20]


def split_of(person: str) -> str:
    """Return the split of a person by name: 90 % train, 5 % validation, 5 % test, in every run alike."""
    return {0: "test", 1: "validation"}.get(seed_of("split", person) % 20, "train")


def split_of_world(world_split: str) -> str:
    """Return the split of a person of the synthetic world by that of the world, whose validation and test are no one else's."""
    return world_split if world_split in ("validation", "test") else "train"


def page_id(sample: str, page: int) -> str:
    """Return the id of a further page (1, 2, ...) of a planned picture, whose own id is that of its first."""
    return f"{sample}-{page}"


def face_id(sample: str, face: int) -> str:
    """Return the id of a face (0, 1, ...) that is cut out of a picture or of a page."""
    return f"{sample}-f{face}"


def planned_id(sample: str) -> str:
    """Return the id of the planned picture that a sample is a page or a face of: its own, if it is the picture itself."""
    return sample.partition("-")[0]


def noise_id(sample: str, attempt: int) -> str:
    """Return what the noise of one attempt at a sample is drawn from."""
    return f"{sample}/{attempt}"


def draw_id(sample: str, draw: int) -> str:
    """Return the id of a further translation (1, 2, ...) of a picture or of a page; the first has that one's own."""
    return f"{sample}-d{draw}"
