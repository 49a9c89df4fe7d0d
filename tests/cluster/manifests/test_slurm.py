"""The batch script for Slurm: what it asks for, and its body run on this machine with a Slurm of two nodes played."""

import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster import cli
from cluster.manifests.slurm import BODY, Nodes, batch_script
from models.errors import UserError
from models.weights.store import ROOT

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
        subprocess.run([checker, tmp_path / "job.sbatch"], check=True)


def test_what_would_not_run_is_refused() -> None:
    with pytest.raises(UserError, match="Slurm takes minutes"):
        batch_script("a", Nodes(1, 1, 0, "tomorrow"), RUN, {})
    with pytest.raises(UserError, match="line break"):
        batch_script("a", Nodes(1, 1, 0, "60"), ["generate", "--out", "a\nrm -rf b"], {})
    run = CliRunner()
    assert "after -- comes what to run" in str(run.invoke(cli.cli, ["manifest", "slurm"]).exception)
    assert "Kubernetes'" in run.invoke(cli.cli, ["manifest", "slurm", "--secret", "s3", "--", *RUN]).output


SRUN = """#!/bin/bash
nodes=1
while [[ $1 == --* ]]; do [[ $1 == --nodes=* ]] && nodes=${1#*=}; shift; done
for ((k = 1; k < nodes; k++)); do "$@" & done
exec "$@"
"""
SCONTROL = """#!/bin/bash
[[ $1 == show ]] && printf '%s\\n' one two
[[ $1 == requeue ]] && echo "requeued $2" >> "$REQUEUED"
exit 0
"""


def play_slurm(folder: Path) -> dict[str, str]:
    """Write commands of a Slurm whose two nodes are this machine, and return the environment of a job there."""
    for name, content in (("srun", SRUN), ("scontrol", SCONTROL)):
        path = folder / name
        path.write_text(content)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    # `thermapair` and `ray` of this environment.
    binaries = Path(os.environ.get("VIRTUAL_ENV", ROOT / ".venv")) / "bin"
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": f"{folder}:{binaries}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(os.getpid() % 19000),
        "SLURM_JOB_NODELIST": "[one-two]",
        "REQUEUED": str(folder / "requeued"),
    }


@pytest.mark.soak
def test_a_job_makes_its_pairs_on_two_nodes_and_is_sent_again_when_its_time_is_over(tmp_path: Path) -> None:
    environment, out = play_slurm(tmp_path), tmp_path / "out"
    words = ["generate", "--bundle", "null", "--job", "demo", "--set", "captions=template", "--out", str(out)]
    job = tmp_path / "job.sbatch"
    job.write_text(batch_script("pairs", Nodes(2, 2, 0, "60"), words, {}))
    # Slurm's warning comes while the run goes on: it is sent again.
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(["bash", str(job)], env=environment, stdout=log, stderr=log, cwd=ROOT)
        until = time.monotonic() + 180
        while not (out / "_plan" / "run.json").exists() and time.monotonic() < until and process.poll() is None:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        code = process.wait(120)
    said = (tmp_path / "log").read_text()
    assert code == 75, said
    assert (tmp_path / "requeued").read_text() == f"requeued {environment['SLURM_JOB_ID']}\n"
    # The same script goes on, and ends.
    done = subprocess.run(["bash", str(job)], env=environment, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (out / "manifest.json").exists()
    assert BODY.read_text() in job.read_text()
