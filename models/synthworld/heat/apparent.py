"""From kinetic to apparent temperature: what a perfect radiometer in front of the face reads.

apparent radiance = tau (e(angle) L(source) + (1 - e(angle)) L(surroundings)) + (1 - tau) L(air)

with e(angle) = 1 - the unpolarised Fresnel reflectance of a dielectric and L(T) = T^4 (wide band; the difference to an
8-14 um band integral is below 0.05 degC at the contrasts of a face). For skin of 34 degC in a room of 22 degC this
reads about 0.2 degC low seen frontally, 0.7 at 60 degrees and 2.4 at 75.
"""

import torch
from torch import Tensor

ZERO_CELSIUS = 273.15
SKIN_INDEX = 1.325  # refractive index at 8-14 um: normal emissivity 0.980
SKIN_ROUGHNESS = 0.06  # RMS slope of the surface: it caps the reflectance at grazing angles
LENS_EMISSIVITY = 0.88  # spectacle glass and polymer, at normal incidence


def radiance(celsius: Tensor) -> Tensor:
    """Return wide-band radiance in K^4 (the constant cancels) of temperatures in degC."""
    return (celsius + ZERO_CELSIUS) ** 4


def celsius_of(value: Tensor) -> Tensor:
    """Invert `radiance`: degC of a black body with radiance `value` in K^4."""
    return value.clamp(min=1.0) ** 0.25 - ZERO_CELSIUS


def emissivity(
    cosine: Tensor, index: float | Tensor = SKIN_INDEX, roughness: float | Tensor = SKIN_ROUGHNESS
) -> Tensor:
    """Return the directional emissivity in [0, 1]; it falls with the angle.

    `cosine` is that of the angle between the surface normal and the line of sight, any shape, clamped to [0, 1].
    `roughness` is an RMS slope: tilted micro-facets keep even a grazing view from mirroring the room completely.
    """
    smooth = cosine.clamp(0.0, 1.0) ** 2
    cos_i = ((smooth + roughness**2) / (1.0 + roughness**2)).sqrt()
    cos_t = (1.0 - (1.0 - cos_i**2) / index**2).sqrt()
    parallel = (index * cos_i - cos_t) / (index * cos_i + cos_t)
    perpendicular = (cos_i - index * cos_t) / (cos_i + index * cos_t)
    return 1.0 - 0.5 * (parallel**2 + perpendicular**2)


def vapour_pressure(celsius: Tensor) -> Tensor:
    """Return the saturation pressure of water vapour in hPa at temperatures in degC (Magnus)."""
    return 6.11 * torch.exp(17.62 * celsius / (243.12 + celsius))


def transmission(distance: Tensor, humidity: Tensor, air: Tensor) -> Tensor:
    """Return the atmosphere's LWIR transmission in (0, 1] over `distance` metres.

    `humidity` is relative (0..1), `air` in degC. Water vapour does nearly all of it: about 0.3 % a metre indoors,
    which is why a far camera reads a face towards the temperature of the air.
    """
    grams = 216.7 * humidity * vapour_pressure(air) / (air + ZERO_CELSIUS)  # absolute humidity, g/m3
    return torch.exp(-(0.0006 + 0.00022 * grams) * distance.clamp(min=0.0))


def apparent_temperature(
    kinetic: Tensor, cosine: Tensor, lens: Tensor, surroundings: Tensor, distance: Tensor, humidity: Tensor, air: Tensor
) -> Tensor:
    """Return apparent temperature, float32 [B,H,W] degC.

    kinetic, surroundings: degC [B,H,W] (what radiates and what is mirrored in it); cosine of the viewing angle: [B,H,W];
    lens: [B,H,W] share of the pixel that is spectacle lens; distance (m), humidity (0..1), air (degC): [B].
    """
    emitted = emissivity(cosine)
    # A lens has a higher index than skin; its Fresnel curve is the skin's, rescaled to 0.88 at normal incidence.
    glass = emitted * (LENS_EMISSIVITY / emissivity(torch.ones(())).item())
    emitted = emitted + (glass - emitted) * lens
    leaving = emitted * radiance(kinetic) + (1.0 - emitted) * radiance(surroundings)
    path = transmission(distance, humidity, air)[:, None, None]
    return celsius_of(path * leaving + (1.0 - path) * radiance(air)[:, None, None])
