"""What a job may choose of guidance by a recogniser (`models.diffusion.steering`). Nothing heavy is imported."""

from typing import Annotated

from pydantic import Field

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Length = Annotated[
    Share,
    Field(
        description="how far each move takes the clean latents towards the person, by the gradient of the recogniser `faces` "
        "(models.diffusion.steering): 0 is none; the larger, the sooner patterns are seen in faces"
    ),
]
Moves = Annotated[int, Field(ge=1, le=20, description="moves at each step; each takes as long as a decoding and back")]
Interval = Annotated[tuple[Share, Share], Field(description="shares of the steps between which it is moved")]
