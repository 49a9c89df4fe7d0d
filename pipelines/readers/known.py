"""Which layout a folder is of: those that find rows among its files."""

from collections.abc import Mapping

from models.errors import EnvironmentFault, UserError
from pipelines.config.gather import GatherJob, LayoutName
from pipelines.readers import LAYOUTS, list_items
from pipelines.readers.item import Item
from pipelines.readers.sets.mcxface import ChooseProtocol

PACKED = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")
ARCHIVES = (*PACKED, *(f"{end}{part}" for end in PACKED for part in (".part", ".crdownload", ".download", ".001")))


def find_layouts(job: GatherJob, files: Mapping[str, int]) -> dict[LayoutName, list[Item]]:
    """Return the layouts that list any of the files of a job's folder, and their listings: an empty one where a protocol is to be
    named, and rows with reasons alone where it is half a set."""
    found: dict[LayoutName, list[Item]] = {}
    for name in LAYOUTS:
        if name == "plain":
            continue
        other = GatherJob(layout=name, images=job.images, protocol=job.protocol if name == "mcxface" else "")
        try:
            items = list(list_items(other, dict(files)))
        except ChooseProtocol:
            found[name] = []
            continue
        except EnvironmentFault:
            raise
        except UserError:
            continue
        if items:
            found[name] = items
    return found


def count_taken(items: list[Item]) -> int:
    """Return how many rows of a listing can be taken."""
    return sum(not item.reason for item in items)


def find_archives(files: Mapping[str, int]) -> list[str]:
    """Return the archives among a folder's files, half-downloaded ones, too: a set that is not unpacked, or only in part."""
    return [name for name in files if name.lower().endswith(ARCHIVES)]


def tell_archives(files: Mapping[str, int]) -> str:
    """Return which archives lie in a folder, in a sentence with a blank before it; "" for none."""
    names = find_archives(files)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f" Is something not unpacked? It holds {', '.join(names[:3])}{more}." if names else ""


def with_likely(error: UserError, job: GatherJob, files: Mapping[str, int]) -> UserError:
    """Return the error of a folder that is not of a job's layout, with the layouts that it looks like, if any."""
    if isinstance(error, ChooseProtocol | EnvironmentFault):
        return error
    found = find_layouts(job, files)
    like = [name for name, items in found.items() if name != job.layout and (not items or count_taken(items))]
    if not like:
        return UserError(
            f"{error}. `thermapair data check {job.images}` says what it holds; a folder of your own is gathered as plain."
            f"{tell_archives(files)}"
        )
    return UserError(
        f"{error}. It looks like: {', '.join(like)} (--layout of gather and data check, --reader elsewhere)."
    )
