"""A cluster of virtual machines on AWS for Ray's own launcher: `ray up` takes it, `thermapair submit` sends jobs to it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from cluster.manifests.sizes import HEAD, LABEL, Size, stage_size, writer_size
from models.errors import UserError
from pipelines.config.profile import Profile

MACHINES = {
    "m6i.xlarge": (4, 16, 0),
    "m6i.2xlarge": (8, 32, 0),
    "m6i.4xlarge": (16, 64, 0),
    "m6i.8xlarge": (32, 128, 0),
    "g5.xlarge": (4, 16, 1),
    "g5.2xlarge": (8, 32, 1),
    "g5.4xlarge": (16, 64, 1),
    "g5.8xlarge": (32, 128, 1),
    "g5.12xlarge": (48, 192, 4),
    "g5.48xlarge": (192, 768, 8),
}
"""AWS's general machines and those with A10G GPUs: name -> cores, GB of memory, GPUs; of equal GPUs the smallest first."""
DISK_GB = 200
START = "ray stop; ulimit -n 65536; ray start --disable-usage-stats"


def launcher(name: str, profile: Profile, image: str, region: str, spot: bool) -> dict[str, Any]:
    """Return the configuration of a cluster that grows with what `profile`, as `sizes.label_groups` made it, asks for.

    spot: whether stages run on machines that may be taken back; head and writers never do. Raises UserError for a group that no
    machine of ours fits.
    """
    # A machine type for each stage group and one that reads and writes, beside a head that computes nothing.
    types = {"head": _node(HEAD._replace(most=0), {}, resources={"CPU": 0})}
    for group in profile.groups:
        types[group.labels[LABEL]] = _node(stage_size(group, profile), group.labels, spot=spot)
    types["io"] = _node(writer_size(profile), {LABEL: "io"}, least=1)
    return {
        "cluster_name": name,
        "max_workers": sum(one["max_workers"] for one in types.values()),
        "idle_timeout_minutes": 5,
        "provider": {"type": "aws", "region": region, "cache_stopped_nodes": False},
        "auth": {"ssh_user": "ubuntu"},
        # Ray sizes shared memory for its objects by itself, and finds GPUs.
        "docker": {"image": image, "container_name": "thermapair", "pull_before_run": True,
                   "run_options": ["--ulimit nofile=65536:65536"]},
        "available_node_types": types,
        "head_node_type": "head",
        "head_start_ray_commands": [
            f"{START} --head --port=6379 --num-cpus=0 --dashboard-host=0.0.0.0 --autoscaling-config=~/ray_bootstrap_config.yaml"
        ],
        "worker_start_ray_commands": [f"{START} --address=$RAY_HEAD_IP:6379"],
    }  # fmt: skip


def _node(
    size: Size,
    labels: Mapping[str, str],
    *,
    least: int = 0,
    resources: Mapping[str, int] = MappingProxyType({}),
    spot: bool = False,
) -> dict[str, Any]:
    """Return a type of machine. Ray finds out what one has, but the autoscaler has to know before there is one."""
    machine = _fit(size)
    cores, _, gpus = MACHINES[machine]
    disk = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": DISK_GB, "VolumeType": "gp3"}}]
    config: dict[str, Any] = {"InstanceType": machine, "BlockDeviceMappings": disk}
    if spot:
        config["InstanceMarketOptions"] = {"MarketType": "spot"}
    found = {"CPU": cores, **({"GPU": gpus} if gpus else {}), **resources}
    return {
        "resources": found,
        "labels": dict(labels),
        "min_workers": least,
        "max_workers": size.most,
        "node_config": config,
    }


def _fit(size: Size) -> str:
    for name, (cores, gigabytes, gpus) in MACHINES.items():
        enough = cores >= size.cpus and gigabytes * 1024 >= size.memory_mb
        if enough and (gpus >= size.gpus if size.gpus else not gpus):
            return name
    raise UserError(
        f"no machine is known with {size.cpus} cores, {size.memory_mb} MB of memory and {size.gpus} GPUs, as a group of the "
        f"profile asks for; known: {', '.join(MACHINES)}"
    )
