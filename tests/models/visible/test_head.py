"""The drawn head: its shape from the embedding alone, its pose and expression from the words."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.attributes import ATTRIBUTES, POSES
from models.errors import EnvironmentFault
from models.synthworld.render.render import render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.synthworld.sampling.person import measure_person, person_from_measures, sample_person
from models.synthworld.sampling.scene import Scene, View, pose_word
from models.synthworld.shape.kernels import eagerly
from models.visible.head import (
    CHANNELS,
    FOLD,
    HeadReader,
    draw_heads,
    find_faces,
    fold_heads,
    mirror_heads,
    view_of,
    views_of,
)


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_a_person_comes_back_from_their_measures(identity: int) -> None:
    person = sample_person(identity)
    np.testing.assert_allclose(
        measure_person(person_from_measures(measure_person(person))), measure_person(person), atol=2e-2
    )


@settings(max_examples=30)
@given(st.sampled_from(POSES), st.text(min_size=1, max_size=8))
def test_a_view_is_what_its_words_say(pose: str, name: str) -> None:
    view = view_of({"pose": pose, "expression": "laugh"}, name)
    assert pose_word(view.yaw) == pose and view.expression == "laugh"
    assert view == view_of({"pose": pose, "expression": "laugh"}, name)


def test_views_are_read_off_captions() -> None:
    first, second = views_of(["A smiling woman, turned to her left.", "Somebody."], ["a", "b"])
    assert first.expression == "smile" and 30 <= first.yaw <= 60
    assert second.expression == "neutral" and abs(second.yaw) <= 10


def test_numbers_win_over_the_words_of_a_caption() -> None:
    nan = np.nan
    poses = np.array([[-70, nan, nan], [nan, 12, -5], [nan, nan, nan]], np.float32)
    captions, names = ["A smiling woman, turned to her left."] * 3, ["a", "b", "c"]
    plain = views_of(captions, names)
    turned = views_of(captions, names, poses)
    assert turned[0] == replace(plain[0], yaw=-70) and turned[0].expression == "smile"
    assert turned[1] == replace(plain[1], pitch=12, roll=-5)
    assert turned[2] == plain[2]


def test_a_view_is_the_same_head_alone_and_among_others() -> None:
    poses = np.array([(-75, 20, np.nan), (40, np.nan, 15)], np.float32)
    captions, names = ["A smiling man."] * 2, ["row-0", "row-1"]
    measures = np.stack([measure_person(sample_person(k)) for k in range(2)])
    with eagerly():
        whole = draw_heads(measures, views_of(captions, names, poses), 3)
        alone = draw_heads(measures[1:], views_of(captions[1:], names[1:], poses[1:]), 3)
    assert np.array_equal(alone[0], whole[1]) and not np.array_equal(whole[0], whole[1])


def test_heads_lie_where_the_rendered_person_is() -> None:
    scene = sample_scene(load_domain("portrait"), 200003, 1, "warm")
    plain = replace(
        scene.view, hair_style="bald", beard="none", glasses="none", headwear="none", facewear="none", clothes="crew"
    )
    truth = render([Scene(scene.person, plain)], 32)
    heads = draw_heads(measure_person(scene.person)[None], [scene.view], 8)
    assert heads.shape == (1, 32, 32, CHANNELS) and heads.dtype == np.int8
    person = truth.classes[0].numpy() > 0
    assert (np.any(heads[0, ..., :3], axis=-1) == person).mean() > 0.98  # the measures know no asymmetry
    error = heads[0, ..., :3][person] / 127 - truth.normals[0].numpy()[person]
    assert np.median(np.abs(error)) < 0.02
    assert np.array_equal(heads[0, ..., 3] > 0, np.isin(truth.classes[0], (3, 4)))


def test_points_lie_where_the_drawn_head_has_its_features() -> None:
    view = View(yaw=20, pitch=-5, roll=6, shift_x=0.05, shift_y=-0.03)
    measures = measure_person(sample_person(7))[None]
    points, heads = find_faces(measures, [view], 128)[0], draw_heads(measures, [view], 32)[0]
    rows, columns = np.nonzero(heads[..., 3])  # eyes, of the picture's left and right half of the face
    eyes = [
        np.array([columns[side].mean(), rows[side].mean()]) for side in (columns < points[2, 0], columns > points[2, 0])
    ]
    assert points[:2] == pytest.approx(np.array(eyes), abs=2.0)
    rows, columns = np.nonzero(heads[..., 5])
    assert points[3:].mean(axis=0) == pytest.approx(np.array([columns.mean(), rows.mean()]), abs=2.5)
    double = find_faces(measures, [view], 256)[0]
    assert double == pytest.approx(2 * points, abs=1e-3)


def test_a_mirrored_head_is_the_mirrored_view() -> None:
    view = View(yaw=25, roll=6, shift_x=0.03)
    other = replace(view, yaw=-25, roll=-6, shift_x=-0.03)
    measures = measure_person(sample_person(7))[None]
    ours, truth = mirror_heads(draw_heads(measures, [view], 8)), draw_heads(measures, [other], 8)
    assert (np.abs(ours.astype(int) - truth) > 12).mean() < 0.03  # rays through pixel centres differ in rounding
    assert np.array_equal(mirror_heads(mirror_heads(truth)), truth)


def test_folding_keeps_every_pixel() -> None:
    heads = np.random.default_rng(0).integers(-127, 128, (2, 8, 8, CHANNELS)).astype(np.int8)
    found = fold_heads(heads)
    assert found.shape == (2, CHANNELS * FOLD**2, 2, 2)
    back = torch.nn.functional.pixel_shuffle(found, FOLD).permute(0, 2, 3, 1)
    np.testing.assert_allclose(back.numpy() * 127, heads, atol=1e-4)


def test_the_reader_is_linear_in_the_direction_and_names_what_it_lacks(tmp_path) -> None:
    random = np.random.default_rng(0)
    weight, bias = random.normal(size=(58, 512)).astype(np.float32), random.normal(size=58).astype(np.float32)
    reader, embedding = HeadReader(np.asfortranarray(weight), bias), random.normal(size=(2, 512)).astype(np.float32)
    np.testing.assert_allclose(reader(embedding), reader(embedding * 9), rtol=1e-5, atol=1e-6)
    reader.save(tmp_path / "head.safetensors")
    np.testing.assert_allclose(HeadReader.load(tmp_path / "head.safetensors")(embedding), reader(embedding), atol=5e-3)
    with pytest.raises(EnvironmentFault, match="nowhere"):
        HeadReader.load(tmp_path / "nowhere.safetensors")


@pytest.mark.slow
def test_every_expression_can_be_drawn() -> None:
    measures = measure_person(sample_person(3))[None]
    pictures = {
        word: draw_heads(measures, [View(expression=word)], 4).tobytes() for word in ATTRIBUTES["expression"][2]
    }
    assert len(set(pictures.values())) == len(pictures)
