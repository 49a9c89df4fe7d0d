"""What a wrong request is told, and that neither torch nor Ray is waited for: generate, thermalize, serve, inspect --chain."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from PIL import Image

from cluster import cli
from models.weights.bundle import load_bundle
from models.weights.store import ROOT
from pipelines.config.job import load_job
from pipelines.config.thermalize import ThermalizeJob
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.thermalize import write_thermalize_plan
from pipelines.storage.uri import Storage

HEAVY = {"torch", "ray", "diffusers", "transformers", "pyarrow", "fsspec", "filelock"}
STAGE_NAMES = "visible, parser, thermal, translate, faces, gates, landmarks"

SCRIPT = """
import contextlib, io, json, sys
from cluster.cli import main
told = []
for args in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code = main(args)
    told.append([code, said.getvalue(), sorted(name for name in sys.modules if "." not in name)])
print(json.dumps(told))
"""


class Told(NamedTuple):
    code: int
    text: str
    heavy: set[str]


def ask(requests: list[list[str]]) -> list[Told]:
    """Return what each of `requests` was told by one process, and what it had imported by then that takes its time."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return [Told(code, text, HEAVY & set(names)) for code, text, names in json.loads(done.stdout.splitlines()[-1])]


# Edit of the files -> what the message has to name, the wrong thing first and then what is known.
FILES: dict[str, tuple[str, ...]] = {
    "profile.writer.task=3": ("writer.task", "cpus, tasks, threads"),
    "thermal.stage=thermall": ("'thermall'", STAGE_NAMES),
    "profile.groups=[{stages: [visibel]}]": ("'visibel'", STAGE_NAMES),
    "thermal.kind=unett": ("'unett'", "unet, room-unet, latent-diffusion, null"),
    "thermall.weights=/x": ("'thermall'", "captions, visible, parser, thermal, faces, landmarks"),
    "visible.weights.vea=/x": ("weights.vea", "model, unet, encoder, vae, tokenizer, scheduler"),
    "visible.options.caption=false": ("options.caption", "captions"),
    "thermal.settings.steps=4": ("thermal.settings.steps", "unknown key"),
    "settings.visibel.steps=2": ("'visibel'", STAGE_NAMES),
    "settings.thermal.steps=4": ("settings.thermal.steps", "unknown key"),
    "parts.thermal=nobody": ("'nobody'", "thermal"),
    "conditions=[tropical]": ("'tropical'", "warm, cold"),
    "conditions=[Warm]": ("'Warm'", "degrees Celsius"),
    "conditions=[22.5]": ("'22.5'", "warm, cold"),
    "samples=2": ("samples has to be 1",),
}
JOB: dict[str, tuple[str, ...]] = {
    "identities.cuont=3": ("identities.cuont", "count, minimum_angle, sampling, source"),
    "nonsense=1": ("'nonsense'", "identities", "profile", "parts"),
    "sampling.steps=4": ("'sampling'", "settings"),
    "captions=templat": ("'templat'", "'llm', 'template' or 'chat'"),
    "captions.kind=templat": ("'templat'", "vllm, template"),
    "captions.kind=llama": ("'llama'", "vllm, template"),
    "captions.options.topp=1": ("options.topp", "top_p"),
    "profile.groups=[{stages: [visible]}, {stages: [parser, thermal, faces, gates]}]": ("gates.attempts=1", "visible"),
    "profile.groups=[{stages: [visible], threads: 2}]": ("threads", "threads: 1"),
    "settings.gates.identity=0.3": ("settings.gates", "gates"),
    "settings.visible.scheduler=heun": ("settings.visible.scheduler", "'folder', 'dpm++2m'"),
    "settings.visible={scheduler: lcm, steps: 60}": ("lcm takes 1 to 50 steps, not 60",),
    "views.yaw=95": ("yaw 95 is beyond", "-90 to 90"),
}
ARGUMENTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("--condition", "tropical"): ("'tropical'", "warm, cold"),
    ("--condition", "warm,22.5"): ("'22.5'", "warm, cold"),
    ("--condition", "warm,warm"): ("different conditions",),
    ("--person", "floder:1"): ("'floder:1'", "folder:LEVEL", "pattern:REGEX", "column:NAME"),
    ("--person", "pattern:("): ("'('", "no regular expression"),
    ("--samples", "3"): ("samples has to be 1",),
    ("--size", "100"): ("size", "multiple of 32"),
    ("--layout", "sejong"): ("'sejong'", "'record', 'tfake'"),
    ("--bundle", "startr"): ("'startr'", "null, published, starter"),
    ("--profile", "lapptop"): ("'lapptop'", "laptop"),
}
WORDS = {
    "generate": ["generate", "--out", "nowhere"],
    "serve": ["serve", "--config-out", "nowhere/serve.yaml"],
    "thermalize": ["thermalize", "--images", "nowhere", "--out", "nowhere"],
}


def test_a_wrong_request_is_refused_by_name_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "models" / "starter" / "bundle.yaml").read_text())
    for part in content["parts"].values():
        part["weights"] = f"{ROOT}/models/starter/{part['weights']}"
    del content["parts"]["thermal"]
    without = tmp_path / "without.yaml"
    without.write_text(yaml.safe_dump(content))
    requests: list[tuple[list[str], tuple[str, ...]]] = []
    for name, words in WORDS.items():
        edits = FILES if name == "thermalize" else FILES | JOB
        requests += [([*words, "--set", edit], named) for edit, named in edits.items()]
        requests.append(([*words, "--bundle", str(without)], ("column thermal", "bundle starter")))
    requests += [([*WORDS["thermalize"], *given], named) for given, named in ARGUMENTS.items()]
    for (words, named), told in zip(requests, ask([words for words, _ in requests]), strict=True):
        assert told.code == 2, (words, told.text)
        assert all(text in told.text for text in named), (words, told.text)
        assert not told.heavy, words


def test_a_right_request_is_resolved_without_anything_heavy_and_ray_comes_after(tmp_path: Path) -> None:
    """What the test above looks for is found where it is: after a right request."""
    vae = f"visible.weights.vae={ROOT}/models/starter/visible"
    known, right = ask(
        [
            ["inspect", "--chain", "--set", vae],
            ["thermalize", "--images", str(ROOT / "no-such"), "--out", str(tmp_path / "out")],
        ]
    )
    assert (known.code, known.heavy) == (0, set())
    assert right.code == 2 and "no-such does not exist" in right.text
    assert {"ray", "pyarrow", "fsspec"} <= right.heavy
    assert "torch" not in right.heavy  # a driver has no use for it, nor has a worker that plans or writes


def test_edits_reach_each_set_of_weights() -> None:
    for edits in (["visible.weights.vae=near/vae"], ["parts.visible.weights.vae=near/vae"]):
        weights = load_bundle("starter", edits).parts["visible"].weights
        assert weights["vae"].uri == str(Path("near/vae").absolute()) and weights["model"].uri == "visible"
    named = load_bundle("starter", ["visible.weights.model.digest=ab01"]).parts["visible"].weights["model"]
    assert (named.uri, named.digest) == ("visible", "ab01")
    new = ["judge.kind=insightface", "judge.stage=faces", "judge.licence=mit", "judge.weights=s3://b/judge"]
    assert load_bundle("starter", new).parts["judge"].stage == "faces"


def chain(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, str]:
    """Return what `inspect --chain` says of each stage."""
    capsys.readouterr()
    assert cli.main(["inspect", "--chain", *args]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line.split(" ")[0].rstrip(":"): line for line in lines}


def test_the_chain_of_files_follows_from_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    stages = chain(capsys, "--bundle", "starter", "--out", str(tmp_path / "not-there"))
    assert list(stages) == ["source", "visible", "parser", "thermal", "faces", "gates", "landmarks"]
    assert "classes from parser" in stages["thermal"] and "part thermal, unet" in stages["thermal"]
    assert "caption" in stages["visible"]
    assert "caption" not in chain(capsys, "--set", "visible.options.captions=false")["visible"]
    assert "part landmarks, null" in chain(capsys, "--bundle", "null", "--job", "pairs")["landmarks"]


def test_the_chain_of_an_output_is_that_of_its_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bundle = load_bundle("null")
    job = load_job("demo", ["identities.count=1", "identities.minimum_angle=0"])
    write_generate_plan(job, bundle, Storage(tmp_path / "pairs"))
    assert chain(capsys, "--out", str(tmp_path / "pairs")) == chain(capsys, "--bundle", "null")

    (tmp_path / "photos").mkdir()
    for name in ("a.png", "a_seg.png"):
        Image.new("L" if "seg" in name else "RGB", (64, 64)).save(tmp_path / "photos" / name)
    for masks in ("", str(tmp_path / "photos")):
        out = tmp_path / f"thermal-{bool(masks)}"
        asked: dict[str, Any] = {"images": str(tmp_path / "photos"), "masks": masks, "size": 64}
        plan = write_thermalize_plan(ThermalizeJob(**asked), bundle, Storage(out))
        stages = chain(capsys, "--out", str(out))
        assert "\n".join(stages.values()) == str(plan.chain)
        assert ("classes" in stages["source"]) == bool(masks)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "name a PAIR_ID"),
        (["0a"], "--out OUT"),
        (["--chain"], "--chain needs --out OUT, or"),
        (["0a", "--chain", "--out", "x"], "leave out PAIR_ID"),
        (["0a", "--out", "x", "--bundle", "starter"], "belong to --chain"),
        (["0a", "--out", "x", "--set", "gates.attempts=1"], "belong to --chain"),
        (["--chain", "--out", "x"], "holds no run"),
    ],
)
def test_inspect_says_what_is_missing(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", *args]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
