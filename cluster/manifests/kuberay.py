"""KubeRay 1.7 manifests, rendered from bundle, job and profile.

Every stage group of the profile gets a worker group of its own: as many pods as the group may have actors, each with what
one actor asks for, and a label that the group's actors select. A group of plain CPU nodes reads and writes. Workers start
when the autoscaler finds work for them and go when they idle. Secrets are named, never written.
"""

import dataclasses
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import yaml

from cluster.manifests.pods import FOLDER, Manifest, Setup, labels, object_store, ray_pod
from cluster.manifests.sizes import HEAD, LABEL, stage_size, writer_size
from models.errors import UserError
from pipelines.config.profile import Group, Profile

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
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0", **object_store(HEAD.memory_mb)},
            "template": ray_pod("head", HEAD.cpus, 0, HEAD.memory_mb, setup),
        },
        "workerGroupSpecs": [*workers, _io_workers(profile, setup)],
    }


def _stage_workers(group: Group, profile: Profile, setup: Setup) -> Manifest:
    """Return the worker group of one stage group: a pod an actor, large enough for an engine of the captions, too."""
    size = stage_size(group, profile)
    # No pod until the autoscaler finds work for it.
    return {
        "groupName": group.labels[LABEL],
        "replicas": 0,
        "minReplicas": 0,
        "maxReplicas": size.most,
        "labels": group.labels,
        "rayStartParams": object_store(size.memory_mb),
        "template": ray_pod("worker", size.cpus, size.gpus, size.memory_mb, setup, spot=True),
    }


def _io_workers(profile: Profile, setup: Setup) -> Manifest:
    """Return the worker group for plans, captions on CPUs, encoding and writing."""
    size = writer_size(profile)
    return {
        "groupName": "io",
        "replicas": 1,
        "minReplicas": 1,
        "maxReplicas": size.most,
        "labels": {LABEL: "io"},
        "rayStartParams": object_store(size.memory_mb),
        "template": ray_pod("worker", size.cpus, 0, size.memory_mb, setup),
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
