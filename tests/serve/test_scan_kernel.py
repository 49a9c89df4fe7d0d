"""The kernel of a service's translator: chosen where its replicas will run, before any of them starts."""

import json
from pathlib import Path

import pytest

from models.ssm import kernels
from models.weights.store import seal
from serve.app import Settings, settle
from serve.pairs_request import served_chain
from tests.models.translation.tiny import write_part


@pytest.mark.slow
def test_all_replicas_get_the_kernel_that_a_probe_chose(
    local_ray: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = write_part(tmp_path)
    seal(part)
    own = {"kind": "latent-diffusion", "weights": str(part), "licence": "apache-2.0"}
    settings = Settings(bundle="null", overrides=["captions=template", f"bundle.parts.translate={json.dumps(own)}"])
    request = settle(settings.load(), [])
    name = kernels.choose().name
    assert capsys.readouterr().out.count(f"translate: scans by {name} (") == 1
    link = served_chain(request.chain, request.bundle).link("translate")
    assert link.part.options == {"kernel": name} and link.load(1).parts.translator is not None  # type: ignore[attr-defined]
