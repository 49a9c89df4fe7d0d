"""The vocabulary of rows: one name, dtype, shape and meaning for everything that a stage, a file or an answer holds.

Stages read and write these columns; the record, training rows and answers of the service are selections of them. In
memory a batch of rows is `Columns`: name -> array [rows, *shape]. docs/data.md is made from this file.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Columns = dict[str, np.ndarray]
"""A batch of rows: name -> array with one entry a row; text is an array of objects."""

Per = Literal["person", "sample", "layer"]
"""What a value belongs to. A sample is one visible picture; a layer is one thermal condition and draw of a sample."""

Codec = Literal["", "picture", "png", "centikelvin", "json"]
"""How a value lies on disk: as it is (a number, a text, a flat list), as an encoded picture (visible ones as JPEG or PNG;
labels as PNG; temperatures as 16-bit PNG), or as JSON text."""

THERMAL_KINDS = ("kinetic", "apparent", "measured", "predicted", "minmax", "agc")
"""What a thermal picture holds. Degrees: of the skin itself, as a perfect camera sees it, of a real camera, of a network.
Grey levels and no degrees: stretched over each picture's own range, or by a camera's gain control."""

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Column:
    """What a column holds. shape: of one value; letters are sizes that differ (S: side of the picture, C: layers, L: latent
    channels)."""

    dtype: str
    """numpy's name, `text`, or `bytes`."""
    meaning: str
    shape: tuple[int | str, ...] = ()
    per: Per = "sample"
    unit: str = ""
    codec: Codec = ""


def _landmark_points(count: int, what: str) -> dict[str, Column]:
    """Return the column of a standard's points."""
    return {f"landmarks_{count}": Column("float32", what, (count, 2), unit="px")}


def _landmark_quality(count: int) -> dict[str, Column]:
    """Return the columns of how sure a standard's points are and whether they are seen, by modality."""
    variance = "how sure {} alone is of each point (NaN without a face)"
    seen = "whether the point's pixel shows the face, not what covers it{}"
    return {
        f"variance_{count}_visible": Column("float32", variance.format("the visible picture"), (count,), unit="px^2"),
        f"variance_{count}_thermal": Column(
            "float32", variance.format("the thermal picture"), (count,), per="layer", unit="px^2"
        ),
        f"seen_{count}_visible": Column("bool", seen.format(""), (count,)),
        f"seen_{count}_thermal": Column("bool", seen.format("; glasses are opaque in thermal"), (count,)),
    }


COLUMNS: dict[str, Column] = {
    # Which row this is
    "pair_id": Column("text", "hash of sample, condition and draw: the same in every run", per="layer"),
    "sample_id": Column("text", "hash of the job's seed, person, view and draw, or of the picture's name"),
    "identity_id": Column("text", "who is shown", per="person"),
    "view": Column("int32", "which view of the person"),
    "draw": Column("int32", "which picture of the view: same words, other noise"),
    "condition": Column("text", "thermal condition: a word (warm, cold), or the room in degrees Celsius", per="layer"),
    "thermal_draw": Column("int32", "which thermal draw of the sample in this condition", per="layer"),
    "split": Column("text", "train, validation or test, by person", per="person"),
    "seed": Column("int64", "what the noise of the sample comes from"),
    "attempt": Column("int32", "0, or how often the sample was drawn again after the gates"),
    "name": Column("text", "what the source calls the row"),
    "domain": Column("text", "domain of the world, or data set, that the row comes from", per="person"),
    "gap": Column("float32", "scale of the domain's differences from the common reference", per="person"),
    "world_identity": Column("int64", "the person's number in the synthetic world", per="person"),
    "world_split": Column("text", "whose people: generator, recogniser, validation, test, judges", per="person"),
    "size": Column("int32", "side of the pictures", unit="px"),
    # Words
    "caption": Column("text", "what the picture was asked to show"),
    "caption_source": Column("text", "llm, grammar (in its place), template (asked for), given (with a request)"),
    "attributes": Column("text", "attribute -> word, what is known alone", codec="json"),
    "attributes_source": Column(
        "text",
        "attribute -> asked, invented (by the language model), estimated (from the embedding or a picture), "
        "given (with the person), rendered, none",
        codec="json",
    ),
    # Who
    "embedding": Column("float32", "the identity asked for, length one", (512,), per="person"),
    "found_embedding": Column("float32", "what the recogniser finds in the visible picture, length one", (512,)),
    # Pictures
    "visible": Column("uint8", "the picture in RGB", ("S", "S", 3), codec="picture"),
    "visible_kind": Column("text", "rgb; thermal: the thermal picture in grey, for want of a visible one; translated: made "
                           "from the thermal picture"),
    "translated": Column("uint8", "the picture in RGB that was made from the thermal one", ("S", "S", 3), codec="picture"),
    "thermal": Column("uint16", "temperature; degC = value / 100 - 273.15, 0 is no reading. 8-bit grey where "
                      "`thermal_kind` is minmax or agc", ("S", "S"), per="layer", unit="cK", codec="centikelvin"),
    "thermal_kind": Column("text", f"{', '.join(THERMAL_KINDS)}; empty without a thermal picture", per="layer"),
    "thermal_clipped": Column("float32", "share of the person at an end of the network's scale", per="layer"),
    "beyond_rooms": Column("bool", "whether room, sun or wind are beyond those that the thermalizer learned from",
                              per="layer"),
    "kinetic": Column("uint16", "temperature of the surface itself, as `thermal`", ("S", "S"), per="layer", unit="cK",
                      codec="centikelvin"),
    "ambient_c": Column("float32", "air around the person, NaN where it is not known", per="layer", unit="degC"),
    "sun_wm2": Column("float32", "sunlight on a surface that faces the sun, 0 indoors, NaN where it is not known", per="layer",
                      unit="W/m2"),
    "wind_ms": Column("float32", "wind, NaN where it is not known", per="layer", unit="m/s"),
    "valid": Column("bool", "where the thermal value means something", ("S", "S"), per="layer", codec="png"),
    "classes": Column("uint8", "FaceSynthetics' 19 pixel classes, 255 where there is no mask", ("S", "S"), codec="png"),
    "content_box": Column("int32", "x0, y0, x1, y1 of what is picture and not padding", (4,), unit="px"),
    # Faces
    "faces": Column("int32", "faces found in the visible picture"),
    "bbox": Column("float32", "x0, y0, x1, y1 of the face", (4,), unit="px"),
    "detection_score": Column("float32", "score of the face"),
    "keypoints": Column("float32", "eyes, nose tip, mouth corners, subject's right first", (5, 2), unit="px"),
    **_landmark_points(5, "as `keypoints`, of a data set"),
    **_landmark_points(70, "iBUG-68 and the pupils; NaN where one is not given"),
    **_landmark_quality(70),
    **_landmark_points(72, "contour points of CHARLOTTE; NaN behind the 43 of a profile"),
    **_landmark_points(478, "the dense mesh of the world (not MediaPipe's)"),
    **_landmark_quality(478),
    "points_given": Column("int32", "how many points the data set gives"),
    "face_height": Column("float32", "height of the points' box in the picture as it came", unit="px"),
    "pose_asked": Column("float32", "the pose asked for in numbers, as `pose`; NaN where an angle is left to the caption or "
                         "to chance. There where the job's views name an angle", (3,), unit="deg"),
    "pose": Column("float32", "yaw, pitch, roll as the landmarks show them: yaw > 0 turns to the image right (the subject's "
                   "left), pitch > 0 looks up, roll > 0 tilts clockwise in the image", (3,), unit="deg"),
    # What became of it
    "scores": Column("text", "what the gates measured", codec="json"),
    "reject": Column("text", "why the row lies under rejects/, empty under data/"),
    "licence": Column("text", "the strictest licence of the models that made it"),
    "picture_licence": Column("text", "licence of the person's picture that it was drawn after; empty where none is said",
                              per="person"),
    "consent": Column("text", "what the person in that picture agreed to; empty where nothing is said", per="person"),
    "provenance": Column("text", "digest of the recipe, partition, and what was particular", codec="json"),
    # On the way through a chain, in no file
    "source_box": Column("float32", "x0, y0, x1, y1 of a face in the picture that it was cut out of", (4,), unit="px"),
    "apart_70": Column("float32", "how far landmarks found on the thermal picture alone are from those on the visible one, "
                       "over the sides of their box; NaN without a face", per="layer"),
    "reference": Column("uint8", "a picture of the person to draw on (Arc2Face's reference adapter, aligned as FFHQ; FaceCLIP), "
                        "given or by the stage portrait; zeros for none", ("S", "S", 3), per="person", codec="picture"),
    "crop": Column("uint8", "the person's face as FaceCLIP reads it, aligned as ArcFace's; zeros for none", (448, 448, 3),
                   per="person", codec="picture"),
    "smirk": Column("float32", "the expression asked for in SMIRK's numbers: 50 of FLAME's expression, 2 of the eyelids, 3 of "
                    "the jaw; NaN for none", (55,), per="person"),
    "latents": Column("float32", "the visible picture as its autoencoder's scaled latents", ("L", "S/8", "S/8")),
    "latent_space": Column("text", "digest of the autoencoder that `latents` are of"),
    "noise_id": Column("text", "what the noise of this attempt is drawn from"),
    "caption_cut": Column("int32", "tokens at the caption's end that no text encoder read"),
    "call": Column("int32", "which request a row is of, where several share a batch of the service"),
    "partition": Column("int32", "unit of commit, retry and loss"),
    "final": Column("bool", "false for failed attempts, which are kept beside the last"),
    "reached": Column("uint64", "bit per column of the chain: whether the row has it"),
    "seconds": Column("float64", "seconds of each stage, to be summed over rows", ("stages",)),
    "shrunk": Column("int32", "compute batch of each stage where memory made it smaller, else 0", ("stages",)),
}  # fmt: skip
"""Pixel centres lie at .5; boxes and points are in pixels of the row's square picture."""
