"""Options that several subcommands share."""

import click

address = click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    default="http://127.0.0.1:8265",
    show_default=True,
    metavar="URL",
    help="The cluster's dashboard; also from RAY_API_SERVER_ADDRESS.",
)

overrides = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change one value by its path, as in --set thermal.weights=FOLDER or profile.ray.cpus=4; may be repeated.",
)
out = click.option("--out", required=True, metavar="URI", help="Folder to write: a path, file:// or s3://.")
bundle = click.option(
    "--bundle", default="starter", show_default=True, metavar="NAME|FILE", help="Which models: a name or a YAML file."
)
profile = click.option(
    "--profile", default="laptop", show_default=True, metavar="NAME|FILE", help="Where to run: a name or a YAML file."
)
