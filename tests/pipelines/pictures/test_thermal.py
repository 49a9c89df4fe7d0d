"""Frames of thermal cameras: every page, matrices, and FLIR's radiometric JPEG to degrees by its formula."""

import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.temperature import Numbers, to_centikelvin
from pipelines.pictures.codecs import encode_jpeg, encode_png
from pipelines.pictures.matrices import open_matrices
from pipelines.pictures.open import BadPicture
from pipelines.pictures.thermal import open_frames, open_scenes, open_temperatures
from tests.damaged import damaged
from tests.models.scenes import portrait
from tests.pipelines.pictures.thermal_files import radiometric_jpeg, tiff

FEW = settings(max_examples=25, derandomize=True, deadline=None)
R1, B, F, ZERO, R2 = 21106.77, 1501.0, 1.0, -7340, 0.012545258
CAMERA = {
    0x20: 0.95, 0x24: 2.0, 0x28: 295.15, 0x2C: 290.15, 0x30: 298.15, 0x34: 0.9, 0x3C: 0.4, 0x58: R1, 0x5C: B, 0x60: F,
    0x70: 0.006569, 0x74: 0.01262, 0x78: -0.002276, 0x7C: -0.00667, 0x80: 1.9, 0x30C: R2,
}  # fmt: skip
"""Emissivity .95, 2 m, 22 degrees reflected, air of 17 and 40 % humidity, a window of 25 degrees that lets 90 % through."""


def npy(values: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, values)
    return sink.getvalue()


def counts_of(celsius: np.ndarray, emissivity: float = 0.95, distance: float = 2.0) -> np.ndarray:
    """Return what a camera counts, by the formula of its makers: object, reflection, air and window add their radiance."""

    def radiance(degrees: Any) -> Any:
        return R1 / (R2 * (np.exp(B / (degrees + 273.15)) - F)) - ZERO

    water = 0.4 * math.exp(1.5587 + 0.06939 * 17 - 0.00027816 * 17**2 + 0.00000068455 * 17**3)
    air = 1.9 * math.exp(-math.sqrt(distance) * (0.006569 - 0.002276 * math.sqrt(water)))
    air -= 0.9 * math.exp(-math.sqrt(distance) * (0.01262 - 0.00667 * math.sqrt(water)))
    before = emissivity * air * radiance(celsius) + (1 - emissivity) * air * radiance(22.0) + (1 - air) * radiance(17.0)
    return np.rint(0.9 * before + 0.1 * radiance(25.0)).astype(np.uint16)


@pytest.mark.parametrize(("packed", "swapped"), [(True, True), (True, False), (False, False)])
def test_a_radiometric_jpeg_is_degrees_by_its_constants(packed: bool, swapped: bool) -> None:
    data = radiometric_jpeg(counts_of(portrait()), CAMERA, ZERO, packed=packed, swapped=swapped, segment=4000)
    (found,) = open_frames(data, "a.jpg")
    assert found.dtype == np.float32 and found.shape == (120, 160)
    np.testing.assert_allclose(found, portrait(), atol=0.02)
    np.testing.assert_array_equal(open_frames(data, "a.jpg", "grey")[0], counts_of(portrait()))
    np.testing.assert_array_equal(open_scenes(data, "a.jpg")[0], found)


def test_emissivity_and_distance_may_be_those_of_the_scene() -> None:
    data = radiometric_jpeg(counts_of(portrait(), 0.98, 5.0), CAMERA, ZERO)
    np.testing.assert_allclose(
        open_frames(data, "a.jpg", Numbers(emissivity=0.98, distance=5))[0], portrait(), atol=0.02
    )
    assert np.abs(open_frames(data, "a.jpg")[0] - portrait()).max() > 0.3
    with pytest.raises(BadPicture, match="not radiometric: emissivity and distance"):
        open_frames(encode_png(to_centikelvin(portrait())), "a.png", Numbers(emissivity=0.98))


def test_what_cannot_be_read_of_a_radiometric_jpeg_says_where_the_counts_are(caplog: pytest.LogCaptureFixture) -> None:
    data = radiometric_jpeg(counts_of(portrait()), CAMERA, ZERO)
    for spoilt, message in (
        (data.replace(b"FFF\0", b"XXX\0"), "no FFF file"),
        (radiometric_jpeg(counts_of(portrait()), CAMERA | {0x58: 0.0}, ZERO), "Planck constants"),
        (
            data.replace((101).to_bytes(4, "big") + (64).to_bytes(4, "big") + (2).to_bytes(4, "big"), bytes(12)),
            "no version",
        ),
    ):
        with pytest.raises(
            BadPicture, match=f"radiometric: the sensor's counts are in FLIR's segment, .*{message}.* export"
        ):
            open_frames(spoilt, "a.jpg")
        assert open_scenes(spoilt, "a.jpg")[0].shape == (120, 160, 3)  # faces are looked for in what it shows
        assert "a.jpg: radiometric: the sensor's counts" in caplog.text
        with pytest.raises(BadPicture, match="radiometric: "):
            open_scenes(spoilt, "a.jpg", "flir")
    with pytest.raises(BadPicture, match="radiometric: by the constants in the file the median pixel would be"):
        open_frames(radiometric_jpeg(counts_of(portrait() + 80), CAMERA, ZERO), "a.jpg")


@FEW
@given(st.data())
def test_a_damaged_radiometric_jpeg_is_a_frame_or_a_reason(data: st.DataObject) -> None:
    small = radiometric_jpeg(counts_of(portrait(shape=(12, 16))), CAMERA, ZERO)
    try:
        (frame,) = open_frames(data.draw(damaged(small)), "a.jpg")
    except BadPicture:
        return
    assert frame.shape and frame.dtype in (np.float32, np.uint8)


def test_every_page_of_a_file_is_a_frame() -> None:
    stack = np.stack([portrait(room) for room in (19.0, 21.0, 23.0)])
    for data, name, unit in (
        (tiff(to_centikelvin(stack)), "a.tiff", "centikelvin"),
        (tiff(np.rint(stack * 10).astype(np.int16)), "a.tiff", "decicelsius"),
        (tiff(stack, ">"), "a.tif", "celsius"),
        (npy(to_centikelvin(stack)), "a.npy", "centikelvin"),
        (npy(np.asfortranarray(stack)), "a.npy", "celsius"),
    ):
        found = open_temperatures(data, name, unit)  # type: ignore[arg-type]
        np.testing.assert_allclose(np.stack(found), stack, atol=0.06)
    wrong = to_centikelvin(stack)
    wrong[1] //= 7
    with pytest.raises(BadPicture, match=r"^not centikelvin: .* \(page 1\)$"):
        open_temperatures(tiff(wrong), "a.tiff")


def test_the_order_of_bytes_is_that_of_the_camera_whatever_the_file_says() -> None:
    counts = to_centikelvin(portrait())
    for data, name, order in (
        (encode_png(counts.byteswap()), "a.png", "little"), (tiff(counts.byteswap()[None]), "a.tiff", "big"),
        (tiff(counts.byteswap()[None], ">"), "a.tiff", "little"), (npy(counts.byteswap()), "a.npy", "big"),
        (npy(counts.astype(">u2")), "a.npy", "big"), (encode_png(counts), "a.png", "big"),
    ):  # fmt: skip
        (found,) = open_temperatures(data, name, Numbers(endian=order))  # type: ignore[arg-type]
        np.testing.assert_allclose(found, portrait(), atol=0.006)


CSV = {
    "commas": ("{0:.3f},", ",", "."), "semicolons and decimal commas": ("{0:.3f}", ";", ","), "tabs": ("{0:.3f}", "\t", ","),
    "spaces": ("{0:.3f}", " ", "."),
}  # fmt: skip


@pytest.mark.parametrize("name", CSV)
def test_matrices_of_text_are_read_as_software_exports_them(name: str) -> None:
    _, mark, point = CSV[name]
    celsius = portrait(shape=(24, 32))
    lines = [mark.join(f"{value:.3f}".replace(".", point) for value in row) for row in celsius]
    lines[3] += mark  # some end their lines with the mark
    text = "\n".join(["\ufeffCamera" + mark + "X", "Emissivity" + mark + "0" + point + "98", "", *lines])
    (found,) = open_matrices(text.encode(), "a.csv")
    np.testing.assert_allclose(found, celsius, atol=6e-4)
    two = "\n".join([*lines, "", *lines])
    assert len(open_temperatures(two.encode("utf-16"), "a.CSV", "celsius")) == 2


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"", "a.csv", "empty:"),
        (b"a,b\nc,d\n", "a.csv", "not a matrix: no line holds numbers"),
        (b"1,2\n3,4\n5,x\n", "a.csv", "not a matrix: line 3 holds no numbers: '5,x'"),
        (b"1,2\n3,4,5\n", "a.csv", "not a matrix: line 2 has 3 numbers where 2"),
        (b"\xff\x00\x81", "a.csv", "not a matrix: the file is no text"),
        (npy(np.zeros((2, 3), complex)), "a.npy", "array: "),
        (npy(np.zeros(5)), "a.npy", "not a matrix: float64 of shape"),
        (npy(np.zeros((70, 2, 2))), "a.npy", "too many pages: 70"),
        (npy(np.zeros((4, 4)))[:-9], "a.npy", "array: .* says shape"),
    ],
)
def test_what_is_no_matrix_is_refused(data: bytes, name: str, message: str) -> None:
    with pytest.raises(BadPicture, match=f"^{message}"):
        open_matrices(data, name)


@FEW
@given(st.data())
def test_damaged_matrices_are_frames_or_a_reason(data: st.DataObject) -> None:
    text = "\n".join(",".join(f"{value:.1f}" for value in row) for row in portrait(shape=(6, 8)))
    for content, name in ((npy(portrait(shape=(6, 8))), "a.npy"), (text.encode(), "a.csv")):
        try:
            found = open_temperatures(data.draw(damaged(content)), name, "celsius")
        except BadPicture:
            continue
        assert all(frame.dtype == np.float32 for frame in found)


def test_pictures_of_8_bits_are_grey_levels_or_colours() -> None:
    grey = np.random.default_rng(0).integers(0, 255, (24, 32), np.uint8)
    assert open_frames(encode_png(np.repeat(grey[..., None], 3, axis=2)), "a.png")[0].dtype == np.uint8
    with pytest.raises(BadPicture, match="8-bit: grey levels are no temperatures; export 16-bit lepton"):
        open_temperatures(encode_png(grey), "a.png", "lepton")
    with pytest.raises(BadPicture, match="colours: a palette"):
        open_frames(encode_jpeg(np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)), "a.jpg")
    assert open_scenes(encode_png(grey), "a.png", "centikelvin")[0].dtype == np.uint8
