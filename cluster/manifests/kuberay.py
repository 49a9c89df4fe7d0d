"""KubeRay 1.7 manifests, rendered from bundle, job and profile.

Every stage group of the profile gets a worker group of its own: as many pods as the group may have actors, each with what
one actor asks for, and a label that the group's actors select. A group of plain CPU nodes reads and writes. Workers start
when the autoscaler finds work for them and go when they idle. Secrets are named, never written.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import yaml

from cluster.manifests.pods import FOLDER, Manifest, Setup, labels, object_store, ray_pod
from models.errors import UserError
from pipelines.config.profile import Group, Profile

LABEL = "thermapair.io/group"

CPU_NODE = 8
"""Cores of a node that reads and writes."""

MEMORY_MB = 8192
"""For an actor whose group says nothing."""

NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
MOST_LETTERS = 47
"""KubeRay's limit on the name of what it runs: it makes the names of services and pods from it (DNS-1035 labels)."""


def check_name(name: str) -> None:
    """Raise a UserError, with a name that would do, for one that KubeRay refuses."""
    if NAME.fullmatch(name) and len(name) <= MOST_LETTERS:
        return
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    fitting = re.sub(r"^(?![a-z])", "run-", plain)[:MOST_LETTERS].rstrip("-")
    raise UserError(
        f"--name {name}: KubeRay takes at most {MOST_LETTERS} lower-case letters, digits and hyphens, a letter first and no "
        f"hyphen last. Say --name {fitting}."
    )


def label_groups(profile: Profile, stages: Sequence[str]) -> Profile:
    """Return the profile with the groups that run `stages`, in order, each selecting the nodes of its own worker group."""
    # A group is called by the first stage that the profile names in it: others may have joined before that one.
    named = {stage for group in profile.groups for stage in group.stages}
    groups = []
    for group in profile.assign(stages):
        name = next((stage for stage in group.stages if stage in named), group.stages[0])
        groups.append(group.model_copy(update={"labels": {LABEL: name, **group.labels}}))
    return profile.model_copy(update={"groups": groups})


def ray_cluster(profile: Profile, setup: Setup) -> Manifest:
    """Return a RayCluster for `profile`, as `label_groups` made it."""
    return {**_header("RayCluster", setup), "spec": cluster_spec(profile, setup)}


def ray_job(profile: Profile, setup: Setup, words: Sequence[str], deadline: int = 7 * 86400) -> Manifest:
    """Return a RayJob that runs `thermapair` with `words` on a cluster of its own.

    A job that fails for want of something (a lost head node, storage) starts again and resumes; `deadline` in seconds.
    """
    import shlex

    # The cluster goes when the job ends; a job that is stopped gets the time that a run needs to release its output.
    spec = {
        "entrypoint": shlex.join(["thermapair", *words]),
        "submissionMode": "K8sJobMode",
        "backoffLimit": 3,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "activeDeadlineSeconds": deadline,
        "runtimeEnvYAML": yaml.safe_dump({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "30"}}),
        "rayClusterSpec": cluster_spec(profile, setup),
    }
    return {**_header("RayJob", setup), "spec": spec}


def ray_service(profile: Profile, setup: Setup, config: str) -> Manifest:
    """Return a RayService that serves `config`, the Serve configuration of `thermapair serve --config-out`."""
    from pipelines.run.session import SERVE  # imports Ray

    setup = dataclasses.replace(setup, environment={**SERVE, **setup.environment}, serves=True)
    spec = {
        "serveConfigV2": config,
        "serviceUnhealthySecondThreshold": 900,
        "deploymentUnhealthySecondThreshold": 900,
        "rayClusterConfig": cluster_spec(profile, setup),
    }
    return {**_header("RayService", setup), "spec": spec}


def cluster_spec(profile: Profile, setup: Setup) -> Manifest:
    """Return the spec of a cluster that grows with what `profile` asks for: RayCluster's, and part of a job's or service's."""
    # A worker group for each stage group, one that reads and writes, and a head that computes nothing.
    workers = [_stage_workers(group, profile, setup) for group in profile.groups]
    return {
        "rayVersion": version("ray"),
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": 120,
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "resources": {name: {"cpu": "500m", "memory": "512Mi"} for name in ("requests", "limits")},
        },
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            # No stage on the head: it holds the driver and the cluster's state, and losing it loses the run's minutes.
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0", **object_store(MEMORY_MB)},
            "template": ray_pod("head", 4, 0, MEMORY_MB, setup),
        },
        "workerGroupSpecs": [*workers, _io_workers(profile, setup)],
    }


def _stage_workers(group: Group, profile: Profile, setup: Setup) -> Manifest:
    """Return the worker group of one stage group: a pod an actor, large enough for an engine of the captions, too."""
    # What one actor asks for. Engines of the captions run on the same nodes where both use GPUs: a pod fits either.
    cpus, gpus, count = group.cpus, math.ceil(group.gpus), group.actors[1]
    if group.gpus and profile.captions.gpus:
        cpus, gpus = max(cpus, profile.captions.cpus), max(gpus, math.ceil(profile.captions.gpus))
        count = max(count, profile.captions.engines + group.actors[0])  # engines beside the first actors
    memory = math.ceil((group.memory_mb or MEMORY_MB) * 1.6)  # Ray counts what the object store leaves, less a tenth
    # No pod until the autoscaler finds work for it.
    return {
        "groupName": group.labels[LABEL],
        "replicas": 0,
        "minReplicas": 0,
        "maxReplicas": count,
        "labels": group.labels,
        "rayStartParams": object_store(memory),
        "template": ray_pod("worker", max(1, math.ceil(cpus)), gpus, memory, setup, spot=True),
    }


def _io_workers(profile: Profile, setup: Setup) -> Manifest:
    """Return the worker group for plans, captions on CPUs, encoding and writing."""
    # As many nodes as the tasks that read and write and, without GPUs, the caption engines need.
    captions = 0 if profile.captions.gpus else profile.captions.engines * profile.captions.cpus
    cores = profile.writer.tasks * profile.writer.cpus + captions + 2  # two for the tasks that read
    return {
        "groupName": "io",
        "replicas": 1,
        "minReplicas": 1,
        "maxReplicas": max(1, math.ceil(cores / CPU_NODE)),
        "labels": {LABEL: "io"},
        "rayStartParams": object_store(4 * MEMORY_MB),
        "template": ray_pod("worker", CPU_NODE, 0, 4 * MEMORY_MB, setup),
    }


def _header(kind: str, setup: Setup) -> Manifest:
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": {"name": setup.name, "labels": labels(setup)}}


def file_words(option: str, name: str, known: Path) -> tuple[list[str], dict[str, str]]:
    """Return (words, files): `option` with a name that the image knows, or with a file that travels in the ConfigMap."""
    if (known / f"{name}.yaml").is_file():
        return [option, name], {}
    try:
        text = Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{option} {name}: neither a name of {known.name}/ nor a file that can be read ({error})."
        ) from None
    target = f"{option.removeprefix('--')}.yaml"
    return [option, f"{FOLDER}/{target}"], {target: text}
