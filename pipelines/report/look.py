"""An early look: the report of the first partitions, written while the others wait or go on."""

import threading
import time
from collections.abc import Sequence

from models.columns import Columns
from pipelines.config.profile import Group
from pipelines.plan.generate import GeneratePlan
from pipelines.report.write import write_pages
from pipelines.storage.commits import list_finished, read_commits

PAGE, SHEET = "report/first.html", "report/first.png"
GROWS = 4
"""Where a pool may grow to more actors than this, further partitions wait for the first report."""
WAIT_SECONDS = 1.0
"""Between two looks at what is there."""


def waits(plan: GeneratePlan, groups: Sequence[Group]) -> bool:
    """Return whether partitions after the first wait for the first report."""
    first = plan.job.stop.look_first
    return any(group.actors[1] > GROWS for group in groups) if first is None else first


def look_beside(plan: GeneratePlan, stopped: threading.Event) -> None:
    """Write the page of the first partitions as soon as they are committed, and say where it is; it waits in a thread.

    What the graph yields comes later than what is committed, so storage is asked.
    """
    while len(list_finished(plan.out)) < plan.job.stop.look:
        if stopped.wait(WAIT_SECONDS):
            return
    if not plan.out.exists(PAGE):
        write_pages(plan, read_commits(plan.out), PAGE, SHEET)
        print(f"a first look at {plan.out.shown(PAGE)}", flush=True)


class LookGate:
    """Holds blocks back, all but the first few, until the first report is there: nothing waits for actors, so no pool grows."""

    def __init__(self, plan: GeneratePlan, missing: Sequence[int]) -> None:
        self.plan, self.there = plan, False

    def __call__(self, block: Columns) -> Columns:
        while int(block["id"][0]) >= self.plan.job.stop.look and not self.there:
            self.there = self.plan.out.exists(PAGE)
            time.sleep(0 if self.there else WAIT_SECONDS)
        return block
