"""What each pixel sees, before it has a colour or a temperature."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class GBuffer:
    """Per pixel of B pictures of S x S; float32 unless said. Off the person every value is 0.

    hit bool [B,S,S]: the pixel's centre ray meets the person.
    classes uint8 [B,S,S]: FaceSynthetics class; under a clear lens the class behind it.
    position [B,S,S,3]: of the surface seen, in the head frame, in head units (0.1 m). For lenses: of the lens.
    normal [B,S,S,3]: unit, camera frame (x right, y up, z to the camera). cosine [B,S,S]: of the view angle, [0, 1].
    depth [B,S,S]: distance to the camera, metres.
    hair, beard, cloth, headwear, facewear [B,S,S]: thickness of cover over the skin, millimetres.
    lens uint8 [B,S,S]: 0 none, 1 clear, 2 opaque; frames are class GLASSES with lens 0.
    sun [B,S,S]: cosine-weighted share of the key light that arrives, [0, 1]. sky [B,S,S]: open share of the dome.
    """

    hit: Tensor
    classes: Tensor
    position: Tensor
    normal: Tensor
    cosine: Tensor
    depth: Tensor
    hair: Tensor
    beard: Tensor
    cloth: Tensor
    headwear: Tensor
    facewear: Tensor
    lens: Tensor
    sun: Tensor
    sky: Tensor
