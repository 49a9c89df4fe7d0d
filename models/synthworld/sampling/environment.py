"""The surroundings that heat depends on, and the hidden state that a colour picture cannot show."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Environment:
    """Air, walls, wind, sun and time. Temperatures in degrees Celsius, wind in m/s, sun in W/m2, time in minutes.

    radiant_c: of the walls or the ground; sky_c: of what lies overhead (the ceiling, or a cold sky); background_c: mean of
    what the picture shows behind the person. breath_phase: place in the breath, [0, 1): out below 0.5, in above.
    """

    ambient_c: float = 22.0
    radiant_c: float = 22.0
    background_c: float = 22.0
    wind_ms: float = 0.1
    humidity: float = 0.45
    sun_wm2: float = 0.0
    minutes: float = 20.0
    breath_phase: float = 0.0
    sky_c: float = 22.0
