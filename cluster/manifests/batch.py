"""A Kubernetes Job for commands that run in one process: evaluations, measurements, merges, and whatever needs no Ray cluster."""

import math
from collections.abc import Sequence

from cluster.manifests.pods import Manifest, Setup, labels, pod
from pipelines.config.profile import Profile

RETRIES = 6
"""How often a pod that failed is started again, lost ones and those that can resume apart."""
MEMORY_MB = 16384
"""For a profile whose first group says nothing."""
USAGE, RESUMABLE = 2, 75
"""Exit codes: wrong words, which fail again; stopped with work kept, which goes on."""


def job(profile: Profile, setup: Setup, words: Sequence[str], deadline: int = 7 * 86400) -> Manifest:
    """Return a Job that runs `thermapair` with `words` in a pod as large as an actor of the profile's first group; `deadline` in
    seconds.

    A pod that is taken away, or whose command exits as resumable, costs no retry; words that are wrong end it at once.
    """
    group = profile.groups[0]
    memory = math.ceil((group.memory_mb or MEMORY_MB) * 1.6)
    gpus = math.ceil(group.gpus)
    template = pod("thermapair", max(2, math.ceil(group.cpus)), gpus, memory, setup, spot=True)
    template["spec"]["containers"][0]["command"] = ["thermapair", *words]
    template["spec"] |= {"restartPolicy": "Never", "automountServiceAccountToken": False}

    def codes(*values: int) -> Manifest:
        return {"operator": "In", "containerName": "thermapair", "values": list(values)}

    rules = [
        {"action": "FailJob", "onExitCodes": codes(USAGE)},
        {"action": "Ignore", "onExitCodes": codes(RESUMABLE)},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": setup.name, "labels": labels(setup)},
        "spec": {
            "backoffLimit": RETRIES,
            "activeDeadlineSeconds": deadline,
            "ttlSecondsAfterFinished": 86400,
            "podReplacementPolicy": "Failed",  # one writer at a time
            "podFailurePolicy": {"rules": rules},
            "template": template,
        },
    }
