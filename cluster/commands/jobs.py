"""`thermapair jobs`: what was submitted to a cluster."""

import time

import click

from cluster.commands import options


@click.group("jobs", invoke_without_command=True)
@options.address
@click.pass_context
def command(context: click.Context, address: str) -> None:
    """List the jobs of a cluster, follow one, stop one."""
    context.obj = address
    if context.invoked_subcommand:
        return
    from cluster.submission import ray_jobs

    with ray_jobs.cluster(address) as client:
        for job in ray_jobs.list_jobs(client):
            began = time.strftime("%Y-%m-%d %H:%M", time.localtime((job.start_time or 0) / 1000))
            click.echo(f"{job.submission_id}  {job.status.value:9}  {began}  {(job.metadata or {})['thermapair']}")


@command.command("follow")
@click.argument("job")
@click.pass_obj
def follow(address: str, job: str) -> int:
    """Show the log of JOB until it ends, and return its exit code. Ctrl-C leaves it alone."""
    from cluster.submission import ray_jobs

    with ray_jobs.cluster(address) as client:
        return ray_jobs.follow(client, job)


@command.command("stop")
@click.argument("job")
@click.pass_obj
def stop(address: str, job: str) -> None:
    """Stop JOB. Finished work is kept: submitting the same words resumes it."""
    from cluster.submission import ray_jobs

    with ray_jobs.cluster(address) as client:
        click.echo(f"{job} {ray_jobs.stop(client, job)}")
