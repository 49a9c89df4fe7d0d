"""Draw views and surroundings from a domain's ranges.

Every draw has a seed of its own: (identity, view, what). The domain is not part of it, so two domains whose ranges are
the same show the same pictures, and changing one range moves nothing else.
"""

import colorsys

import torch

from models.attributes import BEARDS, GLASSES, HAIR_STYLES
from models.seeds import generator, seed_of
from models.synthworld.sampling.draws import NamedDraws
from models.synthworld.sampling.environment import Environment
from models.synthworld.sampling.ranges import Domain, Setting, Span, Surround
from models.synthworld.sampling.scene import Light, Person, View

_HEADWEAR = {"cap": 1.0, "beanie": 1.0, "headscarf": 0.4}

# Hair of women and men; `bald` and `receding` need some baldness of the person.
_HAIR_WOMAN = {
    "bald": 0.05, "buzz": 0.3, "short": 1.2, "side part": 1.2, "curly": 1.2, "afro": 0.6, "bob": 2, "long": 2.5,
    "ponytail": 1.5, "bun": 1.2, "receding": 0.0,
}  # fmt: skip
_HAIR_MAN = {
    "bald": 0.2, "buzz": 1.5, "short": 2.5, "side part": 2, "curly": 1.2, "afro": 0.6, "bob": 0.15, "long": 0.4,
    "ponytail": 0.15, "bun": 0.1, "receding": 0.1,
}  # fmt: skip

#              azimuth (size)  elevation  strength       ambient       softness
_LIGHTS: dict[str, tuple[Span, Span, Span, Span, Span]] = {
    "soft": ((0.0, 40.0), (20.0, 50.0), (0.85, 1.05), (0.5, 0.65), (0.6, 0.9)),
    "hard": ((20.0, 60.0), (20.0, 55.0), (1.1, 1.35), (0.22, 0.35), (0.05, 0.2)),
    "from the side": ((60.0, 88.0), (5.0, 35.0), (1.0, 1.25), (0.22, 0.38), (0.15, 0.5)),
    "from above": ((0.0, 40.0), (62.0, 82.0), (1.0, 1.2), (0.28, 0.42), (0.15, 0.5)),
    "dim": ((0.0, 70.0), (10.0, 50.0), (0.40, 0.55), (0.18, 0.28), (0.3, 0.8)),
    "backlit": ((120.0, 165.0), (15.0, 45.0), (1.1, 1.4), (0.35, 0.5), (0.2, 0.6)),
}


def draw_view(domain: Domain, person: Person, index: int) -> View:
    """Return picture number `index` of `person`: pose, framing, session, light and clothes."""
    draws = NamedDraws("view", person.identity, index)
    pose, framing, looks, setting = domain.pose, domain.framing, domain.looks, domain.setting
    # Draws that two fields need.
    yaw = pose.far_yaw if draws.uniform("far") < pose.far else pose.yaw
    glasses = draws.uniform("glasses")
    lighting = _choose(draws, "lighting", setting.lightings)
    return View(
        seed=seed_of("view", person.identity, index),
        yaw=_cut(draws.uniform("yaw", *yaw), 90.0),
        pitch=_cut(draws.uniform("pitch", *pose.pitch), 35.0),
        roll=_cut(draws.uniform("roll", *pose.roll), 20.0),
        scale=draws.uniform("scale", *framing.scale),
        shift_x=draws.clipped_normal("shift_x", framing.shift),
        shift_y=draws.clipped_normal("shift_y", framing.shift),
        distance_m=max(0.4, draws.uniform("distance_m", *framing.distance_m)),
        expression=_choose(draws, "expression", looks.expressions),
        strength=_cut(draws.uniform("strength", *looks.strength), 1.0),
        gaze_x=_cut(draws.clipped_normal("gaze_x", looks.gaze), 1.0),
        gaze_y=_cut(draws.clipped_normal("gaze_y", 0.6 * looks.gaze), 1.0),
        hair_style=_choose(draws, "hair_style", _hair(person)),
        hair_volume=draws.uniform("hair_volume", -1.0, 1.0),
        beard=_beard(draws, person, looks.beards),
        glasses=GLASSES[1 if glasses < looks.clear_glasses else 2 * (glasses > 1.0 - looks.opaque_glasses)],
        glasses_shape=draws.uniform("glasses_shape", -1.0, 1.0),
        glasses_rgb=_frame(draws),
        headwear=_choose(draws, "headwear_kind", _HEADWEAR) if draws.uniform("headwear") < looks.headwear else "none",
        headwear_colour=_choose(draws, "headwear_colour", looks.colours),
        facewear="mask" if draws.uniform("facewear") < looks.facewear else "none",
        facewear_colour=_choose(draws, "facewear_colour", {"blue": 3, "white": 2, "black": 2, "grey": 1, "red": 0.3}),
        clothes=_choose(draws, "clothes", looks.clothes),
        clothing_colour=_choose(draws, "clothing_colour", looks.colours),
        pattern=_choose(draws, "pattern", looks.patterns),
        background=_choose(draws, "background", setting.backgrounds),
        lighting=lighting,
        light=_light(draws, lighting, setting),
        style=setting.style,
        style_gap=setting.style_gap,
    )


def draw_environment(surround: Surround, person: Person, index: int, condition: str) -> Environment:
    """Return the surroundings of `person`'s picture `index` under `condition`: none of it shows in a colour picture."""
    draws = NamedDraws("view", person.identity, index, condition)
    ambient = draws.uniform("ambient", *surround.ambient_c)
    radiant = ambient + draws.uniform("radiant", *surround.radiant_over_ambient)
    return Environment(
        ambient_c=ambient,
        radiant_c=radiant,
        background_c=radiant + draws.uniform("background", *surround.background_over_radiant),
        sky_c=ambient + draws.uniform("sky", *surround.sky_over_ambient),
        wind_ms=max(0.0, draws.uniform("wind", *surround.wind_ms)),
        humidity=min(1.0, max(0.05, draws.uniform("humidity", *surround.humidity))),
        sun_wm2=max(0.0, draws.uniform("sun", *surround.sun_wm2)),
        minutes=max(0.5, draws.uniform("minutes", *surround.minutes)),
        breath_phase=draws.uniform("breath"),
    )


def _choose(draws: NamedDraws, name: str, weights: dict[str, float]) -> str:
    """Return one key of `weights`, in proportion; the order of the keys does not matter."""
    words = sorted(weights)
    return draws.choice(name, words, [weights[word] for word in words])


def _cut(value: float, limit: float) -> float:
    """Return `value` clipped to +- `limit`."""
    return max(-limit, min(limit, value))


def _hair(person: Person) -> dict[str, float]:
    """Return the hair styles open to `person`: views differ within them."""
    man = person.sex > 0
    weights = dict(_HAIR_MAN if man else _HAIR_WOMAN)
    bald = person.baldness
    if bald > 0.25:
        thin = 1.0 - min(1.0, (bald - 0.25) / 0.4)
        weights = {name: weight * thin for name, weight in weights.items()}
        weights.update({"receding": 3.0, "buzz": 1.5, "bald": 4.0 * max(0.0, bald - 0.4)})
    if person.age > 60:
        weights = {
            name: weight * (0.3 if name in ("afro", "ponytail", "long") else 1) for name, weight in weights.items()
        }
    return {name: weights[name] for name in HAIR_STYLES}


def _beard(draws: NamedDraws, person: Person, share: float) -> str:
    """Return a word of BEARDS; `share` is that of men who let something grow, each with a habit of their own."""
    if person.sex <= 0:
        return "none"
    habit = float(torch.rand(1, generator=generator("beard habit", person.identity)))
    if draws.uniform("beard") >= share * (0.3 + 1.4 * habit):
        return "none"
    return _choose(draws, "beard_kind", dict(zip(BEARDS[1:], (2.0, 0.8, 0.9, 1.6), strict=True)))


def _frame(draws: NamedDraws) -> tuple[float, float, float]:
    """Return the linear RGB of spectacle frames: dark, mostly."""
    red, green, blue = colorsys.hsv_to_rgb(draws.uniform("frame_hue"), 0.7 * draws.uniform("frame_depth"), 1.0)
    value = 0.015 + 0.25 * draws.uniform("frame_value") ** 3
    return red * value, green * value, blue * value


def _light(draws: NamedDraws, lighting: str, setting: Setting) -> Light:
    """Return the key light and the dome of a word of `_LIGHTS`, coloured and dimmed within the domain's setting."""
    azimuth, elevation, strength, ambient, softness = _LIGHTS[lighting]
    side = 1.0 if draws.uniform("light_side") < 0.5 else -1.0
    tint = setting.tint * draws.uniform("tint", -1.0, 1.0)
    return Light(
        azimuth=side * draws.uniform("light_azimuth", *azimuth),
        elevation=draws.uniform("light_elevation", *elevation),
        strength=draws.uniform("light_strength", *strength) * max(0.2, draws.uniform("exposure", *setting.strength)),
        ambient=draws.uniform("light_ambient", *ambient),
        softness=draws.uniform("light_softness", *softness),
        colour=(1.0 + 0.08 * tint, 1.0, 1.0 - 0.14 * tint),
    )
