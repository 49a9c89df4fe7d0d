"""`thermapair submit`: the words of a local run, on a cluster."""

import click

from cluster.commands import options
from cluster.submission import working_dir


@click.command("submit", context_settings={"allow_interspersed_args": False})
@options.address
@click.option(
    "--detach", is_flag=True, help="Print the job's id and return; `thermapair jobs follow ID` shows its log."
)
@options.secrets("NAME", "Variable that the cluster's nodes must have.")
@options.env("Variable to send along; everyone can read it there.")
@click.option("--python", default="python", show_default=True, help="Python on the cluster's head node.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    context: click.Context,
    address: str,
    detach: bool,
    secrets: tuple[str, ...],
    env: tuple[str, ...],
    python: str,
    words: tuple[str, ...],
) -> int:
    """Run `thermapair WORDS` on a cluster: thermapair submit -- generate --out s3://bucket/pairs ...

    The four rooms and the bundle's weights travel along. The log is shown until the job ends, and its exit code returned;
    Ctrl-C only stops the showing. Submitting the same words again resumes what was stopped.
    """
    # What is wrong with the words or the environment is said before the cluster is asked.
    group = context.find_root().command
    assert isinstance(group, click.Group)
    params = working_dir.parse_words(group, words)
    environment = working_dir.plain_environment(env)
    from cluster.submission import ray_jobs

    with ray_jobs.cluster(address) as client:
        job = ray_jobs.submit(
            client,
            words,
            out=str(params.get("out") or ""),
            excludes=working_dir.excludes(params.get("bundle") or None),
            environment=environment,
            needs=secrets,
            python=python,
        )
        # The id comes first, so that a script can read it; then the log, until the job ends.
        click.echo(job)
        return 0 if detach else ray_jobs.follow(client, job)
