"""What a rendered picture promises: truth between its parts, the same bytes always, geometry that tells people apart."""

import dataclasses

import pytest
import torch

from models.attributes import ATTRIBUTES, EXPRESSIONS, HAIR_STYLES
from models.classes import CLASSES
from models.synthworld.render.render import Rendering, render
from models.synthworld.sampling.person import sample_person
from models.synthworld.sampling.scene import Light, Person, Scene, Shape, View, attributes
from models.synthworld.shape.cover import add_covers
from models.synthworld.shape.figure import figure
from models.synthworld.shape.framing import framing
from models.synthworld.shape.landmarks import MIRROR_70
from models.synthworld.shape.march import hits, normals

pytestmark = pytest.mark.slow
SIZE = 40
FACE = [CLASSES.index(name) for name in CLASSES if name not in ("BACKGROUND", "CLOTHING", "HAIR", "HEADWEAR")]
BARE = View(scale=0.62, hair_style="buzz")
COLOUR_ONLY = ("brow_arch", "brow_tilt", "eye_bag", "eye_fold")
"""Shape values that change the colour of the skin and not its surface."""


def scene(identity: int = 3, **view: object) -> Scene:
    return Scene(sample_person(identity), dataclasses.replace(BARE, **view))  # type: ignore[arg-type]


def class_at(picture: Rendering, point: int, b: int = 0) -> str:
    x, y = picture.landmarks_70[b, point].floor().long().tolist()
    return CLASSES[int(picture.classes[b, y, x])]


@pytest.fixture(scope="module")
def pair() -> Rendering:
    """A frontal face with wide open eyes, and the same person's profile."""
    return render([scene(expression="surprised"), scene(expression="surprised", yaw=70.0)], 72)


def test_shapes_and_types(pair: Rendering) -> None:
    assert pair.rgb.shape == (2, 72, 72, 3) and pair.rgb.dtype == torch.uint8
    assert pair.classes.dtype == torch.uint8 and int(pair.classes.max()) < len(CLASSES)
    assert pair.landmarks_70.shape == (2, 70, 2) and pair.landmarks_478.shape == (2, 478, 2)
    assert pair.kinetic.shape == pair.apparent.shape == pair.depth.shape == (2, 72, 72)
    assert pair.pose.tolist() == [[0, 0, 0], [70, 0, 0]]


def test_landmarks_lie_in_their_classes(pair: Rendering) -> None:
    assert class_at(pair, 68) == "RIGHT_EYE" and class_at(pair, 69) == "LEFT_EYE"
    assert class_at(pair, 30) == "NOSE" and class_at(pair, 28) == "NOSE"
    assert class_at(pair, 19) == "RIGHT_BROW" and class_at(pair, 24) == "LEFT_BROW"
    lips = ("TOP_LIP", "BOTTOM_LIP", "MOUTH_INTERIOR", "SKIN")
    assert class_at(pair, 51) in lips and class_at(pair, 57) in lips
    middle = pair.landmarks_70[0, [62, 66]].mean(0).floor().long().tolist()
    assert CLASSES[int(pair.classes[0, middle[1], middle[0]])] == "MOUTH_INTERIOR"


def test_right_is_the_subjects_right(pair: Rendering) -> None:
    assert float(pair.landmarks_70[0, 68, 0]) < float(pair.landmarks_70[0, 69, 0])


def test_a_profile_hides_the_far_eye(pair: Rendering) -> None:
    """Turned to the image right by 70 degrees, the subject's left side faces away."""
    visible = pair.seen_70_visible[1]
    assert bool(visible[68]) and not bool(visible[69])
    assert int(pair.seen_70_visible[0].sum()) > 60


def test_visible_points_lie_on_the_depth_map(pair: Rendering) -> None:
    x, y = pair.landmarks_70[0, 30].floor().long().tolist()
    assert abs(float(pair.depth[0, y, x]) - float(pair.depth[0][pair.depth[0] > 0].min())) < 0.02


def test_no_face_class_outside_the_head(pair: Rendering) -> None:
    for b in range(2):
        face = torch.isin(pair.classes[b], torch.tensor(FACE, dtype=torch.uint8))
        assert bool((pair.depth[b][face] > 0).all())
        assert bool((pair.depth[b] > 0).eq(pair.classes[b] > 0).all())
        rows, columns = torch.nonzero(face & (pair.classes[b] != CLASSES.index("NECK")), as_tuple=True)
        x0, y0, x1, y1 = pair.bbox[b].tolist()
        width, height = x1 - x0, y1 - y0
        assert columns.min() > x0 - 0.8 * width and columns.max() < x1 + 0.8 * width
        assert rows.min() > y0 - 0.6 * height and rows.max() < y1 + 0.25 * height


def test_normals_face_the_camera(pair: Rendering) -> None:
    hit = pair.depth > 0
    normals = pair.normals[hit]
    assert torch.allclose(normals.norm(dim=-1), torch.ones(len(normals)), atol=1e-3)
    assert float((normals[:, 2] > -0.1).float().mean()) > 0.98


def test_same_scene_same_pixels_whatever_the_batch() -> None:
    a, b = scene(3, hair_style="curly", glasses="clear"), scene(4, beard="full")
    together, alone = render([a, b], SIZE), render([b], SIZE)
    for name in ("rgb", "classes", "depth", "apparent", "landmarks_478", "seen_478_thermal"):
        assert torch.equal(getattr(together, name)[1], getattr(alone, name)[0]), name


def test_grey_geometry_tells_people_apart_and_colour_does_not_touch_it() -> None:
    one, other = scene(3), scene(4)
    person = dataclasses.replace(one.person, tone=0.05, hair_rgb=(0.6, 0.3, 0.1), iris_rgb=(0.1, 0.2, 0.4))
    first, second, painted = render([one, other, Scene(person, one.view)], SIZE).normals
    assert torch.equal(first, painted)
    assert float((first - second).abs().mean()) > 0.02


def clay(person: Person, size: int = 32) -> torch.Tensor:
    """Normals of the person in a half profile without hair, float32 [size * size, 3]; 0 where nothing is hit."""
    view = dataclasses.replace(BARE, yaw=25.0, hair_style="bald")
    q, frame = figure(Scene(person, view)), framing(view, size)
    add_covers(Scene(person, view), q)
    index, t, way = hits(frame, q)
    x, y, z = (way[k] * t + frame.origin[k] for k in range(3))
    picture = torch.zeros(size * size, 3)
    picture[index] = torch.stack(normals(x, y, z, 0.01, q), -1)
    return picture


def test_shape_values_show_without_colour() -> None:
    shaped = [name for name in Shape.names() if name not in COLOUR_ONLY]
    assert len(shaped) >= 30
    middle = clay(Person(0, Shape()))
    for name in shaped:
        high = clay(Person(0, Shape(**{name: 1.0})))
        assert int(((middle - high).abs().amax(-1) > 0.03).sum()) >= 2, name


def test_a_symmetric_person_mirrors() -> None:
    views = [dataclasses.replace(BARE, yaw=yaw) for yaw in (30.0, -30.0)]
    picture = render([Scene(Person(0), view) for view in views], SIZE)
    mirrored = picture.landmarks_70[1][list(MIRROR_70)]
    mirrored[:, 0] = SIZE - mirrored[:, 0]
    assert float((picture.landmarks_70[0] - mirrored).abs().max()) < 0.05


def test_expressions_move_the_points() -> None:
    still, *moved = render([scene(expression=name) for name in EXPRESSIONS], 16).landmarks_70
    for name, points in zip(EXPRESSIONS[1:], moved, strict=True):
        assert float((points - still).norm(dim=-1).max()) > 0.1, name


def test_lenses_hide_eyes_by_modality() -> None:
    picture = render([scene(glasses=kind, expression="surprised") for kind in ("clear", "opaque")], 64)
    assert class_at(picture, 68, 0) == "RIGHT_EYE" and class_at(picture, 68, 1) == "GLASSES"
    assert picture.seen_70_visible[:, 68].tolist() == [True, False]
    assert picture.seen_70_thermal[:, 68].tolist() == [False, False]


def test_hair_styles_have_hair() -> None:
    classes = render([scene(hair_style=style, yaw=20.0) for style in HAIR_STYLES], 32).classes
    shares = (classes == CLASSES.index("HAIR")).float().mean((1, 2)).tolist()
    for style, share in zip(HAIR_STYLES, shares, strict=True):
        assert share == 0 if style == "bald" else share > 0.02, style


def test_what_is_worn_is_seen() -> None:
    worn: list[tuple[dict[str, str], str]] = [
        ({"headwear": "cap"}, "HEADWEAR"),
        ({"headwear": "beanie"}, "HEADWEAR"),
        ({"headwear": "headscarf"}, "HEADWEAR"),
        ({"facewear": "mask"}, "FACEWEAR"),
        ({"beard": "full"}, "BEARD"),
        ({"glasses": "opaque"}, "GLASSES"),
    ]
    classes = render([scene(**view) for view, _ in worn], 48).classes
    for (view, name), picture in zip(worn, classes, strict=True):
        assert float((picture == CLASSES.index(name)).float().mean()) > 0.01, view


def test_light_changes_colour_only() -> None:
    picture = render([scene(light=Light(azimuth=azimuth)) for azimuth in (-60.0, 60.0)], SIZE)
    one, other = (
        {name: getattr(picture, name)[b] for name in ("classes", "apparent", "normals", "rgb")} for b in (0, 1)
    )
    assert all(torch.equal(one[name], other[name]) for name in ("classes", "apparent", "normals"))
    assert not torch.equal(one["rgb"], other["rgb"])


def test_attributes_speak_the_vocabulary() -> None:
    for identity in range(40):
        said = attributes(scene(identity, yaw=-40.0))
        assert said.keys() == ATTRIBUTES.keys()
        assert all(said[key] in words for key, (_, _, words) in ATTRIBUTES.items())
    assert said["pose"] == "turned right"
