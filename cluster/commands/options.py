"""Options that several commands share: name, type and default stand here, and the help text where it is the same for all.

Most commands pass their options on by name, as `**values`, to the function that does the work.
"""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

Option = Callable[[Callable[..., Any]], Callable[..., Any]]
"""What `click.option` returns: a decorator of a command's function."""


LAYOUTS = (
    "facesynthetics", "tfake", "sejong", "charlotte", "speakingfaces", "sf-tl54", "tfw", "tufts", "vis-th", "aachen", "mcxface",
    "plain",
)  # fmt: skip
"""Of data sets, as `pipelines.config.gather.LayoutName` has them: who asks for help need not wait for that to be imported."""


def split_names(context: click.Context, option: click.Parameter, text: str) -> list[str]:
    """Return the names of `a,b`, for the callback of an option."""
    return [name.strip() for name in text.split(",") if name.strip()]


# Which files: what is made of what, where it runs, and edits of all of them.
bundle = click.option(
    "--bundle", default="starter", show_default=True, metavar="NAME|FILE", help="Which models: a name or a YAML file."
)
profile = click.option(
    "--profile", default="laptop", show_default=True, metavar="NAME|FILE", help="Where to run: a name or a YAML file."
)
overrides = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change one value by its path, as in --set thermal.weights=FOLDER or profile.ray.cpus=4; may be repeated.",
)


def job(text: str, default: str = "demo") -> Option:
    """Return `--job`, a name of `pipelines/jobs` or a file."""
    return click.option("--job", default=default, show_default=True, metavar="NAME|FILE", help=text)


# What is read and written.
out = click.option("--out", required=True, metavar="URI", help="Folder to write: a path, file:// or s3://.")


def images(text: str) -> Option:
    """Return `--images`, a folder of pictures."""
    return click.option("--images", required=True, metavar="URI", help=text)


def data(text: str) -> Option:
    """Return `--data`, shards of rows."""
    return click.option("--data", required=True, metavar="URI", help=text)


class Published(NamedTuple):
    """How `--data` is read: as the published set `reader` ("": rows of ours), by the lists of `protocol`, its classes found by
    the parser of the bundle `parser` ("": none are), its rows all of `condition`, at most `rows_per_person` of each person."""

    reader: str = ""
    protocol: str = ""
    parser: str = ""
    condition: str = ""
    rows_per_person: int | None = None


READER = {
    "reader": "--data is the folder of this data set as it is published (a layout of `gather`): gathered into OUT/set first.",
    "protocol": "Of --reader mcxface: the folder of lists, where there are several.",
    "parser": "With --reader: find the classes of its pictures in colour by the parser of this bundle, such as starter.",
    "condition": "With --reader: the condition of its rows, such as warm, where the data set says none.",
}
"""Option -> its help text."""


def reader(function: Callable[..., Any]) -> Any:
    """Add `--reader`, the published set that `--data` is, and what belongs to it; the command gets them as `published`."""

    @wraps(function)
    def command(*args: Any, **values: Any) -> Any:
        given = Published(*(values.pop(name) for name in Published._fields))
        return function(*args, published=given, **values)

    found: Any = rows_per_person("With --reader.")(command)
    # Last first: the help lists the option that is put around the command last before the others.
    kinds = {"reader": click.Choice(["", *(name for name in LAYOUTS if name != "plain")])}
    for name in reversed(READER):
        metavar = "NAME|FILE" if name == "parser" else "NAME"
        option = click.option(f"--{name}", default="", metavar=metavar, type=kinds.get(name), help=READER[name])
        found = option(found)
    return found


def gather_first(data: str, published: Published, out: Any) -> str:
    """Return where the rows of `--data` are: with `--reader` those that are gathered of its folder, into `out`/set."""
    if not published.reader:
        if more := next((name for name, value in published._asdict().items() if value), ""):
            raise click.UsageError(f"--{more.replace('_', '-')} is of a published set: name its --reader")
        return data
    if not data:
        raise click.UsageError("--reader says how --data lies on disk: name its folder")
    from pipelines import gather

    return gather.gather_set(data, out=f"{out}/set", **published._asdict())


def rows_to_fit(text: str) -> Option:
    """Return `--training`, the rows that baselines are fitted to."""
    return click.option("--training", required=True, metavar="URI", help=text)


def rows_to_measure(text: str = "Pictures of people nobody was trained on.") -> Option:
    """Return `--test`, the rows that something is measured on."""
    return click.option("--test", required=True, metavar="URI", help=text)


def weights(default: str, text: str) -> Option:
    """Return `--weights`, a folder on this machine."""
    return click.option(
        "--weights",
        default=default,
        show_default=True,
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help=text,
    )


def unit(default: str, text: str = "") -> Option:
    """Return `--unit`, what the values of thermal frames mean, by name or as a mapping in YAML."""
    help_text = f"Of thermal values of more than 8 bits: a name, or {{scale: S, offset: O, ...}}. {text}".strip()
    return click.option("--unit", default=default, show_default=bool(default), metavar="NAME|YAML", help=help_text)


# How much, and of what.
def limit(text: str, least: int = 1) -> Option:
    """Return `--limit`: only the first so many of what there is, `least` or more."""
    return click.option("--limit", type=click.IntRange(min=least), metavar="N", help=text)


def rows_per_person(text: str = "") -> Option:
    """Return `--rows-per-person`: only so many rows of each person of a data set."""
    most = f"Only N rows of each person in each split, from all sessions and both cameras. {text}".strip()
    return click.option("--rows-per-person", type=click.IntRange(min=1), metavar="N", help=most)


# Of jobs that see pictures of faces in another light.
person = click.option(
    "--person",
    default="",
    metavar="SPEC",
    help="Who is shown: folder:LEVEL, pattern:REGEX on the path, or column:NAME of a Parquet.  "
    "[default: identity_id of a Parquet, else nobody says]",
)


def faces(which: str, picture: str) -> Option:
    """Return `--faces`, how many are cut out of a picture. which: how these are chosen."""
    text = f"Cut the N {which} faces out of every {picture}, each a row of its own; 0 takes a {picture} as one face."
    return click.option("--faces", default=0, show_default=True, metavar="N", type=click.IntRange(0, 64), help=text)


margin = click.option(
    "--margin",
    default=0.5,
    show_default=True,
    metavar="SHARE",
    type=float,
    help="What is left around a face that is cut out, as a share of its box.",
)
side = click.option(
    "--size", type=click.IntRange(32, 2048), help="Side in pixels, a multiple of 32.  [default: the bundle's]"
)

# Of pictures that are made for a training.
size = click.option(
    "--size", default=128, show_default=True, type=click.IntRange(32, 1024), help="Side of the pictures in pixels."
)


def conditions(text: str, default: str) -> Option:
    """Return `--condition`, names with commas between them, as the list `conditions`."""
    return click.option(
        "--condition",
        "conditions",
        default=default,
        show_default=True,
        metavar="NAMES",
        callback=split_names,
        help=text,
    )


# How it runs.
local = click.option("--local", is_flag=True, help="In this process, without Ray.")


def threads(text: str, default: int | None = None) -> Option:
    """Return `--threads`."""
    return click.option(
        "--threads", default=default, show_default=default is not None, type=click.IntRange(min=1), help=text
    )


# What becomes of it.
card = click.option("--card", is_flag=True, help="Write the result to the card beside the weights.")


# On a cluster.
address = click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    default="http://127.0.0.1:8265",
    show_default=True,
    metavar="URL",
    help="The cluster's dashboard; also from RAY_API_SERVER_ADDRESS.",
)


def secrets(metavar: str, text: str) -> Option:
    """Return `--secret`, which names what the nodes or pods have and we never see."""
    return click.option("--secret", "secrets", metavar=metavar, multiple=True, help=text)


def env(text: str) -> Option:
    """Return `--env`, a plain variable that goes along."""
    return click.option("--env", metavar="NAME[=VALUE]", multiple=True, help=text)
