"""Measures that several parts are judged by."""

import numpy as np


def balanced_accuracy(predicted: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """Return the mean over the classes that occur in `truth` of the share found, of int [N] each."""
    recalls = [(predicted[truth == k] == k).mean() for k in range(classes) if (truth == k).any()]
    return float(np.mean(recalls))
