"""`thermapair generate`: identities in, a data set of paired visible and thermal faces out."""

import click

from cluster.commands import options
from cluster.submission.working_dir import RayCommand


@click.command("generate", cls=RayCommand)
@options.bundle
@options.profile
@options.job("What to make: a name or a YAML file.")
@options.out
@options.overrides
@options.limit("Make the first N samples of the plan alone; a larger N goes on from there.")
def command(bundle: str, profile: str, job: str, out: str, overrides: tuple[str, ...], limit: int | None) -> None:
    """Make a data set of paired faces.

    The same command resumes a run that was stopped. Bundle and job decide what comes out, the profile only where it runs.
    """
    from pipelines.config.request import load_request

    request = load_request(bundle, profile, job, overrides, limit)  # a wrong one is refused before Ray is imported
    from pipelines import generate

    generate.run(request, out)
