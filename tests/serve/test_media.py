"""Which form an answer takes, and how pictures and numbers are written in it."""

import base64
import io
import json
from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient

from pipelines.config.profile import Limits
from pipelines.pictures.codecs import decode
from serve.http import codecs
from serve.http.content_negotiation import CENTIKELVIN, JSON, NPY, PNG, Media, choose_media
from serve.http.problems import ProblemError
from serve.pairs_request import check_limit
from serve.service import Service
from tests.serve.local import ask_here, png, problem


@pytest.fixture
def client(quiet: Service) -> Iterator[TestClient]:
    with ask_here(quiet) as client:
        yield client


class TestAccept:
    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            (None, JSON),
            ("*/*", JSON),
            ("image/*", PNG),
            ("image/png", PNG),
            ("image/png; unit=centikelvin", CENTIKELVIN),
            ('IMAGE/PNG;UNIT="centikelvin"', CENTIKELVIN),
            ("image/png;q=0.2, application/x-npy;q=0.8", NPY),
            ("text/html, */*;q=0.1", JSON),
            ("*/*, application/json;q=0", PNG),
        ],
    )
    def test_the_best_offer_is_chosen(self, header: str | None, expected: Media) -> None:
        assert choose_media(header, [JSON, PNG, CENTIKELVIN, NPY]) == expected

    @pytest.mark.parametrize("header", ["text/html", "image/png; unit=kelvin", "application/json;q=0", "image/png;q=x"])
    def test_what_there_is_not_is_refused_with_what_there_is(self, header: str) -> None:
        with pytest.raises(ProblemError, match="image/png; unit=centikelvin"):
            choose_media(header, [JSON, PNG, CENTIKELVIN])

    def test_a_picture_is_one_picture(self, client: TestClient) -> None:
        two = {"pictures": [png(8, 8), png(8, 8)], "conditions": ["warm"]}
        for form in ("image/png", "image/png; unit=centikelvin", "application/x-npy"):
            problem(client.post("/v1/thermalize", json=two, headers={"accept": form}), 406, "not-acceptable")
        problem(client.post("/v1/pairs", json={"views": 2}, headers={"accept": "image/png"}), 406, "not-acceptable")
        problem(client.get("/v1/pairs"), 405, "method")

    @pytest.mark.parametrize("form", ["image/png", "image/png; unit=centikelvin"])
    def test_one_picture_is_of_one_condition(self, client: TestClient, form: str) -> None:
        """Two conditions are two thermal pictures: the first alone would be taken for both."""
        two = {"pictures": [png(8, 8)], "conditions": ["warm", "cold"]}
        found = problem(client.post("/v1/thermalize", json=two, headers={"accept": form}), 406, "not-acceptable")
        assert found.detail == f"{form} holds one picture, this makes 2"
        if form != "image/png":  # of a pair that is the visible picture, the same in every condition
            body = {"conditions": ["warm", "cold"]}
            problem(client.post("/v1/pairs", json=body, headers={"accept": form}), 406, "not-acceptable")


class TestCodecs:
    @pytest.mark.parametrize("letter", ["*", "-", "_", "%", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\0", "="])
    def test_letters_that_are_not_of_base64_are_refused(self, letter: str) -> None:
        """They are not passed over: what is left may be another picture."""
        text = base64.b64encode(b"some bytes of a picture").decode()
        assert codecs.from_base64(text, 0) == codecs.from_base64(f"data:image/png;base64,{text}", 0)
        with pytest.raises(ProblemError, match="picture 3: not base64"):
            codecs.from_base64(f"{text[:8]}{letter}{text[8:]}", 3)

    def test_limits_are_what_is_taken_at_most(self) -> None:
        check_limit("views", 4, 4)
        with pytest.raises(ProblemError, match="views is 5, at most 4 are taken"):
            check_limit("views", 5, 4)
        assert codecs.max_pixels(Limits(megapixels=1.5)) == 1_500_000

    def test_values_of_any_kind_become_json(self) -> None:
        answer = codecs.json_response(
            {"a": (1, np.float32(2.5), [np.bool_(True)]), "b": {"c": np.array([[1, 2]])}, "d": None, "e": float("nan")}
        )
        assert json.loads(answer.body) == {"a": [1, 2.5, [True]], "b": {"c": [[1, 2]]}, "d": None, "e": None}
        assert answer.headers["content-type"] == "application/json"

    def test_false_colours_span_a_degree_at_least_and_leave_out_what_has_no_reading(self) -> None:
        counts = np.full((4, 4), 30_315, np.uint16)
        counts[0, 0], counts[1, 1] = 0, 30_355
        answer = codecs.false_colour_response(counts)
        assert (answer.headers["x-colours-from"], answer.headers["x-colours-to"]) == ("30.00 degC", "31.00 degC")
        assert answer.headers["content-type"] == "image/png"

    def test_centikelvin_and_npy_come_back(self) -> None:
        counts = np.array([[30_815, 27_315], [0, 65_535]], np.uint16)
        answer = codecs.centikelvin_response(counts)
        assert (decode(answer.body) == counts).all()
        assert decode(answer.body).dtype == np.uint16
        assert answer.headers["content-type"] == "image/png; unit=centikelvin"
        assert answer.headers["x-thermal-scale"] == "0.01"
        values = np.array([1.5, np.nan], np.float32)
        loaded = np.load(io.BytesIO(codecs.npy_response(values).body), allow_pickle=False)
        np.testing.assert_array_equal(loaded, values)

    def test_false_colours_say_their_range(self) -> None:
        counts = (np.arange(20, 36).reshape(4, 4) * 100 + 27_315).astype(np.uint16)
        answer = codecs.false_colour_response(counts)
        assert decode(answer.body).shape == (4, 4, 3)
        assert answer.headers["x-colours-from"] == "20.00 degC"
        assert answer.headers["x-colours-to"] == "35.00 degC"

    def test_json_has_no_nan(self) -> None:
        answer = codecs.json_response({"a": np.array([1.0, np.nan], np.float32), "b": b"\x00\xff", "c": np.int32(3)})
        assert json.loads(answer.body) == {"a": [1.0, None], "b": "AP8=", "c": 3}
