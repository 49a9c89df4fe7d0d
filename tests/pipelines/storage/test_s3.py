"""S3 over HTTP: bundles and people from there, and what is said when the storage throttles, expires or is gone."""

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
import s3fs
import yaml

from cluster import cli
from models.errors import EnvironmentFault, UserError
from models.weights import store
from models.weights.bundle import Bundle, digests, load_bundle
from pipelines.captions.write import write_captions
from pipelines.config.job import GenerateJob
from pipelines.estimate.take import REQUESTS
from pipelines.plan import pieces
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.people.given import GivenPeople
from pipelines.plan.people.identities import people_table
from pipelines.plan.people.source import people_of
from pipelines.run.writer import write_partition
from pipelines.storage.lease import Lease
from pipelines.storage.uri import Storage
from tests.pipelines import small
from tests.pipelines.storage.faulty import Faulty

pytestmark = pytest.mark.slow
Job = Callable[..., GenerateJob]


@pytest.fixture
def faulty(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """The server's misfortunes. botocore itself asks once, so that the retries of all layers do not multiply."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    faulty = Faulty(s3_server._server.app)
    monkeypatch.setattr(s3_server._server, "app", faulty)
    yield faulty
    s3fs.S3FileSystem.clear_instance_cache()


def test_throttling_is_retried_with_growing_pauses(s3: str, faulty: Faulty) -> None:
    storage = Storage(f"{s3}/throttled")
    faulty.answer("503 Slow Down", "SlowDown", count=3)
    assert storage.create("record.json", b"once")
    times = [moment for moment, request in faulty.seen if "record.json" in request]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert len(pauses) == 3
    assert all(pause >= 0.1 * 1.7**number for number, pause in enumerate(pauses))
    assert storage.read("record.json") == b"once"


USES: dict[str, Callable[[Storage], object]] = {
    "list": lambda storage: storage.list("data"),
    "read": lambda storage: storage.read("a"),
    "write": lambda storage: storage.write("a", b"1"),
    "create": lambda storage: storage.create("a", b"1"),
    "exists": lambda storage: storage.exists("a"),
    "remove": lambda storage: storage.remove("a"),
}


@pytest.mark.parametrize(
    ("use", "status", "code", "message"),
    [
        ("create", "503 Slow Down", "SlowDown", "asks to slow down, and still did after several retries"),
        ("write", "403 Forbidden", "InvalidAccessKeyId", "refuses these credentials"),
        *((use, "400 Bad Request", "ExpiredToken", "credentials have expired") for use in USES),
    ],
)
def test_trouble_is_one_message_and_can_be_resumed(
    use: str, status: str, code: str, message: str, s3: str, faulty: Faulty
) -> None:
    faulty.answer(status, code)
    with pytest.raises(EnvironmentFault, match=rf"pairs/run/trouble.* {message}.*run the same command again"):
        USES[use](Storage(f"{s3}/trouble"))


def test_a_run_says_once_that_its_credentials_expired(
    bundle: Bundle, s3: str, faulty: Faulty, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(small.job().model_dump(mode="json")))
    words = ["generate", "--bundle", f"{bundle.folder}/bundle.yaml", "--job", f"{tmp_path}/job.yaml"]
    faulty.answer("400 Bad Request", "ExpiredToken")
    assert cli.main([*words, "--out", f"{s3}/expired"]) == 75
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the credentials have expired. Renew AWS_ACCESS_KEY_ID" in said

    faulty.answer("", "", count=0)
    assert cli.main([*words, "--out", "s3://no-such-bucket/run"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no-such-bucket" in said and "the bucket does not exist" in said


def test_a_bucket_that_vanishes_and_a_token_that_expires_in_a_run(bundle: Bundle, job: Job, faulty: Faulty) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="short-lived")
    plan = write_generate_plan(job("identities.count=2"), bundle, Storage("s3://short-lived/run"))
    write_captions(plan, small.profile().captions)
    block = small.chain_of(plan)(plan.partition(0))
    faulty.answer("400 Bad Request", "ExpiredToken")
    with pytest.raises(EnvironmentFault, match="credentials have expired"):
        write_partition(block, plan, threads=1)
    faulty.answer("", "", count=0)
    for name in plan.out.list():
        plan.out.remove(name)
    client.delete_bucket(Bucket="short-lived")
    with pytest.raises(UserError, match=r"short-lived/run/.*the bucket does not exist \(any more\)"):
        write_partition(block, plan, threads=1)


def test_a_bundle_lies_on_s3_and_each_machine_fetches_it_once(
    bundle: Bundle, s3: str, faulty: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CACHE", tmp_path / "cache")
    there, folder = Storage(f"{s3}/bundle"), Path(bundle.folder)
    for path in folder.rglob("*"):
        if path.is_file():
            there.write(str(path.relative_to(folder)), path.read_bytes())
    found = load_bundle(f"{there.uri}/bundle.yaml")
    for name, part in found.parts.items():
        assert digests(part, found.folder) == digests(bundle.parts[name], bundle.folder)

    weights = found.main("visible") / "weights.bin"
    assert weights.read_bytes() == b"visible" * 100
    faulty.seen.clear()
    found.main("visible")
    assert not [request for _, request in faulty.seen if "weights.bin" in request]
    weights.write_bytes(b"rotten!" * 100)
    found.main("visible")
    assert weights.read_bytes() == b"visible" * 100

    there.write("parser/weights.bin", b"forged" * 100)
    with pytest.raises(EnvironmentFault, match=r"parser/weights.bin is not the file that files.json describes"):
        found.main("parser")


def test_a_bucket_without_conditional_writes_is_refused_before_the_run(s3: str, faulty: Faulty) -> None:
    """Whether it ignores the condition or does not know it; one that heeds it is taken, and released."""
    out = Storage(f"{s3}/unconditional")
    with Lease(out):
        assert out.list() == ["_lease/000001.json"]
    faulty.conditions = "ignored"
    with pytest.raises(UserError, match="ignores If-None-Match.*or a folder that all nodes mount"), Lease(out):
        pytest.fail("two drivers could hold it")
    assert out.list() == []
    faulty.conditions = "refused"
    with pytest.raises(UserError, match="refuses If-None-Match") as refused, Lease(out):
        pytest.fail("nobody can hold it")
    assert refused.value.exit_code == 2


def test_requests_of_a_partition_are_few_and_do_not_grow(s3: str, faulty: Faulty) -> None:
    """Its plan and captions are read, it is written and committed, by a process that has the plan's files open or not."""
    counts = {}
    for people in (32, 256):
        wanted = small.job(f"identities.count={people}", "partition_samples=16", "gates={attempts: 1}")
        plan = small.make_here(wanted, load_bundle("null"), f"{s3}/requests-{people}")
        last = plan.partitions - 1
        block = small.chain_of(plan)(plan.partition(last))
        for fresh in (True, False):
            plan.out.remove(f"_commits/part-{last:05d}.json")
            worker = copy.deepcopy(plan)  # as one arrives there
            if fresh:
                pieces._open.cache_clear()
            faulty.seen.clear()
            worker.partition(last)
            write_partition(block, worker, threads=1)
            counts[people, fresh] = Counter(told.split()[0] for _, told in faulty.seen)
    assert all(counts[32, fresh] == counts[256, fresh] for fresh in (True, False)), counts
    assert counts[32, False].total() < counts[32, True].total() <= REQUESTS, counts
    assert counts[32, False]["PUT"] == 2, "a shard and a record"


def test_names_are_told_as_they_would_be_given(s3: str, tmp_path: Path) -> None:
    there = Storage(f"{s3}/told")
    assert there.shown("report/index.html") == f"{there.uri}/report/index.html" and there.shown() == there.uri
    assert there.uri.startswith("s3://")
    assert Storage(tmp_path.as_uri()).shown("a.txt") == str(tmp_path / "a.txt")


def test_people_come_from_s3(bundle: Bundle, s3: str, faulty: Faulty) -> None:
    people = next(people_of(small.job().identities, bundle, seed=1).blocks(0, 6))
    there = Storage(f"{s3}/people")
    with there.fsspec.open(there.path("people.parquet"), "wb") as file:
        pq.write_table(people_table(people), file)
    found = next(GivenPeople(f"{there.uri}/people.parquet", 4).blocks(0, 4))
    assert [person.id for person in found] == [person.id for person in people[:4]]
    faulty.answer("400 Bad Request", "ExpiredToken")
    with pytest.raises(EnvironmentFault, match="credentials have expired|HTTP 400"):
        GivenPeople(f"{there.uri}/people.parquet", 4)
