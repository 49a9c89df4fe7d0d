"""What a job may choose of a sampler's guidance. Nothing heavy is imported."""

from typing import Annotated

from pydantic import AfterValidator, Field


def _check_order(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"it ends before it begins: [{value[0]}, {value[1]}]")
    return value


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Shares = Annotated[tuple[Share, Share], AfterValidator(_check_order)]
"""Where something begins and ends, of the steps or of the noise."""
NoiseLevels = Annotated[Shares, Field(description="noise levels at which guidance acts: 0 = clear, 1 = noise")]
# By a recogniser (`models.diffusion.steering`).
Length = Annotated[
    Share,
    Field(
        description="how far each move takes the clean latents towards the person, by the gradient of the recogniser `faces` "
        "(models.diffusion.steering): 0 is none; the larger, the sooner patterns are seen in faces"
    ),
]
Moves = Annotated[int, Field(ge=1, le=20, description="moves at each step; each takes as long as a decoding and back")]
Interval = Annotated[Shares, Field(description="shares of the steps between which it is moved")]
