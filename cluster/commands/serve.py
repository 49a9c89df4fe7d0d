"""`thermapair serve`: the service on this machine, or the configuration that a cluster takes."""

from pathlib import Path

import click

from cluster.commands import options


@click.command("serve")
@options.bundle
@options.profile
@options.job("What requests leave open: settings, gates.")
@options.overrides
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option(
    "--config-out", type=click.Path(dir_okay=False, path_type=Path), help="Write the Serve config and start nothing."
)
def command(
    bundle: str, profile: str, job: str, overrides: tuple[str, ...], host: str, port: int, config_out: Path | None
) -> None:
    """Answer HTTP with a bundle until Ctrl-C.

    Only this machine may ask, unless the environment variable THERMAPAIR_API_KEY holds a key. --config-out writes the
    file that `serve deploy` and a RayService take.
    """
    from pipelines.config.request import load_request

    load_request(bundle, profile, job, overrides)  # a wrong one is refused before Ray is imported
    from serve import app

    # The file that a cluster takes, or the service itself until it is stopped.
    settings = app.Settings(bundle=bundle, profile=profile, job=job, overrides=list(overrides))
    if config_out:
        text = app.config_text(settings, host, port)
        config_out.parent.mkdir(parents=True, exist_ok=True)
        config_out.write_text(text, encoding="utf-8")
        click.echo(config_out)
        return
    from serve import run

    run.serve_until_stopped(settings, host, port)
