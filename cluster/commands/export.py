"""`thermapair export`: rows of an output in a format that others read."""

import click

from cluster.commands import options
from cluster.submission.working_dir import RayCommand


@click.command("export", cls=RayCommand)
@options.data("Any output with rows: of generate, thermalize, translate, gather or world.")
@options.out
@click.option(
    "--format",
    "name",
    required=True,
    type=click.Choice(["webdataset", "images", "hf"]),
    help="Tar shards, a folder of pictures with metadata.jsonl, or a data set of a hub.",
)
@click.option(
    "--split",
    "splits",
    default="train,validation,test",
    show_default=True,
    metavar="NAMES",
    callback=options.split_names,
    help="Which splits, by person.",
)
@options.local
@options.profile
@options.overrides
def command(
    data: str, out: str, name: str, splits: list[str], local: bool, profile: str, overrides: tuple[str, ...]
) -> None:
    """Write the rows of an output as WebDataset shards, as pictures, or as Parquet by split with a card.

    The shards of `generate` are Parquet that `datasets` loads as it lies; this is for what does not read them, and for a hub that
    shows splits (`thermapair push` sends it there). The same command resumes.
    """
    from pipelines import export

    click.echo(str(export.run(data, out, name, splits, profile=profile, overrides=overrides, local=local)))
