"""`thermapair push`: a finished output as a data set on a hub, some files a commit, so that the same command goes on.

What the hub has already, by its own digests, is not sent again. All goes but plans, records and leases (`_plan/` ...): shards,
card, report and manifest. The token is named, never given: the variable of that name holds it.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2  # the hub client's own
from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.hf_api import RepoFile

from models.errors import EnvironmentFault, UserError
from pipelines.plan.claim import read_run
from pipelines.storage.commits import MANIFEST
from pipelines.storage.uri import Storage

FILES, BYTES = 64, 512 * 2**20
"""Of one commit, at most."""
LAST = ("README.md", MANIFEST)
"""What says what is there comes after that."""
AGAIN = "what was committed there stays, and the same command goes on"


@dataclass(frozen=True)
class Pushed:
    """What became of the files: sent now, or there already."""

    repo: str
    sent: int
    there: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.sent:,} files sent ({self.bytes / 1e9:,.3f} GB), {self.there:,} were there already: {self.repo}"


def run(out: str, repo: str, token_name: str, *, private: bool = True) -> Pushed:
    """Send the finished output `out` to the data set `repo` (OWNER/NAME) of the hub at HF_ENDPOINT, made where it is not there.

    token_name: the environment variable that holds the token.

    Raises:
        UserError: no finished output, no such variable, or what the hub refuses for good.
        EnvironmentFault: the hub cannot be reached, or fails; the same call goes on.
    """
    storage = Storage(out)
    read_run(storage)
    if not storage.exists(MANIFEST):
        raise UserError(f"{storage.uri} is not finished ({MANIFEST} is missing): run its command to the end first.")
    token = os.environ.get(token_name)
    if not token:
        raise UserError(f"--token {token_name}: the environment has no such variable. It is to hold the hub's token.")
    constants.HF_HUB_OFFLINE = False  # jobs keep away from hubs; this one is asked to go there
    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    # Transfers and their retries are the client's own; whatever it raises becomes one message.
    try:
        api = HfApi(endpoint=endpoint, token=token)
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        return _send(api, storage, repo)
    except HFValidationError as error:
        raise UserError(f"--repo {repo}: {error}") from None
    except HfHubHTTPError as error:
        raise _explain(error, repo, token_name) from error
    except httpx2.TransportError as error:
        raise EnvironmentFault(f"the hub at {endpoint} does not answer ({error}); {AGAIN}.") from error


def _send(api: HfApi, storage: Storage, repo: str) -> Pushed:
    """Send what the hub lacks, in commits of some files, the card and the manifest last."""
    names = [name for name in storage.list() if not name.startswith("_")]
    names.sort(key=lambda name: (name in LAST, name))
    tree = api.list_repo_tree(repo, recursive=True, repo_type="dataset")
    known = {one.path: one for one in tree if isinstance(one, RepoFile)}
    wanted = [name for name in names if not _is_there(storage, name, known.get(name))]
    sent = size = 0
    for batch in _batches(storage, wanted):
        operations = [CommitOperationAdd(name, storage.read(name)) for name in batch]
        message = f"{batch[0]} and {len(batch) - 1} more" if len(batch) > 1 else batch[0]
        api.create_commit(repo, operations, commit_message=message, repo_type="dataset")
        sent, size = sent + len(batch), size + sum(one.upload_info.size for one in operations)
        print(f"{sent:,} of {len(wanted):,} files", flush=True)
    return Pushed(f"{api.endpoint}/datasets/{repo}", sent, len(names) - len(wanted), size)


def _is_there(storage: Storage, name: str, known: RepoFile | None) -> bool:
    """Whether the hub has a file with the same content, as it says: SHA-256 of a large one, git's digest of a small one."""
    if known is None or known.size != int(storage.fsspec.size(storage.path(name))):
        return False
    content = storage.read(name)
    if known.lfs is not None:
        return bool(known.lfs.sha256 == hashlib.sha256(content).hexdigest())
    return bool(known.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())


def _batches(storage: Storage, names: list[str]) -> Iterator[list[str]]:
    """Yield the names in groups of at most `FILES` files and, but for a single one, `BYTES` bytes."""
    batch, size = list[str](), 0
    for name in names:
        own = int(storage.fsspec.size(storage.path(name)))
        if batch and (len(batch) == FILES or size + own > BYTES):
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += own
    if batch:
        yield batch


def _explain(error: HfHubHTTPError, repo: str, token_name: str) -> UserError:
    """Return what the hub answered as a message: refused for good, or to be tried again."""
    status = error.response.status_code
    if status in (401, 403):
        return UserError(
            f"the hub refuses the token in {token_name} for {repo} (HTTP {status}): give one that may write there."
        )
    if status == 429 or status >= 500:
        return EnvironmentFault(f"the hub fails (HTTP {status}) for {repo}; {AGAIN}.")
    return UserError(f"the hub refuses {repo} (HTTP {status}): {error.server_message or error}")
