"""Create-if-absent, commit records and the lease: locally, and on an S3 server."""

import gc
import hashlib
import json
import os
import pickle
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import EnvironmentFault, UserError
from pipelines.storage import commits, lease
from pipelines.storage.commits import Commit
from pipelines.storage.lease import Lease
from pipelines.storage.uri import Storage

EMPTY = Commit("", 0, "")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return Storage(tmp_path / "out")
    return Storage(f"{request.getfixturevalue('s3')}/{request.node.name}")


def test_what_is_written_is_read_by_either_view(storage: Storage) -> None:
    storage.write("data/a.bin", b"first")
    storage.write("data/a.bin", b"second")
    assert storage.read("data/a.bin") == b"second"
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1, 2]}), sink)
    storage.write("data/t.parquet", sink.getvalue().to_pybytes())
    assert pq.read_table(storage.path("data/t.parquet"), filesystem=storage.arrow)["x"].to_pylist() == [1, 2]
    assert storage.list() == ["data/a.bin", "data/t.parquet"]
    storage.remove("data/a.bin")
    storage.remove("data/a.bin")
    assert not storage.exists("data/a.bin")
    assert pickle.loads(pickle.dumps(storage)).list("data") == ["data/t.parquet"]  # noqa: S301


def test_what_is_streamed_appears_whole_or_not_at_all(storage: Storage) -> None:
    part = bytes(2**20)
    with storage.stream("data/a.bin") as file:
        for _ in range(3):
            file.write(part)
        assert not storage.exists("data/a.bin")
    assert storage.read("data/a.bin") == 3 * part

    def stop(name: str) -> None:
        with storage.stream(name) as half:
            half.write(b"half")
            raise ValueError("stopped")

    for name in ("data/a.bin", "data/b.bin"):
        with pytest.raises(ValueError, match="stopped"):
            stop(name)
        gc.collect()
    assert storage.list() == ["data/a.bin"] and len(storage.read("data/a.bin")) == len(part) * 3


def test_only_the_first_of_many_creates(storage: Storage) -> None:
    storage.write("warm", b"up")
    results: list[bool] = []
    start = threading.Barrier(8)

    def create(number: int) -> None:
        own = Storage(storage.uri)
        start.wait()
        results.append(own.create("_commits/part-00000.json", f"{number}".encode()))

    threads = [threading.Thread(target=create, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    assert len(storage.read("_commits/part-00000.json")) == 1


def test_a_second_commit_of_a_partition_is_dropped(storage: Storage) -> None:
    name, digest = commits.write_shard(storage, "data", 7, b"rows")
    record = Commit(name, 4, digest, 4, {"rejects": "", "samples": 2})
    assert commits.commit(storage, 7, record)
    assert not commits.commit(storage, 7, EMPTY)
    assert commits.read_commits(storage) == {7: record}
    assert commits.list_finished(storage) == {7}
    assert storage.read(name) == b"rows"
    manifest = commits.write_manifest(storage, commits.read_commits(storage), digest="d")
    assert json.loads(storage.read("manifest.json")) == manifest
    assert [part["partition"] for part in manifest["partitions"]] == [7]


def test_attempts_share_a_file_only_if_they_are_equal(storage: Storage) -> None:
    """Two workers may write one partition: neither touches what the other's record names."""
    (one, digest), (two, other) = (commits.write_shard(storage, "data", 3, rows) for rows in (b"rows", b"more rows"))
    assert one != two and digest != other
    assert (storage.read(one), storage.read(two)) == (b"rows", b"more rows")
    assert commits.write_shard(storage, "data", 3, b"rows") == (one, digest)
    assert storage.list("data") == sorted([one, two])
    assert one == f"data/part-00003-{hashlib.sha256(b'rows').hexdigest()[:12]}.parquet"


def test_records_are_read_in_order_or_one_by_one(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for partition in (11, 2, 100_000):
        commits.commit(
            storage, partition, Commit(f"data/{partition}", partition, "d", 9, {"rejects": f"r/{partition}"})
        )
    storage.write("_commits/notes.txt", b"")
    found = commits.read_commits(storage)
    assert list(found) == [2, 11, 100_000] and commits.list_finished(storage) == set(found)
    assert commits.read_commit(storage, 2) == found[2] and commits.read_commit(storage, 3) is None
    assert list(found[2].files()) == ["data/2", "r/2"] and list(EMPTY.files()) == [] and found[2].bytes == 9
    assert Commit("x", 1, "d").bytes == 0
    with pytest.raises(
        EnvironmentFault, match=r"and 2 of its 3 partitions have no .* \(the first is _commits/part-00000.json\)"
    ):
        commits.read_commits(storage, 3)
    manifest = json.loads(json.dumps(commits.write_manifest(storage, found, digest="d")))
    assert list(manifest) == ["digest", "partitions"]
    assert [one["partition"] for one in manifest["partitions"]] == [2, 11, 100_000]


def test_a_shard_is_read_in_part_or_named_with_the_way_out(tmp_path: Path) -> None:
    storage, sink = Storage(tmp_path), pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1, 2], "y": [3, 4]}), sink)
    name, _ = commits.write_shard(storage, "data", 5, sink.getvalue().to_pybytes())
    assert commits.read_shard(storage, 5, name, columns=["y"]).to_pydict() == {"y": [3, 4]}
    (tmp_path / name).write_bytes(b"PAR1")
    for broken in (name, "data/none.parquet"):
        with pytest.raises(
            EnvironmentFault, match=r"is missing or damaged \(delete _commits/part-00005.json there and run"
        ):
            commits.read_shard(storage, 5, broken)


def test_a_damaged_record_names_itself_and_the_way_out(storage: Storage) -> None:
    storage.write("_commits/part-00001.json", b'{"file": ')
    with pytest.raises(EnvironmentFault, match=r"part-00001.json is damaged. Delete it and run again"):
        commits.read_commits(storage)


def test_a_live_driver_keeps_others_out_and_leaves_nothing_behind(storage: Storage) -> None:
    with (
        Lease(storage, heartbeat=0.05),
        pytest.raises(UserError, match=r"is being written by process \d+"),
        Lease(storage),
    ):
        pass
    assert storage.list("_lease") == []
    with Lease(storage):
        pass


@pytest.mark.slow
def test_a_lease_of_another_machine_expires_and_its_holder_is_told(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_host", lambda: "there")
    with Lease(storage, heartbeat=1.2, expiry=0.2) as old:
        time.sleep(0.5)
        monkeypatch.setattr(lease, "_host", lambda: "here")
        with Lease(storage, expiry=0.2):
            time.sleep(1.5)
        with pytest.raises(EnvironmentFault, match="taken over"):
            old.check()


@pytest.mark.parametrize(
    ("pid", "born"),
    [(2**22 + 1, "77"), (os.getpid(), "77")],
    ids=["a number that no process has", "a number that was used again"],
)
def test_the_lease_of_a_dead_process_of_this_machine_does_not_wait(storage: Storage, pid: int, born: str) -> None:
    holder = {"host": lease._host(), "pid": pid, "born": born, "seen": time.time()}
    storage.create("_lease/000007.json", json.dumps(holder).encode())
    with Lease(storage) as mine:
        assert storage.list("_lease") == ["_lease/000008.json"]
        mine.check()
    assert storage.list("_lease") == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_lease_that_cannot_be_read_holds_nothing_and_keeps_its_number(storage: Storage, content: bytes) -> None:
    """It is being written this moment, or was damaged: the next number is the one that only one driver can create."""
    storage.create("_lease/000007.json", content)
    assert lease.find_driver(storage) == ""
    with Lease(storage):
        assert storage.list("_lease") == ["_lease/000008.json"]


def test_a_process_that_ended_and_was_not_waited_for_holds_nothing(tmp_path: Path) -> None:
    """It keeps its number until somebody waits for it."""
    storage, process = Storage(tmp_path), subprocess.Popen(["sleep", "60"])
    born = lease._born(process.pid)
    started = psutil.boot_time() + int(born) / os.sysconf("SC_CLK_TCK")
    assert abs(started - psutil.Process(process.pid).create_time()) < 2
    holder = {"host": lease._host(), "pid": process.pid, "born": born, "seen": time.time()}
    storage.create("_lease/000001.json", json.dumps(holder).encode())
    with pytest.raises(UserError, match=f"by process {process.pid} on"):
        Lease(storage).__enter__()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with Lease(storage) as mine:
        mine.check()
    process.wait()


@pytest.mark.parametrize(("host", "born"), [("there/0", "77"), (lease._host(), "")])
@pytest.mark.parametrize(("ago", "alive"), [(0, True), (30, True), (90, False), (-30, True), (-86400, False)])
def test_a_lease_of_another_machine_holds_for_a_minute(
    tmp_path: Path, host: str, born: str, ago: float, alive: bool
) -> None:
    """And one of this machine whose process could not be looked up."""
    storage = Storage(tmp_path)
    holder = {"host": host, "pid": 2**22 + 1, "born": born, "seen": time.time() - ago}
    storage.create("_lease/000001.json", json.dumps(holder).encode())
    if alive:
        with pytest.raises(UserError, match=rf"by process 4194305 on {host} \(last seen {ago} s ago\)"):
            Lease(storage).__enter__()
    else:
        with Lease(storage):
            pass


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does, at most 20 seconds."""
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def fail_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the next listing of a storage fail; returns the listings that were tried, to which further ones are added."""
    tries, own = list[int](), Storage.list

    def gone_once(self: Storage, folder: str = "") -> list[str]:
        tries.append(len(tries))
        if len(tries) == 1:
            raise OSError("no answer")
        return own(self, folder)

    monkeypatch.setattr(Storage, "list", gone_once)
    return tries


def test_a_clock_that_is_set_loses_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day ahead, and storage that fails once: the lease is renewed, not given up."""
    storage = Storage(tmp_path)
    with Lease(storage, heartbeat=0.005) as mine:
        ahead = time.time() + 86400
        monkeypatch.setattr(lease.time, "time", lambda: ahead)
        tries = fail_once(monkeypatch)
        wait_until(lambda: len(tries) > 2)
        mine.check()
        assert json.loads(storage.read("_lease/000001.json"))["seen"] == ahead


def test_a_driver_sees_that_another_has_taken_over(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    with Lease(storage, heartbeat=0.005) as old:
        old.check()
        storage.create("_lease/000002.json", b"{}")
        wait_until(lambda: old.lost)
        with pytest.raises(EnvironmentFault, match="was taken over by another driver; this one stops"):
            old.check()
    assert "_lease/000002.json" in storage.list("_lease")


def test_a_lease_is_renewed_and_a_storage_that_is_gone_for_a_moment_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(tmp_path)
    with Lease(storage, heartbeat=0.005) as mine:
        tries = fail_once(monkeypatch)
        wait_until(lambda: len(tries) > 1)  # the lease may be renewed at any moment: once without storage, then with it
        first = json.loads(storage.read("_lease/000001.json"))
        wait_until(lambda: json.loads(storage.read("_lease/000001.json"))["seen"] > first["seen"])
        mine.check()


def test_a_driver_does_not_go_on_without_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> list[str]:
        raise OSError("no answer")

    storage = Storage(tmp_path)
    with Lease(storage, heartbeat=0.005, expiry=0.05) as mine:
        monkeypatch.setattr(Storage, "list", gone)
        wait_until(lambda: mine.lost)
        monkeypatch.undo()
        with pytest.raises(EnvironmentFault, match=r"could not be reached for 0 s: no answer"):
            mine.check()
    assert storage.list("_lease") == ["_lease/000001.json"]  # it may be another's by now, so it is left to expire


@pytest.mark.parametrize("uri", ["s3://", "s3:///", "s3:///folder"])
def test_a_uri_without_a_bucket_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match="names no bucket: write s3://BUCKET/FOLDER"):
        Storage(uri)


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for place in ("file", "file/below"):
        for write in (Storage(tmp_path / place).write, Storage(tmp_path / place).create):
            with pytest.raises(UserError, match="file is a file, and a folder is needed. Choose") as caught:
                write("name", b"x")
            assert caught.value.exit_code == 2
    with pytest.raises(UserError, match="folder is a folder, and a file is needed"):
        Storage(tmp_path).write("folder", b"x")


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + "/b", "b/" + "a" * 300 + ".png"])
def test_a_name_that_no_file_can_have_is_told(tmp_path: Path, name: str) -> None:
    for write in (Storage(tmp_path).write, Storage(tmp_path).create):
        with pytest.raises(UserError, match="the name is longer than this file system takes") as told:
            write(name, b"x")
        assert not isinstance(told.value, EnvironmentFault)  # making room would not help


def test_a_path_is_a_uri(tmp_path: Path) -> None:
    Storage(tmp_path / "a").write("x", b"1")
    assert Storage(f"file://{tmp_path}/a").read("x") == b"1"
    with pytest.raises(UserError, match="nowhere"):
        Storage("nowhere://x").list()
