"""`thermapair manifest`: what `kubectl apply`, or Slurm's `sbatch`, takes."""

import json
from typing import Any

import click

from cluster.commands import options
from cluster.submission import working_dir


@click.command("manifest", context_settings={"allow_interspersed_args": True})
@click.argument(
    "kind", type=click.Choice(["rayjob", "rayservice", "raycluster", "job", "launcher", "slurm", "grafana"])
)
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
@click.option(
    "--spot", default="", metavar="KEY=VALUE", help="Label of nodes that may be taken back: stages run there."
)
@click.option("--cache", default="", metavar="CLAIM", help="Volume claim for fetched weights; a pod's own by default.")
@click.option("--volume", "volumes", multiple=True, metavar="CLAIM:/PATH", help="Volume claim that all pods mount.")
@click.option("--region", default="us-east-1", show_default=True, help="Of AWS, for a launcher.")
@click.option("--nodes", "count", default=1, show_default=True, type=click.IntRange(min=1), help="Of a slurm job.")
@click.option("--cpus", default=8, show_default=True, type=click.IntRange(min=1), help="Of a node of a slurm job.")
@click.option("--gpus", default=0, show_default=True, type=click.IntRange(min=0), help="Of a node of a slurm job.")
@click.option(
    "--time", default="24:00:00", show_default=True, help="After which Slurm ends the job and sends it again."
)
@click.option(
    "--sbatch", "options", multiple=True, metavar="OPTION", help="Further option of sbatch: --sbatch=--partition=gpu."
)
@click.option(
    "--setup", multiple=True, metavar="LINE", help="Line of shell before all: --setup 'source .venv/bin/activate'."
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(context: click.Context, kind: str, bundle: str, words: tuple[str, ...], **values: Any) -> None:
    """Print a KubeRay manifest: a run with a cluster of its own, the service, or a cluster to submit to; a Kubernetes job; a
    script for Slurm; machines for Ray's launcher; or a dashboard for Grafana.

    A rayjob generates, or runs the command after --: thermapair manifest rayjob -- thermalize --images s3://... --out s3://...
    A launcher is what `ray up` takes: machines of AWS as a cluster to submit to.
    A job runs a command that needs no cluster, in one pod: thermapair manifest job --volume CLAIM:/data -- evaluate ...
    A slurm job runs the command after -- on its nodes, and goes on after its time is over.
    """
    import yaml

    from cluster.manifests import render
    from cluster.manifests.grafana import dashboard

    # A command after -- is checked as `submit` does it, and its bundle is the one whose weights the pods need.
    group = context.find_root().command
    assert isinstance(group, click.Group)
    slurm = {name: values.pop(name) for name in ("count", "cpus", "gpus", "time", "options", "setup")}
    if kind == "slurm":
        click.echo(_batch_script(group, words, values, slurm), nl=False)
        return
    region = values.pop("region")
    if kind == "launcher":
        given = {name: values[name] for name in ("profile", "overrides", "name", "image", "spot")}
        click.echo(yaml.safe_dump(render.launcher_of(region=region, **given), sort_keys=False), nl=False)
        return
    if kind == "grafana":
        click.echo(json.dumps(dashboard(values["name"]), indent=1))
        return
    if kind == "job":
        bundle = working_dir.parse_alone(group, words).get("bundle") or bundle
    elif words:
        if kind != "rayjob" or values["out"]:
            raise click.UsageError("a command after -- is for a rayjob, and says its own --out")
        bundle = working_dir.parse_words(group, words).get("bundle") or bundle
    documents = render.documents(kind, bundle, words=words, **values)
    click.echo(yaml.safe_dump_all(documents, sort_keys=False), nl=False)


def _batch_script(group: click.Group, words: tuple[str, ...], values: dict[str, Any], slurm: dict[str, Any]) -> str:
    """Return the script of a slurm job for the command after --."""
    from cluster.manifests.slurm import Nodes, batch_script

    if values["secrets"]:
        raise click.UsageError("--secret is Kubernetes'; a slurm job has the variables of who sends it")
    params = working_dir.parse_command(group, words)[1]
    # A command that names no profile gets the manifest's: a laptop's would leave the nodes idle.
    if "profile" in params and not any(word.partition("=")[0] == "--profile" for word in words):
        words = (*words, "--profile", values["profile"])
    return batch_script(values["name"], Nodes(**slurm), words, working_dir.plain_environment(values["env"]))
