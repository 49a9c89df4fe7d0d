"""`thermapair clean`: delete what no commit record names: shards of attempts that were given up, half-written files."""

from models.errors import UserError
from pipelines.plan.claim import RUN
from pipelines.storage.commits import Commit, read_commits
from pipelines.storage.lease import Lease
from pipelines.storage.uri import Storage

FOLDERS = ("data", "rejects")


def run(out: str, *, dry_run: bool = False) -> list[str]:
    """Remove the orphans of the output at `out`, or only name them; returns their names.

    Raises:
        UserError: there is no run at `out`, or a live driver still writes to it.
    """
    storage = Storage(out)
    if not storage.exists(RUN):
        raise UserError(f"{storage.uri} holds no run ({RUN} is missing).")
    with Lease(storage):
        commits = read_commits(storage)
        found = orphans(storage, commits) if dry_run else remove_orphans(storage, commits)
    for name in found:
        print(f"{'would remove' if dry_run else 'removed'} {storage.shown(name)}")
    print(f"{len(found)} orphans, {len(commits)} finished partitions kept")
    return found


def orphans(out: Storage, commits: dict[int, Commit]) -> list[str]:
    """Return the files below `data/` and `rejects/` that no record names, and temporary files everywhere."""
    named = {name for record in commits.values() for name in record.files()}
    names = out.list()
    return [n for n in names if (n.split("/")[0] in FOLDERS and n not in named) or n.endswith(".tmp")]


def remove_orphans(out: Storage, commits: dict[int, Commit]) -> list[str]:
    """Delete the orphans and return their names. Only the holder of the lease may."""
    found = orphans(out, commits)
    for name in found:
        out.remove(name)
    return found
