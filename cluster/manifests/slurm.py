"""A batch script for Slurm: Ray on the nodes of a job, and one of our commands in it."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import UserError

BODY = Path(__file__).with_suffix(".sh")
WARNING = 180
"""Seconds before the end of a job at which Slurm warns the run, which then keeps what is finished."""
TIME = re.compile(r"(\d+-)?\d+(:\d+){0,2}")
"""What Slurm takes for a time: minutes, minutes:seconds, hours:minutes:seconds, days-hours..."""


@dataclass(frozen=True)
class Nodes:
    """What a job asks of Slurm. cpus, gpus: of a node. options: further ones of sbatch, as `--partition=gpu`. setup: lines of
    shell that make `thermapair` and `ray` be found."""

    count: int
    cpus: int
    gpus: int
    time: str
    options: Sequence[str] = ()
    setup: Sequence[str] = ()


def batch_script(name: str, nodes: Nodes, words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the script that `sbatch` takes. words: of our command, options and all. environment: plain variables of all nodes.

    Raises UserError for a time that Slurm does not take, or a word that would be another line.
    """
    if not TIME.fullmatch(nodes.time):
        raise UserError(f"--time {nodes.time}: Slurm takes minutes, H:M:S or D-H:M:S, as 24:00:00.")
    if any("\n" in word for word in (name, *words, *nodes.options, *environment.values())):
        raise UserError("a line break in a name, a word or a variable would end its line of the script")
    # What Slurm reads: it stops at the first line that is not its own.
    asked = [
        f"--job-name={name}",
        f"--nodes={nodes.count}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={nodes.cpus}",
        *([f"--gpus-per-node={nodes.gpus}"] if nodes.gpus else []),
        f"--time={nodes.time}",
        f"--signal=B:TERM@{WARNING}",
        "--requeue",
        "--open-mode=append",
        *nodes.options,
    ]
    # What the shell sets, every word quoted, before the body that is the same for all jobs.
    given = [f"export {variable}={shlex.quote(value)}" for variable, value in environment.items()]
    command = " ".join(shlex.quote(word) for word in ("thermapair", *words))
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in asked),
        *nodes.setup,
        *given,
        f"CPUS={nodes.cpus} GPUS={nodes.gpus}",
        f"WORDS=({command})",
    ]
    return "\n".join(lines) + "\n\n" + BODY.read_text(encoding="utf-8")
