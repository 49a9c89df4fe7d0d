"""Packages of kernels that are there and do not work, or work for a while: real ones on the path, which the code finds itself."""

import sys
from pathlib import Path

import pytest

from models.ssm import kernels

MODULE = "ssd_combined"
RIGHT = """
from pathlib import Path

from models.ssm import scan


def mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size, D=None):
    if Path(__file__).with_name("worn").exists():
        raise ValueError("no such instruction")
    return scan.ssd(x, dt, A, B, C, D)
"""
WRONG = """
def mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size, D=None):
    return x
"""


def write_mamba_ssm(folder: Path, code: str) -> Path:
    """Write a package of the authors' name whose scan is `code`, and return where that lies."""
    inner = folder / "mamba_ssm" / "ops" / "triton"
    inner.mkdir(parents=True)
    (inner / f"{MODULE}.py").write_text(code)
    return inner


def write_vllm(folder: Path) -> Path:
    """Write a package of vLLM's name whose libraries are no libraries, and return its folder."""
    home = folder / "vllm"
    home.mkdir()
    (home / "__init__.py").touch()
    for variant in ("_C", "_C_AVX512", "_C_AVX2"):
        (home / f"{variant}.abi3.so").write_bytes(b"half of a library")
    return home


def install(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Put the packages of `folder` before those that are installed, until `patch` is undone."""
    patch.syspath_prepend(folder)
    # What is imported already is forgotten, and what is imported from here on is when `patch` is undone.
    inner = [name for name in sys.modules if name.partition(".")[0] in ("mamba_ssm", "vllm")]
    for name in {"mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton", f"mamba_ssm.ops.triton.{MODULE}", *inner}:
        patch.setitem(sys.modules, name, sys)
        del sys.modules[name]
    patch.setattr(kernels, "vllm_operator", kernels.vllm_operator.__wrapped__)  # what was found before is forgotten
