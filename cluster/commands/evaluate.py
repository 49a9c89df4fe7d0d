"""`thermapair evaluate`: published tables measured anew, by a fixed recipe and into a ledger."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cluster.commands import options

_ledger = click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the ledger and the tables; a folder that has some goes on.",
)


def _tables(names: str) -> Callable[[Any], Any]:
    """Return the option that chooses among an evaluation's tables."""
    help = f"Only these: {names}.  [default: all]"
    return click.option("--tables", metavar="A,B", default="", callback=options.split_names, help=help)


@click.group("evaluate")
def command() -> None:
    """Measure published tables with our own parts, baselines, controls and intervals."""


@command.command("tfake")
@_ledger
@_tables("baselines, weight, loss, landmarks, gap, controls, minmax, reached")
@click.option("--data", metavar="URI", default="", help="Rows that stand in for the rendered test people of `field`.")
@options.reader
@options.threads("Threads of this process.", default=1)
@options.overrides
def tfake(
    out: Path, tables: list[str], data: str, published: options.Published, threads: int, overrides: tuple[str, ...]
) -> None:
    """T-FAKE's tables: landmarks on thermal faces, the RGB2Thermal loss term by term, over the gap between domains.

    Every row is trained by one small recipe on the synthetic world and read on people nobody was trained on. A killed run
    goes on where it was; --set seeds=[0,1,2,3] adds a seed, --set generated=[2] reads the loss and the baselines at
    twice the training size too. Another recipe is never mixed in.
    """
    from pipelines import evaluate
    from pipelines.evaluation.sources import test_split

    field = options.gather_first(data, published, out)
    edits = [f"field={field}"] if field else []
    if published.reader and (split := test_split(field, published.reader)):
        edits.append(f"field_split={split}")
    evaluate.run(out, [*overrides, *edits], tables, threads)
    click.echo((out / "tables.md").read_text(encoding="utf-8"))


@command.command("faceclip")
@click.option("--encoder", required=True, metavar="DIR", help="What `train faceclip` wrote, with its heads.")
@click.option("--towers", required=True, metavar="DIR", help="What `train faceclip_clip` wrote.")
@click.option("--data", required=True, metavar="URI", help="Pictures with landmarks and attributes to train on.")
@options.bundle
@_ledger
@_tables("embedding, pictures")
@options.threads("Threads of this process.", default=1)
@options.overrides
def faceclip(
    encoder: str,
    towers: str,
    data: str,
    bundle: str,
    out: Path,
    tables: list[str],
    threads: int,
    overrides: tuple[str, ...],
) -> None:
    """FaceCLIP's claim: identity and text through one embedding, beside an adapter, text alone, and parts taken away.

    One small U-Net is trained in every way alike, and draws people whom nobody was trained on; judges read who is shown and what.
    A killed run goes on where it was; --set people=200 adds people, --set seeds=[0,1] trains again.
    """
    from pipelines.evaluation.faceclip import bench

    bench.run(out, encoder, towers, data, bundle, overrides, tables, threads)
    click.echo((out / "tables.md").read_text(encoding="utf-8"))


@command.command("lapig")
@options.bundle
@_ledger
@_tables("pairs, degrees, people")
@click.option("--data", metavar="URI", default="", help="Read these pairs in place of made ones: any output of ours.")
@options.reader
@options.threads("Threads of this process.", default=1)
@options.overrides
def lapig(
    bundle: str,
    out: Path,
    tables: list[str],
    data: str,
    published: options.Published,
    threads: int,
    overrides: tuple[str, ...],
) -> None:
    """Pairs of a bundle: who is shown, in what pose, of which words, whether the halves agree, degrees, diversity and speed.

    Made of people of the synthetic world and read by judges, beside baselines, and with one thing taken away at a time. A killed
    run goes on where it was; --set people=200 adds people. --set thermal.weights=FOLDER edits the bundle.
    """
    from pipelines.evaluation.lapig import bench, given
    from pipelines.evaluation.sources import test_split

    if tables and data:
        raise click.UsageError("--tables chooses among what is made; of --data all is read that can be: leave one out")
    if rows := options.gather_first(data, published, out):
        split = test_split(rows, published.reader) if published.reader else None
        given.run(out, rows, bundle, overrides, threads, split)
    else:
        bench.run(out, bundle, overrides, tables, threads)
    click.echo((out / "tables.md").read_text(encoding="utf-8"))


@command.command("translation")
@options.bundle
@_ledger
@click.option(
    "--data", required=True, metavar="URI", help="Pairs of test people, two views each at least: any output of ours."
)
@options.reader
@options.threads("Threads of this process.", default=1)
@options.overrides
def translation(
    bundle: str, out: Path, data: str, published: options.Published, threads: int, overrides: tuple[str, ...]
) -> None:
    """Translators side by side: who is found by what they make of thermal pictures, and what else is read of it.

    The bundle's own stands beside the raw thermal picture, the true visible one, itself told nothing and told the truth; others
    by --set attention=[FOLDER,FOLDER], regression, mamba, interleaved, multi_scale, two_stage: a folder for each seed. A killed
    run goes on where it was; --set people=200 adds people.
    """
    from pipelines.evaluation.translators import bench

    rows = options.gather_first(data, published, out)
    bench.run(out, rows, bundle, overrides, threads, reader=published.reader)
    click.echo((out / "tables.md").read_text(encoding="utf-8"))


def _rows(text: str, generated: str) -> Callable[[Any], Any]:
    """Return the options that name rows of an evaluation of what pairs are worth; text: of lab people's, generated: of ours."""
    help_test = "Rows of test people, two views each at least.  [default: --data's of split test]"

    def add(function: Any) -> Any:
        for name, help in (
            ("--field", "Rows of test people of another camera and room."),
            ("--test", help_test),
            ("--renders", "Pairs that `world` rendered, in the place of generated ones."),
            ("--generated", generated),
            ("--data", text),
        ):
            function = click.option(name, metavar="URI", default="", help=help)(function)
        return options.reader(function)

    return add


@command.command("hfr")
@_rows("Pairs of lab people to train on.", "Pairs that `generate` made.")
@click.option("--translated", metavar="URI", default="", help="Pairs that `translate` made of thermal pictures.")
@_ledger
@_tables("grid, sources, identities")
@options.threads("Threads of this process.", default=1)
@options.overrides
def hfr(
    out: Path, tables: list[str], published: options.Published, threads: int, overrides: tuple[str, ...], **uris: str
) -> None:
    """What pairs are worth: a recogniser adapted to thermal probes with few lab people and many generated pairs.

    Beside renders, plain augmentation, a translator's pairs and the recogniser as it is, and by the number of people at equal
    pairs. A killed run goes on where it was; --set people=[0,10,50] and pairs=[0,1000] say how many, seeds=[0,1] adds a seed.
    """
    from pipelines.evaluation.hfr import bench
    from pipelines.evaluation.sources import Inputs, by_published_splits

    uris["data"] = options.gather_first(uris["data"], published, out)
    inputs = Inputs(**uris)
    chosen = by_published_splits(inputs, published.reader) if published.reader else inputs
    bench.run(out, chosen, overrides, tables, threads)
    click.echo((out / "tables.md").read_text(encoding="utf-8"))


@command.command("landmarks")
@_rows(
    "Annotated thermal frames of lab people to train on.",
    "Pictures with thermal ones that `thermalize` or `generate` made.",
)
@_ledger
@_tables("grid, sources")
@options.threads("Threads of this process.", default=1)
@options.overrides
def landmarks(
    out: Path, tables: list[str], published: options.Published, threads: int, overrides: tuple[str, ...], **uris: str
) -> None:
    """What generated thermal pictures are worth: a landmarker trained on few lab frames with and without them.

    Beside renders and plain augmentation of as many pictures. A killed run goes on where it was; --set frames=[0,50,500] and
    pairs=[0,1000] say how many, seeds=[0,1] adds a seed.
    """
    from pipelines.evaluation.landmarking import bench
    from pipelines.evaluation.sources import Inputs, by_published_splits

    uris["data"] = options.gather_first(uris["data"], published, out)
    inputs = Inputs(**uris)
    chosen = by_published_splits(inputs, published.reader) if published.reader else inputs
    bench.run(out, chosen, overrides, tables, threads)
    click.echo((out / "tables.md").read_text(encoding="utf-8"))
