"""Jobs on a cluster through Ray's Jobs API: submit, follow, stop, and the exit code that follows from how one ended."""

import asyncio
import logging
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from models.errors import EnvironmentFault, UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

STOP_SECONDS = 30
"""How long a stopped job may take to drop what is in flight and release its output; Ray's own 3 s cut that off."""
RECONNECTS = 10
"""Broken connections in a row after which a job's log is given up."""
RESUMABLE = 75
"""Exit code of what the same command resumes."""


def connect(address: str) -> "JobSubmissionClient":
    """Return a client of the cluster whose dashboard answers at `address`; an EnvironmentFault if none does."""
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray.dashboard").setLevel(logging.ERROR)
    try:
        return JobSubmissionClient(address)
    except Exception as error:  # ConnectionError, HTTPError, RuntimeError: each means the same to the user
        reason = str(error).strip().splitlines()
        raise EnvironmentFault(
            f"no Ray cluster answers at {address} ({reason[0] if reason else type(error).__name__}). --address is its "
            "dashboard, as in http://HEAD:8265; kubectl port-forward brings one here."
        ) from None


@contextmanager
def cluster(address: str) -> Iterator["JobSubmissionClient"]:
    """Give a block the client of the cluster at `address`; a cluster that goes away inside is one message, too."""
    from requests.exceptions import RequestException

    client = connect(address)
    try:
        yield client
    except RequestException as error:
        raise EnvironmentFault(f"the Ray cluster at {address} does not answer any more ({error}).") from error


def submit(
    client: "JobSubmissionClient",
    words: Sequence[str],
    *,
    out: str,
    excludes: Sequence[str],
    environment: Mapping[str, str],
    needs: Sequence[str],
    python: str,
) -> str:
    """Submit `thermapair` with `words` and return the job's id.

    needs: names of variables that the cluster's nodes must have; the job ends at once, naming them, where they have not.

    Raises:
        UserError: a job that writes to `out` is running or waiting.
    """
    from models.weights.store import ROOT
    from pipelines.run.provenance import COMMIT, commit_of

    # Two jobs of one output would only wait for each other's lease.
    for job in list_jobs(client):
        if out and (job.metadata or {}).get("out") == out and not job.status.is_terminal():
            raise UserError(
                f"job {job.submission_id} already writes to {out}. Watch it: thermapair jobs follow {job.submission_id}"
            )
    # The same words, with the code beside them; Ray gives a stopped job less time than a run needs unless it is told.
    command = [python, "-m", "cluster", *(word for name in needs for word in ("--needs", name)), *words]
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), COMMIT: commit_of(), **environment}
    try:
        return client.submit_job(
            entrypoint=shlex.join(command),
            submission_id=f"{words[0]}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}",
            runtime_env={"working_dir": str(ROOT), "excludes": list(excludes), "env_vars": variables},
            metadata={"thermapair": shlex.join(words), "out": out, "secrets": " ".join(needs)},
        )
    except (RuntimeError, ValueError) as error:
        raise EnvironmentFault(f"the cluster did not take the job: {str(error).strip().splitlines()[-1]}") from error


def list_jobs(client: "JobSubmissionClient") -> list["JobDetails"]:
    """Return the jobs that `submit` made, the newest first."""
    jobs = [job for job in client.list_jobs() if "thermapair" in (job.metadata or {})]
    return sorted(jobs, key=lambda job: job.start_time or 0, reverse=True)


def details(client: "JobSubmissionClient", job: str) -> "JobDetails":
    """Return what the cluster knows of `job`; a UserError if there is none of that id."""
    try:
        return client.get_job_info(job)
    except RuntimeError as error:
        raise UserError(f"no job {job!r} on this cluster ({str(error)[:200]}); `thermapair jobs` lists them.") from None


def follow(client: "JobSubmissionClient", job: str) -> int:
    """Print the log of `job` from its beginning until it ends, and return its exit code.

    A connection that breaks is made again and goes on where it broke. Ctrl-C leaves the job alone (exit code 130).
    """
    details(client, job)
    shown = failures = 0
    # The log while it grows; how much of it is shown is remembered over connections that break.
    try:
        while not details(client, job).status.is_terminal():
            try:
                shown = asyncio.run(_tail(client, job, shown))
                failures = 0
            except Exception as error:
                failures += 1
                if failures > RECONNECTS:
                    raise EnvironmentFault(
                        f"the cluster does not answer any more ({error}); the job may well go on: thermapair jobs follow {job}"
                    ) from error
            time.sleep(min(0.5 * 2**failures, 30))
        # What was written after the last look.
        click.echo(client.get_job_logs(job)[shown:], nl=False)
    except KeyboardInterrupt:
        click.echo(f"\nLeft {job}, which goes on: thermapair jobs follow {job}, or stop it: jobs stop {job}", err=True)
        return 130
    return exit_code(details(client, job))


async def _tail(client: "JobSubmissionClient", job: str, shown: int) -> int:
    """Print what the log holds beyond its first `shown` characters while it grows; return how many it has."""
    seen = 0
    async for text in client.tail_job_logs(job):
        seen += len(text)
        if seen > shown:
            click.echo(text[-(seen - shown) :], nl=False)
            shown = seen
    return shown


def exit_code(job: "JobDetails") -> int:
    """Return what the command itself would have returned; 75 for a job that was stopped, or lost with its node."""
    if job.status == "SUCCEEDED":
        return 0
    # Stopped by somebody, or lost with its node: nothing is wrong with the command.
    if job.status == "STOPPED":
        click.echo(f"Stopped {job.submission_id}: finished work is kept; submit the same words to resume.", err=True)
        return RESUMABLE
    if job.driver_exit_code is None:
        lines = (job.message or "no reason was given").strip().splitlines()
        click.echo(f"Lost {job.submission_id}: {lines[0]}. Submit the same words to resume.", err=True)
        return RESUMABLE
    # Its own exit code; what a signal ended counts as a shell counts it.
    return job.driver_exit_code if job.driver_exit_code > 0 else 128 - job.driver_exit_code


def stop(client: "JobSubmissionClient", job: str) -> str:
    """Ask `job` to stop, wait until it has, and return its status."""
    details(client, job)
    client.stop_job(job)
    limit = time.monotonic() + 2 * STOP_SECONDS
    while not (status := client.get_job_status(job)).is_terminal():
        if time.monotonic() > limit:
            raise EnvironmentFault(f"job {job} was asked to stop and has not yet; look again: thermapair jobs")
        time.sleep(0.5)
    return str(status.value)
