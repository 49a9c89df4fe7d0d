"""What a picture shows: a `Person` (constant over views), a `View` of them, and the surroundings they stand in.

Units: angles in degrees, lengths in head units (1 unit = 0.1 m), colours linear RGB in [0, 1], ages in years.
Head frame: +x to the image right when frontal (the subject's left), +y up, +z towards the camera.
"""

from dataclasses import dataclass, field, fields

from models.attributes import AGES, SEXES, SKIN_TONES
from models.synthworld.sampling.environment import Environment


@dataclass(frozen=True)
class Shape:
    """Form of one head: every value in about [-1, 1], 0 the average person.

    All change the surface but four: brow_arch, brow_tilt (hair of the brows) and eye_fold (a line over the eye) change the
    colour of the skin alone, and eye_bag is measured and shows nowhere.
    """

    head_width: float = 0.0
    head_height: float = 0.0
    head_depth: float = 0.0
    face_width: float = 0.0
    face_length: float = 0.0
    forehead_slope: float = 0.0
    forehead_bulge: float = 0.0
    brow_ridge: float = 0.0
    temple: float = 0.0
    cheekbone: float = 0.0
    cheekbone_height: float = 0.0
    cheek_fat: float = 0.0
    jaw_width: float = 0.0
    jaw_angle: float = 0.0
    chin_width: float = 0.0
    chin_length: float = 0.0
    chin_forward: float = 0.0
    chin_cleft: float = 0.0
    eye_size: float = 0.0
    eye_spacing: float = 0.0
    eye_height: float = 0.0
    eye_depth: float = 0.0
    eye_tilt: float = 0.0
    eye_fold: float = 0.0
    eye_bag: float = 0.0
    brow_height: float = 0.0
    brow_arch: float = 0.0
    brow_tilt: float = 0.0
    nose_length: float = 0.0
    nose_width: float = 0.0
    nose_bridge: float = 0.0
    nose_hump: float = 0.0
    nose_projection: float = 0.0
    nose_tip: float = 0.0
    nose_upturn: float = 0.0
    nostril: float = 0.0
    philtrum: float = 0.0
    mouth_width: float = 0.0
    mouth_height: float = 0.0
    upper_lip: float = 0.0
    lower_lip: float = 0.0
    lip_curve: float = 0.0
    ear_size: float = 0.0
    ear_out: float = 0.0
    neck_width: float = 0.0
    asymmetry: float = 0.0

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the shape values in order."""
        return tuple(f.name for f in fields(cls))


@dataclass(frozen=True)
class Person:
    """What stays the same over all views of one identity.

    tone: 0 darkest to 1 palest skin. undertone: -1 cool (pink) to 1 warm (yellow). sex: -1 feminine to 1 masculine.
    hair_rgb, iris_rgb, lip_rgb (multiplies the skin colour): linear RGB. baldness: 0 full hair to 1.
    """

    identity: int
    shape: Shape = field(default_factory=Shape)
    sex: float = 0.0
    age: float = 35.0
    tone: float = 0.6
    undertone: float = 0.0
    hair_colour: str = "brown"
    hair_rgb: tuple[float, float, float] = (0.10, 0.055, 0.03)
    iris_colour: str = "brown"
    iris_rgb: tuple[float, float, float] = (0.12, 0.06, 0.025)
    lip_rgb: tuple[float, float, float] = (0.92, 0.62, 0.62)
    brow_thickness: float = 0.0
    brow_density: float = 0.8
    freckles: float = 0.0
    baldness: float = 0.0


@dataclass(frozen=True)
class Light:
    """Key light over an ambient dome. azimuth: 0 from the camera, 90 from the image right; colour multiplies both."""

    azimuth: float = 30.0
    elevation: float = 35.0
    strength: float = 1.0
    ambient: float = 0.5
    softness: float = 0.4
    colour: tuple[float, float, float] = (1.0, 0.97, 0.93)


@dataclass(frozen=True)
class View:
    """One picture of a person.

    yaw > 0: the face turns to the image right; pitch > 0: looks up; roll > 0: tilts clockwise in the image (degrees).
    scale: height of the face (chin to hairline) over the height of the picture. shift_x, shift_y: of the face centre,
    in pictures, right and down. gaze_x, gaze_y in [-1, 1], to the image right and up. strength of the expression [0, 1].
    style "A" | "B": how the picture is developed; style_gap 0 makes both alike. Colours are linear RGB.
    """

    seed: int = 0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    scale: float = 0.55
    shift_x: float = 0.0
    shift_y: float = 0.0
    distance_m: float = 1.2
    expression: str = "neutral"
    strength: float = 1.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0
    hair_style: str = "short"
    hair_volume: float = 0.0
    beard: str = "none"
    glasses: str = "none"
    glasses_shape: float = 0.0
    glasses_rgb: tuple[float, float, float] = (0.02, 0.02, 0.02)
    headwear: str = "none"
    headwear_colour: str = "blue"
    facewear: str = "none"
    facewear_colour: str = "blue"
    clothes: str = "crew"
    clothing_colour: str = "grey"
    pattern: str = "plain"
    background: str = "plain"
    lighting: str = "soft"
    light: Light = field(default_factory=Light)
    style: str = "A"
    style_gap: float = 1.0


@dataclass(frozen=True)
class Scene:
    """A person, a view and their surroundings: all that `render` needs."""

    person: Person
    view: View = field(default_factory=View)
    environment: Environment = field(default_factory=Environment)
    domain: str = ""
    condition: str = ""


def attributes(scene: Scene) -> dict[str, str]:
    """Return what captions may say of `scene`: every key of ATTRIBUTES with a word of its vocabulary."""
    person, view = scene.person, scene.view
    return {
        "sex": SEXES[int(person.sex > 0)],
        "age": AGES[int(person.age >= 36) + int(person.age >= 60)],
        "skin_tone": SKIN_TONES[min(int(person.tone * len(SKIN_TONES)), len(SKIN_TONES) - 1)],
        "hair_colour": person.hair_colour,
        "iris": person.iris_colour,
        "hair_style": view.hair_style,
        "beard": view.beard,
        "expression": view.expression,
        "pose": pose_word(view.yaw),
        "glasses": view.glasses,
        "headwear": view.headwear,
        "facewear": view.facewear,
        "clothing_colour": view.clothing_colour,
        "lighting": view.lighting,
        "background": view.background,
    }


def pose_word(yaw: float) -> str:
    """Return the word of POSES for a yaw in degrees; turning to the image right is the subject's left."""
    side = "left" if yaw > 0 else "right"
    size = abs(yaw)
    if size < 10:
        return "frontal"
    if size < 30:
        return f"turned slightly {side}"
    return f"turned {side}" if size < 65 else f"{side} profile"
