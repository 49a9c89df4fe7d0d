"""`thermapair seal`: say which files a folder of weights consists of."""

from pathlib import Path

import click


@click.command("seal")
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def command(folders: tuple[Path, ...]) -> None:
    """Write files.json into each folder of weights (size and SHA-256 of every file) and print its digest.

    A bundle takes sealed folders alone, so that half a download is noticed before a run and not by its pictures. Where it
    says `weights: {model: {uri: ..., digest: ...}}`, other bytes are refused.
    """
    from models.weights.store import seal, weights_digest

    for folder in folders:
        click.echo(f'{seal(folder)}  digest: "{weights_digest(folder)}"')
