"""`thermapair manifest`: what `kubectl apply` takes."""

from typing import Any

import click

from cluster.commands import options
from cluster.submission import working_dir as travel


@click.command("manifest", context_settings={"allow_interspersed_args": True})
@click.argument("kind", type=click.Choice(["rayjob", "rayservice", "raycluster"]))
@options.bundle
@click.option(
    "--job", default="pairs", show_default=True, metavar="NAME|FILE", help="What to make, or a request's rest."
)
@click.option(
    "--profile", default="cluster", show_default=True, metavar="NAME|FILE", help="Sizes of the worker groups."
)
@options.overrides
@click.option("--out", metavar="URI", help="Where a rayjob writes: s3://, or a path that every node mounts.")
@click.option("--name", default="thermapair", show_default=True, help="Name of what is made.")
@click.option(
    "--image", help="Image of all pods.  [default: thermapair:cuda with GPUs in the profile, else thermapair:cpu]"
)
@click.option(
    "--secret", "secrets", metavar="SECRET|NAME=SECRET:KEY", multiple=True, help="Secret whose keys pods get."
)
@click.option("--env", metavar="NAME[=VALUE]", multiple=True, help="Plain variable of all pods.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    context: click.Context,
    kind: str,
    bundle: str,
    job: str,
    profile: str,
    overrides: tuple[str, ...],
    out: str | None,
    name: str,
    image: str | None,
    secrets: tuple[str, ...],
    env: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    """Print a KubeRay manifest: a run with a cluster of its own, the service, or a cluster to submit to.

    A rayjob generates, or runs the command after --: thermapair manifest rayjob -- thermalize --images s3://... --out s3://...
    """
    import yaml

    from cluster.manifests import render

    group = context.find_root().command
    assert isinstance(group, click.Group)
    if words:
        if kind != "rayjob" or out:
            raise click.UsageError("a command after -- is for a rayjob, and says its own --out")
        bundle = travel.parsed(group, words)[1].get("bundle") or bundle
    documents: list[dict[str, Any]] = render.documents(
        kind,
        bundle,
        job,
        profile,
        overrides=overrides,
        out=out,
        name=name,
        image=image,
        secrets=secrets,
        env=env,
        words=words,
    )
    click.echo(yaml.safe_dump_all(documents, sort_keys=False), nl=False)
