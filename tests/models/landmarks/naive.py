"""The sliding window as plainly as it can be written, for tests and the benchmark to compare with."""

import cv2
import numpy as np
import torch
from torch import nn

from models.landmarks.network import Landmarker, normalise


def make_react(model: Landmarker, pictures: np.ndarray) -> Landmarker:
    """Return `model` with random outputs and the exact batch statistics of `pictures` float32 [N, S, S, 3] in [0, 1]:
    its points and variances then differ from picture to picture, as a search needs that is to be told from a wrong one.
    """
    nn.init.normal_(model.fc.weight, 0, 2 / model.fc.in_features**0.5)
    with torch.no_grad():
        model.fc.bias.copy_(torch.tensor([0.5, 0.5, 0.6]).repeat(model.config.standard))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # the last batch's statistics alone
        model.train()(normalise(torch.from_numpy(pictures).permute(0, 3, 1, 2)))
    return model.eval()


def search(
    model: Landmarker, values: np.ndarray, stride: int, eta: float = 0.75, one_batch: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return landmarks [L, 2] in pixels and raw variances [L] of the surest window of `values` float32 [H, W, 3] in [0, 1].

    one_batch: all windows of a level at once, as published; else one after the other.
    """
    side = model.config.size
    height, width = values.shape[:2]
    level, sizes = 0, []
    while level == 0 or min(round(height * eta**level), round(width * eta**level)) >= side:
        sizes.append((round(height * eta**level), round(width * eta**level)))
        level += 1
    best, answer = float("inf"), None
    for rows, columns in reversed(sizes):
        image = cv2.resize(values, (columns, rows)) if (rows, columns) != (height, width) else values
        down, right = (rows // side + 1) * side, (columns // side + 1) * side
        canvas = np.zeros((down, right, 3), np.float32)
        top, left = (down - rows) // 2, (right - columns) // 2
        canvas[top : top + rows, left : left + columns] = image
        corners = [(y, x) for y in range(0, down - side + 1, stride) for x in range(0, right - side + 1, stride)]
        tiles = torch.stack(
            [torch.from_numpy(canvas[y : y + side, x : x + side].transpose(2, 0, 1).copy()) for y, x in corners]
        )
        with torch.inference_mode():
            parts = [tiles] if one_batch else list(tiles.split(1))
            found = torch.cat([model(normalise(part)) for part in parts]).numpy()
        for out, (y, x) in zip(found, corners, strict=True):
            if out[:, 2].mean() < best:
                best = out[:, 2].mean()
                points = (out[:, :2] * side + (x - left, y - top)) * (width / columns, height / rows)
                answer = points, out[:, 2]
    assert answer is not None
    return answer
