"""What FaceCLIP is given: texts with its prefix and padding, faces cut from photographs."""

import numpy as np
import pytest

from models.faces.decode import Detections
from models.visible.faceclip import faces
from models.visible.faceclip.encoder import id_places
from models.visible.faceclip.tokenizer import PREFIX, add_prefix, count_cut, tokenize

from .small import PREFIX as PREFIX_IDS
from .small import small_inputs


def words(text: str) -> list[int]:
    """Return the ids of a text without start, end and padding."""
    ids = tokenize([text])[0].tolist()
    assert ids[0] == 49406
    return ids[1 : ids.index(49407)]


def test_the_prefix_stands_before_texts_with_a_face() -> None:
    texts = add_prefix(["a man", "a man"], [True, False])
    assert texts == [PREFIX + "a man", "a man"]
    ids = tokenize(texts)
    assert tuple(ids[0, :7].tolist()) == PREFIX_IDS
    assert ids[0, :10].tolist() == [*PREFIX_IDS, 320, 786, 49407] and not ids[0, 10:].any()
    assert ids[1, :4].tolist() == [49406, 320, 786, 49407] and not ids[1, 4:].any()


def test_only_the_prefixs_id_is_replaced() -> None:
    _, ids, has_face = small_inputs(3)
    places = id_places(ids, has_face)
    assert places.nonzero().tolist() == [[0, 4], [1, 4]]
    assert (ids == 1014).sum() == 6


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("  A  MAN\twith\n glasses ", [320, 786, 593, 6116]),
        ("it&amp;#39;s", [585, 568]),  # entities twice
        ("caf\u00c3\u00a9", [15304]),  # UTF-8 read as Latin-1
        ("\u201cid\u201d", [257, 1014, 257]),
        ("2026", [273, 271, 273, 277]),
        ("", []),
    ],
)
def test_texts_are_cleaned_and_cut_as_open_clip_does(text: str, ids: list[int]) -> None:
    assert words(text) == ids


def test_a_long_text_ends_all_the_same() -> None:
    long = "man " * 80
    ids = tokenize([long])[0].tolist()
    assert ids == [49406, *[786] * 75, 49407]
    assert count_cut([long, "a man"]).tolist() == [5, 0]
    assert tokenize([]).shape == (0, 77)


POINTS = faces.TEMPLATE * 2 + 30
PHOTO = np.random.default_rng(0).integers(0, 255, (300, 320, 3), dtype=np.uint8)


def found(count: int) -> Detections:
    return Detections(
        np.zeros((count, 4)), np.ones(count), np.stack([POINTS] * count) if count else np.zeros((0, 5, 2))
    )


def test_a_face_is_cut_at_four_times_arcfaces_template() -> None:
    photo = PHOTO // 8
    for x, y in POINTS.round().astype(int):
        photo[y - 3 : y + 4, x - 3 : x + 4] = (250, 10, 20)
    cut = faces.cut_face(photo, found(1))
    assert cut.shape == (448, 448, 3)
    for x, y in (faces.TEMPLATE * 4).round().astype(int):
        assert cut[y, x].tolist() == [250, 10, 20]
    given = faces.to_faces(cut[None])
    assert given.shape == (1, 3, 448, 448) and given.min() == 0 and abs(float(given.max()) - 250 / 255) < 1e-6


@pytest.mark.parametrize(("count", "words"), [(0, "no face was found"), (2, "2 faces were found.*crop the picture")])
def test_another_number_of_faces_is_refused(count: int, words: str) -> None:
    with pytest.raises(faces.BadFace, match=words):
        faces.cut_face(PHOTO, found(count))


def test_grey_and_thermal_pictures_are_refused() -> None:
    grey = np.repeat(PHOTO[..., :1], 3, axis=-1)
    for picture, words in (
        (grey, "in grey, sepia or a palette, maybe a thermal"),
        (PHOTO[..., 0], "thermal"),
        (PHOTO.astype(np.uint16), "thermal"),
    ):
        with pytest.raises(faces.BadFace, match=words):
            faces.check_colour(picture)
    faces.check_colour(PHOTO)
