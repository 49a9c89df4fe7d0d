"""How fast a device is with networks of published shapes."""

import time

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cluster import cli
from models.published.shapes import NETWORKS, Network
from models.published.speed import count, held, measure


def count_convolutions(network: Network, side: int) -> int:
    """Return the operations of the convolutions of one row, from the shapes that pass through them."""
    module, total = network.build().eval(), 0

    def note(layer: nn.Conv2d, _: tuple[Tensor], out: Tensor) -> None:
        nonlocal total
        total += 2 * layer.weight[0].numel() * out.numel()

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(note)  # type: ignore[arg-type]
    with torch.inference_mode():
        module(**network.inputs(1, side))
    return total


@pytest.mark.parametrize("name", ["tiny decoder", "thermal U-Net"])
def test_operations_are_those_of_the_convolutions(name: str) -> None:
    assert count(NETWORKS[name], 64)[1] == count_convolutions(NETWORKS[name], 64)


def test_operations_of_attention_are_counted() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x)

    attention = Network(Attention, lambda rows, side: {"x": torch.randn(rows, 2, side, 8)}, True, {})
    assert count(attention, 32) == (0, 2 * 2 * 2 * 32 * 32 * 8)


@pytest.mark.parametrize(("half", "size"), [(True, 2), (False, 4)])
def test_memory_is_that_of_what_is_alive_at_once(half: bool, size: int) -> None:
    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Conv2d(a, b, 1, bias=False) for a, b in ((2, 32), (32, 16), (16, 2)))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    chain = Network(Chain, lambda rows, side: {"x": torch.randn(rows, 2, side, side)}, half, {})
    weights, row = held(chain, 64)
    assert weights == (64 + 512 + 32) * size
    # What is given, and never more than two layers' results at once: 32 and 16 channels (the tracker counts in blocks of 512).
    wanted = (2 + 32 + 16) * 64 * 64 * size
    assert wanted <= row <= wanted + 4096


def test_published_shapes_have_the_published_sizes() -> None:
    """Parameters of Stable Diffusion 1.5's U-Net and decoder; T-FAKE's and FaceCLIP's have tests of their own."""
    with torch.device("meta"):
        built = {name: NETWORKS[name].build() for name in ("SD 1.5 U-Net", "decoder")}
    found = {name: sum(one.numel() for one in module.parameters()) for name, module in built.items()}
    assert found == {"SD 1.5 U-Net": 859_520_964, "decoder": 49_490_199}


class Waits(nn.Module):
    """Takes `call` seconds, and `row` more for each row."""

    def __init__(self, call: float, row: float) -> None:
        super().__init__()
        self.call, self.row = call, row

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and type(x) is Tensor:  # not while operations are counted
            time.sleep(self.call + self.row * len(x))
        return x


@pytest.mark.parametrize(("call", "row", "rows"), [(0.01, 0, 8), (0, 0.02, 1)])
def test_the_best_batch_is_the_largest_that_pays(call: float, row: float, rows: int) -> None:
    network = Network(lambda: Waits(call, row), lambda rows, side: {"x": torch.zeros(rows, side)}, True, {"both": 2})
    (speed,) = measure({"waits": network}, 32, 8, 0.01)
    assert speed.rows == rows and speed.dtype == "float32" and speed.pictures == {"both": speed.rows_per_second / 2}
    assert 0.2 < speed.rows_per_second * (call / rows + row) <= 1
    assert (speed.mb, speed.actors) == (None, None), "no GPU, no memory of one"


def test_the_command_says_what_it_counts_and_refuses_other_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "networks", "--count", "--only", "landmarker"]) == 0
    assert "0.002 G parameters" in capsys.readouterr().out
    assert cli.main(["bench", "networks", "--only", "net"]) == 2
    assert "there are SD 1.5 U-Net, decoder," in capsys.readouterr().err
    assert cli.main(["bench", "networks", "--count", "--side", "100"]) == 2
