"""The configuration for Ray's launcher against Ray's own schema, and the machines that it asks for."""

from typing import Any

import pytest
import yaml

from cluster import cli
from cluster.manifests.launcher import MACHINES
from pipelines.config.profile import load_profile


def launched(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert cli.main(["manifest", "launcher", "--image", "registry.example/thermapair:cuda", *words]) == 0
    return dict(yaml.safe_load(capsys.readouterr().out))


def test_ray_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    found = launched(capsys, "--name", "pairs", "--region", "eu-central-1")
    filled = prepare_config(found)
    validate_config(filled)
    assert filled["provider"]["region"] == "eu-central-1"
    assert filled["available_node_types"]["head"]["resources"] == {"CPU": 0}
    with pytest.raises(Exception, match="min_workrs"):
        validate_config({**filled, "min_workrs": 1})


def test_machines_fit_the_groups_and_only_stages_may_be_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    groups = "profile.groups=[{stages: [visible], gpus: 4, cpus: 4, actors: [1, 32]}, {stages: [faces], cpus: 2, actors: [1, 9]}]"
    types = launched(capsys, "--set", groups, "--spot", "aws")["available_node_types"]
    assert set(types) == {"head", "visible", "faces", "io"}
    assert (
        types["visible"]["node_config"]["InstanceType"] == "g5.12xlarge" and types["visible"]["resources"]["GPU"] == 4
    )
    assert types["faces"]["max_workers"] == 9 and "GPU" not in types["faces"]["resources"]
    assert types["faces"]["labels"] == {"thermapair.io/group": "faces"}
    spot = {name for name, one in types.items() if "InstanceMarketOptions" in one["node_config"]}
    assert spot == {"visible", "faces"}
    for group in load_profile("cluster").groups:
        cores, _, gpus = MACHINES[launched(capsys)["available_node_types"]["portrait"]["node_config"]["InstanceType"]]
        assert cores >= group.cpus and gpus >= group.gpus
    assert cli.main(["manifest", "launcher"]) == 2
    assert (
        cli.main(
            ["manifest", "launcher", "--image", "r.io/t:1", "--set", "profile.groups=[{stages: [visible], gpus: 64}]"]
        )
        == 2
    )
    assert "no machine is known with" in capsys.readouterr().err
