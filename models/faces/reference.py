"""The distribution of a recogniser's embeddings, to sample people from, and linear probes that read words off them.

Written as `reference.safetensors` beside the recogniser, for its own embeddings alone:

    mean [512], components [k, 512] (orthonormal), scales [k] (standard deviations)   of people's mean embeddings
    probe.<attribute>.weight [V, 512], probe.<attribute>.bias [V]                     scores of the attribute's words
    measures.weight [M, 512], measures.bias [M]                                       a person's measures
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PROBE_DECAY = 1e-4
RIDGE = 1e-2
"""Penalty on the map to measures, beside a mean square of 1 / 512 of each number of an embedding."""


def mean_embeddings(embeddings: np.ndarray, identity: np.ndarray) -> np.ndarray:
    """Return the mean embedding of each person at length one, float64 [P, 512], of unit embeddings [N, 512]."""
    names, place = np.unique(identity, return_inverse=True)
    sums = np.zeros((len(names), embeddings.shape[1]))
    np.add.at(sums, place, embeddings)
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def fit_principal(people: np.ndarray, explained: float) -> dict[str, np.ndarray]:
    """Return mean, components and scales (float32) of `people` [P, 512] that hold `explained` of their variance."""
    mean = people.mean(0)
    _, values, directions = np.linalg.svd(people - mean, full_matrices=False)
    variance = values**2 / max(len(people) - 1, 1)
    # The fewest components that explain enough.
    count = int(np.searchsorted(np.cumsum(variance) / variance.sum(), explained)) + 1
    found = {"mean": mean, "components": directions[:count], "scales": np.sqrt(variance[:count])}
    return {name: np.ascontiguousarray(array, np.float32) for name, array in found.items()}


def fit_probe(embeddings: np.ndarray, words: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit softmax regression from unit embeddings [N, 512] to word indices [N] below `count`; returns weight and bias."""
    # Weights and biases start at zero; L-BFGS goes all the way, in float64.
    features, targets = torch.from_numpy(embeddings).double(), torch.from_numpy(words).long()
    weight = torch.zeros(count, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(count, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(features @ weight.T + bias, targets) + PROBE_DECAY * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach().float().numpy(), bias.detach().float().numpy()


def fit_ridge(embeddings: np.ndarray, measures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weight float32 [M, 512] and bias [M] of the linear map from unit embeddings [N, 512] to measures [N, M]."""
    # Centre both sides, solve the regularised normal equations, and put the means into the bias.
    centre, middle = embeddings.mean(0, dtype=np.float64), measures.mean(0, dtype=np.float64)
    x, y = embeddings - centre, measures - middle
    gram = x.T @ x / len(x) + RIDGE / x.shape[1] * np.eye(x.shape[1])
    weight = np.linalg.solve(gram, x.T @ y / len(x)).T
    # safetensors writes an array as it lies in memory, whatever its strides say.
    return np.ascontiguousarray(weight, np.float32), (middle - weight @ centre).astype(np.float32)


def fit_measures(
    embeddings: np.ndarray, identity: np.ndarray, measures: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return (tensors, metrics) of unit embeddings [N, 512] of people whose measures [N, M] are known.

    Fitted to single pictures and to means over a person's: both are asked for. The share of variance explained is
    measured on means of every fifth person, who took no part, and averaged over measures.
    """
    names, first = np.unique(identity, return_index=True)
    held = np.isin(identity, names[::5])

    def fit_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, start = np.unique(identity[rows], return_index=True)
        both = np.concatenate([embeddings[rows], mean_embeddings(embeddings[rows], identity[rows])])
        return fit_ridge(both, np.concatenate([measures[rows], measures[rows][start]]))

    weight, bias = fit_rows(~held)
    truth = measures[first][::5]
    error = mean_embeddings(embeddings, identity)[::5] @ weight.T + bias - truth
    explained = 1 - (error**2).mean(0) / truth.var(0)
    weight, bias = fit_rows(np.ones(len(identity), bool))
    return {"measures.weight": weight, "measures.bias": bias}, {"measures_explained": float(explained.mean())}


def fit(
    embeddings: np.ndarray,
    identity: np.ndarray,
    words: Mapping[str, np.ndarray],
    vocabulary: Mapping[str, Sequence[str]],
    explained: float = 0.98,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return (tensors, metrics) of unit embeddings [N, 512] of people `identity` [N].

    words: attribute -> word per row. Each probe is measured on every fifth person, who took no part in fitting it, beside
    the share of the commonest word (`<attribute>_prior`), and fitted again on all.
    """
    # The distribution of people.
    people = mean_embeddings(embeddings, identity)
    tensors = fit_principal(people, explained)
    metrics = {"people": float(len(people)), "components": float(len(tensors["scales"]))}
    # A probe for each attribute: measured on people held out, then fitted on all.
    held = np.isin(identity, np.unique(identity)[::5])
    for name, said in words.items():
        index = np.array([vocabulary[name].index(str(word)) for word in said])
        weight, bias = fit_probe(embeddings[~held], index[~held], len(vocabulary[name]))
        right = (embeddings[held] @ weight.T + bias).argmax(1) == index[held]
        metrics |= {
            f"{name}_accuracy": float(right.mean()),
            f"{name}_prior": float(np.bincount(index[held]).max() / held.sum()),
        }
        weight, bias = fit_probe(embeddings, index, len(vocabulary[name]))
        tensors |= {f"probe.{name}.weight": weight, f"probe.{name}.bias": bias}
    return tensors, metrics
