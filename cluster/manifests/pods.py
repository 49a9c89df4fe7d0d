"""A pod of our images: its size, its health, its secrets by name, where it may be and what it mounts. Alike in all manifests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from models.errors import UserError

FOLDER = "/etc/thermapair"
"""Where pods find the files that their image does not hold."""

CACHE = "/home/ray/.cache"
"""Where the user of the images keeps weights that were fetched."""

USER = 1000
"""The user of the images in cluster/images."""

OBJECTS = 0.3
"""Share of a pod's memory that is Ray's object store, as Ray itself takes by default."""

GPU = "nvidia.com/gpu"
RAYLET = "http://localhost:52365/api/local_raylet_healthz"
GCS = "http://localhost:8265/api/gcs_healthz"
SERVE = "http://localhost:8000/-/healthz"
"""What Ray answers `success` at, with or without a token."""

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """What a manifest needs beside the files: its name, the image, and what every pod has."""

    name: str
    image: str
    environment: dict[str, str] = field(default_factory=dict)
    """Plain variables."""
    secrets: Sequence[str] = ()
    """`SECRET`: all keys of a Kubernetes secret as variables; `NAME=SECRET:KEY`: one of them."""
    files: dict[str, str] = field(default_factory=dict)
    """Name -> text of files to put into `FOLDER`."""
    spot: str = ""
    """`KEY=VALUE`: the label of nodes that the cloud may take back. Stages run there, head and writers do not."""
    cache: str = ""
    """A claim of a volume for `CACHE`, which then outlives the pods; they may share it."""
    volumes: Sequence[str] = ()
    """`CLAIM:/PATH`: further claims, and where all pods mount them."""
    serves: bool = False
    """Whether workers answer HTTP: then they are ready when the service is."""


def pod(name: str, cpus: int, gpus: int, memory_mb: int, setup: Setup, *, spot: bool = False) -> Manifest:
    """Return the template of a pod with one container, `name`, of this size. spot: it may be taken back."""
    # Requests are limits: Ray takes what it sees for its own, and nothing else may have it.
    resources: dict[str, Any] = {"cpu": str(cpus), "memory": f"{memory_mb}Mi"}
    if gpus:
        resources[GPU] = str(gpus)
    named, whole = _secrets(setup.secrets)
    volumes, mounts = _volumes(setup, memory_mb)
    # The container: unprivileged, with the variables, secrets and files of the setup.
    container = {
        "name": name,
        "image": setup.image,
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "env": [*({"name": key, "value": value} for key, value in setup.environment.items()), *named],
        "envFrom": whole,
        "volumeMounts": mounts,
    }
    return {
        "metadata": {"labels": labels(setup)},
        "spec": {
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": volumes,
            **_placement(setup, spot, gpus),
        },
    }  # fmt: skip


def ray_pod(kind: str, cpus: int, gpus: int, memory_mb: int, setup: Setup, *, spot: bool = False) -> Manifest:
    """Return the template of a node of Ray, `kind` being head or worker, with probes of its health."""
    template = pod(f"ray-{kind}", cpus, gpus, memory_mb, setup, spot=spot)
    alive = [RAYLET, GCS] if kind == "head" else [RAYLET]
    ready = [*alive, SERVE] if setup.serves and kind == "worker" else alive
    # Ten minutes to come up, on a node that has just pulled the image; then two to be given up.
    template["spec"]["containers"][0] |= {
        "startupProbe": _probe(alive, every=5, failures=120),
        "livenessProbe": _probe(alive, every=10, failures=12),
        "readinessProbe": _probe(ready, every=10, failures=3),
    }
    # The autoscaler beside the head alone speaks to Kubernetes.
    if kind == "worker":
        template["spec"]["automountServiceAccountToken"] = False
    return template


def object_store(memory_mb: int) -> dict[str, str]:
    """Return the option of `ray start` that sizes the object store of a pod."""
    return {"object-store-memory": str(int(memory_mb * OBJECTS) * 2**20)}


def labels(setup: Setup) -> dict[str, str]:
    """Return the labels of all that a manifest makes."""
    return {"app.kubernetes.io/name": "thermapair", "app.kubernetes.io/instance": setup.name}


def config_map(setup: Setup) -> Manifest:
    """Return the ConfigMap with the files of `setup`."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": setup.name, "labels": labels(setup)},
        "data": setup.files,
    }


def _probe(addresses: Sequence[str], every: int, failures: int) -> Manifest:
    asked = " && ".join(f"wget --tries 1 -T 4 -q -O- {address} | grep success" for address in addresses)
    command = {"exec": {"command": ["bash", "-c", asked]}}
    return {**command, "timeoutSeconds": 5 * len(addresses), "periodSeconds": every, "failureThreshold": failures}


def _volumes(setup: Setup, memory_mb: int) -> tuple[list[Manifest], list[Manifest]]:
    """Return (volumes, mounts) of a pod."""
    # Ray's objects lie in shared memory, which are 64 MB unless it is told. A cache without a claim goes with the pod.
    shared = {"medium": "Memory", "sizeLimit": f"{math.ceil(memory_mb * OBJECTS)}Mi"}
    cache = _claim(setup.cache) if setup.cache else {"emptyDir": {}}
    found: list[tuple[str, str, Manifest]] = [
        ("shm", "/dev/shm", {"emptyDir": shared}),
        ("files", FOLDER, {"configMap": {"name": setup.name}}),
        ("cache", CACHE, cache),
    ]
    for number, volume in enumerate(setup.volumes):
        claim, _, path = volume.partition(":")
        if not claim or not path.startswith("/"):
            raise UserError(f"--volume {volume}: write CLAIM:/PATH, a claim and where all pods mount it.")
        found.append((f"volume-{number}", path, _claim(claim)))
    return (
        [{"name": name, **source} for name, _, source in found],
        [{"name": name, "mountPath": path} for name, path, _ in found],
    )


def _claim(name: str) -> Manifest:
    return {"persistentVolumeClaim": {"claimName": name}}


def _placement(setup: Setup, spot: bool, gpus: int) -> Manifest:
    """Return on which nodes a pod may be."""
    # Nodes with GPUs, and those that the cloud may take back, are usually kept from pods that do not ask for them.
    tolerations = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}] if gpus else []
    place: Manifest = {}
    if setup.spot:
        key, separator, value = setup.spot.partition("=")
        if not separator or not key or not value:
            raise UserError(f"--spot {setup.spot}: write KEY=VALUE, the label of such nodes in your cloud.")
        if spot:
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoSchedule"})
            place["nodeSelector"] = {key: value}
        else:
            terms = [{"matchExpressions": [{"key": key, "operator": "NotIn", "values": [value]}]}]
            required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
            place["affinity"] = {"nodeAffinity": required}
    return {**place, **({"tolerations": tolerations} if tolerations else {})}


def _secrets(names: Sequence[str]) -> tuple[list[Manifest], list[Manifest]]:
    """Return (env entries, envFrom entries) of secrets named `SECRET` or `NAME=SECRET:KEY`."""
    named, whole = [], []
    for name in names:
        variable, separator, place = name.partition("=")
        secret, colon, key = place.partition(":")
        if not separator:
            whole.append({"secretRef": {"name": name}})
        elif colon and variable and secret and key:
            named.append({"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
        else:
            raise UserError(f"--secret {variable}=...: write SECRET, or NAME=SECRET:KEY. Values have no place here.")
    return named, whole
