"""Kernels of scans: chosen by a probe once, kept by a run, refused by name, and what a broken one does then and later."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.errors import UserError
from models.ssm import kernels
from models.weights.bundle import load_bundle
from models.weights.store import ROOT
from pipelines import translate
from pipelines.config.profile import Profile, load_profile
from pipelines.config.request import load_translate
from pipelines.config.translate import TranslateJob, chain_for
from pipelines.plan.translate import write_translate_plan
from pipelines.run.kernels import choose_here, settle_kernels
from pipelines.storage.uri import Storage
from tests.models.ssm import installed
from tests.pipelines import small_translator


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_translator.write_bundle(tmp_path_factory.mktemp("translator"))


def begin(folder: Path, bundle: str, *edits: str) -> str:
    """Plan a translate job of one picture below `folder` in this process, and return its output."""
    images, chosen = small_translator.write_pictures(folder / "images", 1), load_bundle(bundle, edits)
    write_translate_plan(TranslateJob(images=images, size=small_translator.SIDE), chosen, Storage(folder / "out"))
    return str(folder / "out")


def settled(out: str, bundle: str, *edits: str) -> Any:
    """Return the options of the translator that a run in `out` goes on with; nothing may be probed for that."""
    chosen = load_bundle(bundle, edits)
    job = TranslateJob(images="x", size=small_translator.SIDE)

    def check() -> None:
        raise AssertionError("a probe")

    profile: Profile = load_profile("laptop")
    with settle_kernels(chosen, chain_for(job, chosen), profile, Storage(out), check) as found:
        return found.parts["translate"].options


def test_a_run_goes_on_with_the_kernel_that_it_began_with(bundle: str, tmp_path: Path) -> None:
    """Whatever this machine would choose, and without asking it."""
    out = begin(tmp_path, bundle, "translate.options.kernel=mamba_ssm")
    assert settled(out, bundle) == {"kernel": "mamba_ssm"}
    assert settled(out, bundle, "translate.options.kernel=vllm") == {"kernel": "vllm"}  # named: the plan refuses it
    with pytest.raises(UserError, match=r"translate\.options\.kernel: mamba_ssm -> vllm"):
        write_translate_plan(
            TranslateJob(images=str(tmp_path / "images"), size=small_translator.SIDE),
            load_bundle(bundle, ["translate.options.kernel=vllm"]),
            Storage(out),
        )


def test_a_free_output_asks_for_a_probe_and_what_scans_nothing_does_not(bundle: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="a probe"):
        settled(str(tmp_path / "out"), bundle)
    assert settled(str(tmp_path / "out"), bundle, "translate={kind: 'null'}") == {}


def test_a_process_that_translates_itself_says_once_what_it_chose(
    bundle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = load_bundle(bundle)
    found = [choose_here("this one", opened.part("translate"), opened.folder) for _ in range(2)]
    assert {part.options["kernel"] for part in found} == {kernels.choose().name}
    assert capsys.readouterr().out.count("this one: scans by ") == 1


@pytest.mark.slow
def test_a_probe_chooses_and_a_kernel_that_breaks_later_stops_the_run_which_goes_on(
    bundle: str, tmp_path: Path, local_ray: object, capsys: pytest.CaptureFixture[str]
) -> None:
    if not kernels.is_installed("vllm"):
        pytest.skip("vLLM is not installed")
    images, out = small_translator.write_pictures(tmp_path / "images", 3), tmp_path / "out"

    def run(limit: int | None, *edits: str) -> None:
        translate.translate(
            load_translate(images, bundle=bundle, profile="laptop", limit=limit, overrides=edits), str(out)
        )

    # The first picture: a probe says what it chose, and the recipe has it.
    run(1)
    assert capsys.readouterr().out.count("translate: scans by vllm (differs from the torch form by") == 1
    assert kernel_of(out) == "vllm"
    with pytest.raises(UserError, match="kernel: vllm -> torch"):
        run(3, "translate.options.kernel=torch")
    # Where it is broken now the run stops before the next picture, and what is there stays.
    installed.write_vllm(tmp_path)
    kept = {path.name for path in (out / "_commits").iterdir()}
    stopped = command(tmp_path, images, out, bundle)
    assert stopped.returncode == 75, stopped.stderr
    assert "scan kernel vllm failed" in stopped.stderr and "--set translate.options.kernel=torch" in stopped.stderr
    assert {path.name for path in (out / "_commits").iterdir()} == kept
    # Repaired, it goes on, and asks no probe.
    run(None)
    assert "scans by" not in capsys.readouterr().out and len(list((out / "_commits").iterdir())) > len(kept)


@pytest.mark.slow
def test_a_kernel_that_is_broken_at_the_choice_is_said_once_and_torch_taken(bundle: str, tmp_path: Path) -> None:
    images, out = small_translator.write_pictures(tmp_path / "images", 1), tmp_path / "out"
    installed.write_vllm(tmp_path)
    done = command(tmp_path, images, out, bundle)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("translate: scans by torch (vllm is installed and not used: ") == 1
    assert kernel_of(out) == "torch" and "1 translations of 1 pictures" in done.stdout


def kernel_of(out: Path) -> str:
    """Return the kernel in the recipe of a run."""
    (stage,) = json.loads((out / "_plan" / "run.json").read_text())["recipe"]["stages"]
    return str(stage["options"]["kernel"])


def command(broken: Path, images: str, out: Path, bundle: str) -> subprocess.CompletedProcess[str]:
    """Run `thermapair translate` with the packages of `broken` before those that are installed."""
    words = ["translate", "--images", images, "--out", str(out), "--bundle", bundle]
    path = os.pathsep.join([str(broken), str(ROOT)])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_ADDRESS")}
    return subprocess.run(
        [sys.executable, "-m", "cluster", *words],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
