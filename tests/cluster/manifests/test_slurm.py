"""The batch script for Slurm: what it asks for, and what is refused. `tests.benchmarks.slurm_two_nodes` runs its body."""

import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster import cli
from cluster.manifests.slurm import Nodes, batch_script
from models.errors import UserError

RUN = ["generate", "--bundle", "null", "--out", "/scratch/my pairs"]


def script(*words: str) -> str:
    answer = CliRunner().invoke(cli.cli, ["manifest", "slurm", *words], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_what_is_asked_of_slurm_comes_first_and_words_stay_words() -> None:
    lines = script(
        "--nodes", "3", "--gpus", "4", "--cpus", "32", "--time", "12:00:00", "--name", "pairs", "--sbatch=--partition=gpu",
        "--setup", "module load cuda", "--env", "HF_HOME=/scratch/a b", "--", *RUN,
    ).splitlines()  # fmt: skip
    asked = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    assert lines[1 : 1 + len(asked)] == [f"#SBATCH {one}" for one in asked]  # after any other line Slurm reads no more
    assert {"--nodes=3", "--gpus-per-node=4", "--cpus-per-task=32", "--time=12:00:00", "--job-name=pairs"} <= set(asked)
    assert {"--partition=gpu", "--requeue", "--signal=B:TERM@180"} <= set(asked)
    # The shell takes the words apart as they were; a command without a profile gets the cluster's.
    head = "\n".join(line for line in lines[: lines.index("set -euo pipefail")] if line != "module load cuda")
    shown = subprocess.run(
        ["bash", "-c", f'{head}\nprintf "%s\\n" "${{WORDS[@]}}" "$HF_HOME" "$CPUS $GPUS"'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.splitlines() == ["thermapair", *RUN, "--profile", "cluster", "/scratch/a b", "32 4"]
    assert lines.index("module load cuda") < lines.index("set -euo pipefail")


def test_the_script_is_shell_and_has_no_gpus_where_none_are_asked_for(tmp_path: Path) -> None:
    text = script("--", *RUN, "--profile", "laptop")
    assert "gpus-per-node" not in text and text.count("--profile") == 1
    (tmp_path / "job.sbatch").write_text(text)
    subprocess.run(["bash", "-n", tmp_path / "job.sbatch"], check=True)
    if checker := shutil.which("shellcheck"):
        subprocess.run([checker, "--severity=warning", tmp_path / "job.sbatch"], check=True)


def test_what_would_not_run_is_refused() -> None:
    with pytest.raises(UserError, match="Slurm takes minutes"):
        batch_script("a", Nodes(1, 1, 0, "tomorrow"), RUN, {})
    with pytest.raises(UserError, match="line break"):
        batch_script("a", Nodes(1, 1, 0, "60"), ["generate", "--out", "a\nrm -rf b"], {})
    run = CliRunner()
    assert "after -- comes what to run" in str(run.invoke(cli.cli, ["manifest", "slurm"]).exception)
    assert "Kubernetes'" in run.invoke(cli.cli, ["manifest", "slurm", "--secret", "s3", "--", *RUN]).output
