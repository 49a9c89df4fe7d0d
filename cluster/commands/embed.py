"""`thermapair embed`: a folder of face pictures becomes a Parquet file of identities."""

import click

from cluster.commands import options
from cluster.submission.working_dir import RayCommand


@click.command("embed", cls=RayCommand)
@options.images("Folder of pictures, searched with its subfolders.")
@click.option("--out", required=True, metavar="URI", help="Parquet file to write; `generate` takes it as identities.")
@click.option(
    "--person",
    default="",
    metavar="SPEC",
    help="Who is shown: folder:LEVEL or pattern:REGEX on the path; a person's pictures become one identity.  "
    "[default: each picture is one]",
)
@click.option(
    "--outlier",
    default=0.2,
    show_default=True,
    type=click.FloatRange(-1, 1),
    help="Cosine to a person's other pictures below which a picture is left out of --person's average.",
)
@click.option(
    "--reference",
    is_flag=True,
    help="Also write each face as a picture, cut as FFHQ's, for a bundle with a reference adapter.",
)
@click.option("--crop", is_flag=True, help="Also write each face as FaceCLIP reads it, with --consent and --licence.")
@click.option("--consent", default="", metavar="TEXT", help="What the people agreed to, a column beside the crops.")
@click.option("--licence", default="", metavar="TEXT", help="Of the pictures, a column beside the crops.")
@click.option("--modality", default="visible", show_default=True, type=click.Choice(["visible", "thermal"]),
              help="What the pictures show; thermal ones need a recogniser that was adapted to them (train hfr).")  # fmt: skip
@options.unit("", "Of thermal pictures; without it they give contrast alone.")
@options.bundle
@options.profile
@options.overrides
def command(
    images: str,
    out: str,
    person: str,
    outlier: float,
    reference: bool,
    crop: bool,
    consent: str,
    licence: str,
    modality: str,
    unit: str,
    bundle: str,
    profile: str,
    overrides: tuple[str, ...],
) -> None:
    """Detect, align and embed the faces in a folder of pictures.

    Every picture gets a row: those with no face, several faces or that cannot be read say so instead of being dropped.
    """
    from models.temperature import parse_unit
    from pipelines import embed

    summary = embed.run(
        images,
        out,
        person=person,
        outlier=outlier,
        reference=reference,
        crop=crop,
        consent=consent,
        licence=licence,
        modality=modality,
        unit=parse_unit(unit) if unit else None,
        bundle=bundle,
        profile=profile,
        overrides=overrides,
    )
    click.echo(str(summary))
    click.echo(out)
