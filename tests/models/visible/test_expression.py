"""The expression adapter is diffusers' IP-Adapter at equal weights; SMIRK's numbers are clamped as published, and checked."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import ImageProjection, IPAdapterFaceIDImageProjection, IPAdapterFullImageProjection
from torch import Tensor, nn

from models.diffusion.conditions import Conditions
from models.diffusion.cross_attention import attach, new_branch
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.lora import share_weights
from models.diffusion.sample import Step
from models.errors import EnvironmentFault, UserError
from models.visible.expression import BRANCH, FILE, KINDS, ExpressionAdapter, load_expression_adapter
from models.visible.smirk import MAP, SMIRK, ExpressionMap, check_smirk, clamp, fit
from tests.models.diffusion import tiny


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LATENTS, PROMPTS, NUMBERS = draw(2, 4, 4, 4), 3 * draw(3, 7, tiny.HIDDEN, seed=1), draw(2, SMIRK, seed=2)
PUBLISHED = {"IP-Adapter": "image_embeds", "IP-Adapter Full": "ff.net", "IP-Adapter FaceID": "ff.net"}


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    return tiny.new_unet()


def projection(kind: str, numbers: int = SMIRK) -> dict[str, Tensor]:
    """Weights of a form's first network, by its published names."""
    made: dict[str, nn.Module] = {
        "IP-Adapter": ImageProjection(numbers, tiny.HIDDEN, num_image_text_embeds=4),
        "IP-Adapter Full": IPAdapterFullImageProjection(numbers, tiny.HIDDEN),
        "IP-Adapter FaceID": IPAdapterFaceIDImageProjection(numbers, tiny.HIDDEN, mult=2, num_tokens=3),
    }
    renamed = {own: theirs for named, names in KINDS.values() if named == kind for theirs, own in names.items()}
    state = tiny.wake(made[kind]).state_dict()
    return {
        next((key.replace(o, t) for o, t in renamed.items() if key.startswith(o)), key): v for key, v in state.items()
    }


def write(folder: Path, unet: UNet2DConditionModel, kind: str = "IP-Adapter", **parts: dict[str, Tensor]) -> dict:
    branch = tiny.wake(new_branch(unet, tiny.HIDDEN))
    layers = {
        f"{2 * layer + 1}.to_{one}_ip.weight": getattr(pair, f"to_{one}").weight
        for layer, pair in enumerate(branch.layers)
        for one in "kv"
    }
    state = {"image_proj": projection(kind), "ip_adapter": layers} | parts
    torch.save(state, folder / FILE)
    return state


def driven(unet: UNet2DConditionModel, adapter: ExpressionAdapter, guidance: float) -> Tensor:
    """One step under both conditions, the unconditional one with 55 zeros."""
    attach(unet, BRANCH, adapter.branch)
    cond = Conditions(PROMPTS[:2], extra={BRANCH: adapter(NUMBERS)})
    uncond = Conditions(PROMPTS[2:].expand(2, -1, -1), extra={BRANCH: adapter(torch.zeros_like(NUMBERS))})
    return denoiser(unet, cond, uncond, Guidance(guidance))(LATENTS, Step(0, 2, torch.tensor(500)))


@pytest.mark.parametrize("kind", PUBLISHED)
@torch.inference_mode()
def test_it_is_diffusers_ip_adapter(unet: UNet2DConditionModel, tmp_path: Path, kind: str) -> None:
    state = write(tmp_path, unet, kind)
    adapter = load_expression_adapter(tmp_path, unet)
    found = driven(share_weights(unet), adapter, 4.0)
    # As its users run it: zeros for the unconditional half, which comes first there.
    theirs = share_weights(unet)
    theirs._load_ip_adapter_weights([state], low_cpu_mem_usage=False)
    both = torch.cat([torch.zeros_like(NUMBERS), NUMBERS])[:, None]
    prompts = torch.cat([PROMPTS[2:].expand(2, -1, -1), PROMPTS[:2]])
    wanted = theirs(LATENTS.repeat(2, 1, 1, 1), 500, prompts, added_cond_kwargs={"image_embeds": [both]}).sample
    uncond, cond = wanted.chunk(2)
    wanted = uncond + 4.0 * (cond - uncond)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    # Off, it is the U-Net alone, to the bit.
    adapter.branch.scale = 0.0
    plain = denoiser(unet, Conditions(PROMPTS[:2]), Conditions(PROMPTS[2:].expand(2, -1, -1)), Guidance(4.0))
    alone = driven(share_weights(unet), adapter, 4.0)
    assert torch.equal(alone, plain(LATENTS, Step(0, 2, torch.tensor(500)))) and (alone - found).abs().max() > 0.01


def test_another_adapter_is_refused_by_what_it_is(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=f"has no {FILE}"):
        load_expression_adapter(tmp_path, unet)
    state = write(tmp_path, unet)
    wrong = {
        "reads 1280 numbers": {"image_proj": projection("IP-Adapter", 1280)},
        "the form of no adapter": {"image_proj": {"latents": torch.zeros(1, 16, 8)}},
        "another architecture": {"ip_adapter": state["ip_adapter"] | {"0.to_q_lora.down.weight": torch.zeros(2, 2)}},
        "missing": {"ip_adapter": dict([*state["ip_adapter"].items()][1:])},
        "is no IP-Adapter": {"more": {}},
    }
    for said, parts in wrong.items():
        write(tmp_path, unet, **parts)
        with pytest.raises(UserError, match=said):
            load_expression_adapter(tmp_path, unet)
    torch.save({"image_proj": Path("x")}, tmp_path / FILE)  # a pickle that asks for code
    with pytest.raises(UserError, match="which is code"):
        load_expression_adapter(tmp_path, unet)


def test_numbers_are_clamped_as_smirk_gives_them() -> None:
    numbers = np.full(SMIRK, -3.0)
    assert clamp(numbers)[:50].tolist() == [-3.0] * 50
    assert clamp(numbers)[50:].tolist() == pytest.approx([0, 0, 0, -0.2, -0.2])
    assert clamp(-numbers)[50:].tolist() == pytest.approx([1, 1, 3, 0.2, 0.2])
    assert numbers[50] == -3.0  # what came is not changed


@pytest.mark.parametrize(
    ("values", "said"),
    [([0.0] * 53, "53 numbers instead of 55"), ([[0.0] * 55], "1 x 55 numbers instead"),
     ([float("nan")] * 55, "not finite"), (["a"] * 55, "no list of numbers"), ([], "0 numbers instead")],
)  # fmt: skip
def test_other_lists_are_refused_by_name(values: list, said: str) -> None:
    with pytest.raises(UserError, match=f"person 'p'.*{said}"):
        check_smirk(values, "person 'p'")


def pairs_of(noise: float, seed: int = 0) -> tuple[list, np.ndarray]:
    """Pairs whose numbers are linear in smile and surprise, and that truth: [smile, surprise, rest]."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1, (3, SMIRK))
    truth[:, 50:] = 0.05  # within the clamps
    strengths = rng.uniform(0, 1, (60, 2))
    values = strengths @ truth[:2] + truth[2] + rng.normal(0, noise, (60, SMIRK)) * (np.arange(SMIRK) < 50)
    return [({"smile": a, "surprised": b}, row) for (a, b), row in zip(strengths, values)], truth


def test_a_map_finds_what_is_linear_and_tells_its_error(tmp_path: Path) -> None:
    pairs, truth = pairs_of(0.2)
    found = fit(pairs)
    assert found.names == ("smile", "surprised") and found.pairs == 60
    assert abs(np.array([*found.weight, found.bias]) - truth).max() < 0.4
    assert found.error == pytest.approx(0.2 * (50 / 55) ** 0.5, rel=0.1)  # the noise, on what was left out
    assert found.error_of_mean > 1.5 * found.error
    # Numbers that have nothing to do with the words are told as such: no better than the mean.
    rng = np.random.default_rng(1)
    blind = fit([(strengths, rng.permutation(row[:50]).tolist() + [0.0] * 5) for strengths, row in pairs])
    assert blind.error > 0.95 * blind.error_of_mean
    found.save(tmp_path / MAP)
    again = ExpressionMap.load(tmp_path / MAP)
    assert np.array_equal(again([{"smile": 0.5}, {}]), found([{"smile": 0.5}, {}]))
    assert abs(again([{"smile": 0.5}])[0] - clamp(0.5 * truth[0] + truth[2])).max() < 0.4


def test_a_map_that_cannot_be_is_refused(tmp_path: Path) -> None:
    pairs, _ = pairs_of(0.1)
    with pytest.raises(UserError, match="at least twice as many pairs"):
        fit(pairs[:4])
    with pytest.raises(UserError, match="do not tell their expressions apart"):
        fit([({"smile": 1.0}, row) for _, row in pairs])
    with pytest.raises(UserError, match="pair 3: smirk has 54"):
        fit([(one, row[: 54 if k == 3 else 55]) for k, (one, row) in enumerate(pairs)])
    found = fit(pairs)
    with pytest.raises(UserError, match="does not know laugh; it knows smile, surprised"):
        found([{"laugh": 1.0}])
    found.save(tmp_path / MAP)
    (tmp_path / MAP).write_text((tmp_path / MAP).read_text().replace('"smile",', '"smile", "laugh",', 1))
    with pytest.raises(EnvironmentFault, match="no map of expressions"):
        ExpressionMap.load(tmp_path / MAP)
