"""`thermapair push`: a finished output as a data set on a hub."""

import click


@click.command("push")
@click.argument("out", metavar="OUT")
@click.option("--repo", required=True, metavar="OWNER/NAME", help="The data set, made where it is not there.")
@click.option(
    "--token", "token_name", default="HF_TOKEN", show_default=True, metavar="NAME", help="Variable that holds it."
)
@click.option("--public", is_flag=True, help="Whether everybody may read a data set that is made now.")
def command(out: str, repo: str, token_name: str, public: bool) -> None:
    """Send a finished output (of any command that writes rows, or of `export`) to the hub at HF_ENDPOINT.

    What is there already is not sent again, so the same command goes on.
    """
    from pipelines.outputs import push

    click.echo(str(push.run(out, repo, token_name, private=not public)))
