"""Run the batch script for Slurm on this machine, which plays two nodes: `python -m tests.benchmarks.slurm_two_nodes`.

`srun` and `scontrol` are played by scripts; Ray, its token, both nodes, the run and its signals are real. The run is warned as
Slurm warns it, has to exit with 75 and to be sent again, and the same script then has to finish it. It takes 90 seconds.
"""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cluster.manifests.slurm import Nodes, batch_script
from models.weights.store import ROOT

SRUN = """#!/bin/bash
nodes=1
while [[ $1 == --* ]]; do [[ $1 == --nodes=* ]] && nodes=${1#*=}; shift; done
[[ $1 == hostname ]] && exec echo 127.0.0.1
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
    binaries = Path(sys.executable).parent
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": f"{folder}:{binaries}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(os.getpid() % 19000),
        "SLURM_JOB_NODELIST": "[one-two]",
        "REQUEUED": str(folder / "requeued"),
    }


def main() -> None:
    """Run, warn, run again; raises where anything is not as it should be."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    environment, out, job = play_slurm(folder), folder / "out", folder / "job.sbatch"
    words = ["generate", "--bundle", "null", "--job", "demo", "--set", "captions=template", "--out", str(out)]
    job.write_text(batch_script("pairs", Nodes(2, 2, 0, "60"), words, {}))
    # Slurm's warning comes while the run goes on: it is sent again.
    began = time.monotonic()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["bash", str(job)], env=environment, stdout=log, stderr=log, cwd=ROOT)
        while not (out / "_plan" / "run.json").exists() and process.poll() is None:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        code = process.wait(180)
    assert code == 75, (folder / "log").read_text()
    assert (folder / "requeued").read_text() == f"requeued {environment['SLURM_JOB_ID']}\n"
    print(f"warned: exit code 75, sent again; {time.monotonic() - began:.0f} s")
    # The same script goes on, and ends.
    began = time.monotonic()
    done = subprocess.run(["bash", str(job)], env=environment, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Local node IP") == 2, done.stdout
    assert (out / "manifest.json").exists()
    print(f"again: finished on two nodes; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
