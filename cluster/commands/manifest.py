"""`thermapair manifest`: what `kubectl apply` takes."""

from typing import Any

import click

from cluster.commands import options
from cluster.submission import working_dir


@click.command("manifest", context_settings={"allow_interspersed_args": True})
@click.argument("kind", type=click.Choice(["rayjob", "rayservice", "raycluster"]))
@options.bundle
@options.job("What to make, or a request's rest.", default="pairs")
@click.option(
    "--profile", default="cluster", show_default=True, metavar="NAME|FILE", help="Sizes of the worker groups."
)
@options.overrides
@click.option("--out", metavar="URI", help="Where a rayjob writes: s3://, or a path that every node mounts.")
@click.option("--name", default="thermapair", show_default=True, help="Name of what is made.")
@click.option(
    "--image", help="Image of all pods.  [default: thermapair:cuda with GPUs in the profile, else thermapair:cpu]"
)
@options.secrets("SECRET|NAME=SECRET:KEY", "Secret whose keys pods get.")
@options.env("Plain variable of all pods.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(context: click.Context, kind: str, bundle: str, words: tuple[str, ...], **values: Any) -> None:
    """Print a KubeRay manifest: a run with a cluster of its own, the service, or a cluster to submit to.

    A rayjob generates, or runs the command after --: thermapair manifest rayjob -- thermalize --images s3://... --out s3://...
    """
    import yaml

    from cluster.manifests import render

    # A command after -- is checked as `submit` does it, and its bundle is the one whose weights the pods need.
    group = context.find_root().command
    assert isinstance(group, click.Group)
    if words:
        if kind != "rayjob" or values["out"]:
            raise click.UsageError("a command after -- is for a rayjob, and says its own --out")
        bundle = working_dir.parse_words(group, words).get("bundle") or bundle
    documents = render.documents(kind, bundle, words=words, **values)
    click.echo(yaml.safe_dump_all(documents, sort_keys=False), nl=False)
