"""An insightface pack with random weights: what is tested is the arithmetic around the networks."""

from pathlib import Path

import pytest
import torch

from models.faces.onnx_file import export_detector, export_recogniser
from models.faces.recogniser import Embedder
from models.faces.scrfd import SCRFD


@pytest.fixture(scope="session")
def random_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `models/random` whose detector finds something in noise."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("insightface") / "models" / "random"
    detector = SCRFD()
    for head in detector.heads:
        torch.nn.init.normal_(head.score.weight, std=1.0)
        torch.nn.init.normal_(head.box.weight, std=0.05)
        torch.nn.init.constant_(head.score.bias, -2.0)
    # Batch statistics of noise, so that activations have a scale.
    detector.train()
    with torch.no_grad():
        for _ in range(20):
            detector(torch.randn(4, 3, 128, 128) * 0.3)
    export_detector(detector, folder / "det.onnx")
    export_recogniser(Embedder("residual"), folder / "rec.onnx")
    return folder
