"""`thermapair doctor`: what this machine has, and what follows from it."""

import dataclasses
import json
import os

import click

from cluster.commands import options


@click.command("doctor")
@click.option("--out", default="out", show_default=True, metavar="URI", help="Output whose storage is tried.")
@options.bundle
@options.profile
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(out: str, bundle: str, profile: str, as_json: bool) -> int:
    """Tell what this machine has and what follows from it. Exits with 2 when a run would miss something."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # its start-up lines would stand between the rows
    from cluster.doctor import checks

    findings = list(checks.run_checks(out, bundle, profile))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        show(findings)
    return 2 if any(finding.status == "missing" for finding in findings) else 0


def show(findings: list) -> None:
    """Print the findings as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # One row a finding.
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "missing": "[red]missing[/]"}
    table = Table("", "what", "found", "what follows", title="thermapair doctor", title_justify="left")
    for finding in findings:
        table.add_row(marks[finding.status], *map(Text, (finding.name, finding.found, finding.follows)))
    Console().print(table)
    # The verdict in one sentence.
    missing = [finding.name for finding in findings if finding.status == "missing"]
    click.echo(f"A run would fail for want of: {', '.join(missing)}." if missing else "A run has what it needs.")
