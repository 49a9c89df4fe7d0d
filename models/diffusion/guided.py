"""What a job may choose of guidance by a recogniser (`models.diffusion.steering`). Nothing heavy is imported."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class IdentityGuidance(BaseModel):
    """How far pictures are moved towards the person asked for, as the recogniser of the part's weights `faces` sees them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    identity_guidance: float = Field(
        0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="how far each move takes the clean latents towards the person, by the gradient of the recogniser `faces` "
        "(models.diffusion.steering): 0 is none, 0.03 keeps pictures free of patterns",
    )
    identity_moves: int = Field(
        2, ge=1, le=20, description="moves at each step; each takes as long as a decoding and back"
    )
    identity_interval: tuple[Share, Share] = Field(
        (0.0, 1.0), description="shares of the steps between which it is moved"
    )
