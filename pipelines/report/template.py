"""Pages are Jinja2 templates, in a folder `templates` beside the code that fills them."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, select_autoescape


def load_template(path: Path) -> Template:
    """Return the template at `path`; it may include those beside it.

    In HTML whatever is filled in is escaped, in Markdown nothing is. A name that is not given is an error, not an empty text.
    """
    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=select_autoescape(["html"], default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(path.name)
