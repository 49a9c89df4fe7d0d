"""The doctor finds what is there, says what follows, and fails when a run would."""

import json
import os
import shutil
from pathlib import Path

import boto3
import pytest
import yaml

from cluster import cli
from cluster.commands import doctor
from cluster.doctor import checks, machine
from models.weights.store import ROOT, weights_digest


@pytest.mark.slow
def test_this_machine_has_what_a_run_needs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["doctor", "--json", "--out", str(tmp_path / "new")])
    text = capfd.readouterr().out
    findings = {finding["name"]: finding for finding in json.loads(text[text.index("[\n") :])}
    assert code == 0, [finding for finding in findings.values() if finding["status"] == "missing"]
    assert {"torch", "bf16", "vLLM", "Ray", "onnxruntime", "insightface", "/dev/shm", "Output"} <= findings.keys()
    assert all(finding["found"] and finding["follows"] for finding in findings.values())
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_table_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert cli.main(["doctor", "--out", str(tmp_path / "file" / "below")]) == 2
    assert "A run would fail for want of: Output." in capsys.readouterr().out


def test_local_output_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    finding = checks.storage(str(tmp_path))
    assert finding.status == "ok"
    assert checks.storage(str(tmp_path / "a" / "b" / "new")).status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_what_was_found_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.show([checks.Finding("Output", "/tmp/x[/y] [old]", "[bold]")])
    shown = capsys.readouterr().out
    assert "/tmp/x[/y] [old]" in shown and "[bold]" in shown


@pytest.mark.slow
def test_s3_output_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a real S3 protocol: there, not there."""
    from moto.server import ThreadedMotoServer  # here, for it takes long to import

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="faces")
        assert checks.storage("s3://faces/out").status == "ok"
        absent = checks.storage("s3://no-such-bucket/out")
        assert absent.status == "missing"
        assert "no-such-bucket" in absent.found
    finally:
        server.stop()


def copied(name: str, folder: Path) -> Path:
    """Return a copy of sealed weights of the starter."""
    shutil.copytree(ROOT / "models" / "starter" / name, folder)
    return folder


def test_every_set_of_a_bundle_s_weights_is_looked_at(tmp_path: Path) -> None:
    bundle, parser, vae = tmp_path / "mine.yaml", copied("parser", tmp_path / "parser"), tmp_path / "vae"
    digest = weights_digest(copied("parser", vae))

    def found(**sets: object) -> checks.Finding:
        part = {"kind": "latent-diffusion", "licence": "mit", "weights": {"model": str(parser), **sets}}
        bundle.write_text(yaml.safe_dump({"name": "mine", "size": 64, "parts": {"visible": part}}, sort_keys=False))
        return checks.weights(str(bundle))

    whole = found(vae=str(vae))
    assert (whole.status, whole.follows) == ("ok", "all weights are here and whole")
    assert found(vae={"uri": str(vae), "digest": digest}).status == "ok"
    away = found(vae="s3://faces/vae", unet=f"hub:a/b@{'0' * 40}")
    assert (away.status, away.follows) == ("ok", "a run fetches visible.vae, visible.unet first")
    other = found(vae={"uri": str(vae), "digest": "0" * 15 + "a"})
    assert other.status == "missing" and digest in other.follows
    (vae / "parser.safetensors").write_bytes(b"cut off")
    damaged = found(vae=str(vae))
    assert damaged.status == "missing" and f"{vae}/parser.safetensors is half-written" in damaged.follows
    assert found().status == "ok"


def test_seal_prints_the_digest_that_a_bundle_may_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text("{}")
    digests = []
    for content in ("{}", "[]"):
        (tmp_path / "a.json").write_text(content)
        assert cli.main(["seal", str(tmp_path)]) == 0
        path, said = capsys.readouterr().out.split("  ")
        digests.append(yaml.safe_load(said)["digest"])
        assert path == str(tmp_path / "files.json") and digests[-1] == weights_digest(tmp_path)
    assert len(set(digests)) == 2


def test_unknown_scheme_is_missing() -> None:
    assert checks.storage("nowhere://faces").status == "missing"


def test_a_package_that_does_not_import_is_missing() -> None:
    finding = checks.check_import("Nothing", "no-such-package", "no_such_module", "")
    assert finding.status == "missing"
    assert "no_such_module" in finding.found
    assert "make install" in finding.follows


def test_disk_under_the_minimum_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.disk("Output's disk", str(tmp_path / "not" / "yet")).status == "ok"
    monkeypatch.setattr(checks, "MIN_DISK", machine.free_bytes(tmp_path) * 2)
    assert checks.disk("Output's disk", str(tmp_path)).status == "missing"


def test_container_limits_count(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    assert machine.usable_cores(tmp_path) == cores  # no limits written
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text("1073741824\n")
    assert machine.usable_cores(tmp_path) == 0.5
    assert machine.memory_limit(tmp_path) == 2**30
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.usable_cores(tmp_path) == cores
    assert machine.memory_limit(tmp_path) > 2**30


def test_a_gpu_beside_a_cpu_build_is_seen(tmp_path: Path) -> None:
    assert not machine.has_nvidia(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert machine.has_nvidia(tmp_path)


def test_compiler_is_looked_up_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checks.compiler().found == "none"
    (tmp_path / "g++").write_text("#!/bin/sh\n")
    (tmp_path / "g++").chmod(0o755)
    assert checks.compiler().found == str(tmp_path / "g++")


def test_a_cluster_that_is_gone_and_sockets_without_room_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    finding = checks.ray()
    assert finding.status == "missing" and "127.0.0.1:1 does not answer" in finding.follows
    monkeypatch.delenv("RAY_ADDRESS")
    assert checks.ray().status == "ok"
    monkeypatch.setenv("RAY_TMPDIR", "/" + "t" * 80)
    finding = checks.ray()
    assert finding.status == "missing" and "RAY_TMPDIR=/tmp" in finding.follows
