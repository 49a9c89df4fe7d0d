"""The chain of stages in one process: redraws, rejects, bad rows, memory; and the writer's insistence on whole partitions."""

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from models.columns import Columns
from models.errors import EnvironmentFault, UserError
from models.stages import Flow, NoOptions
from models.weights.bundle import Bundle, Part, load_bundle
from pipelines.captions.write import write_captions
from pipelines.config.chain import Link
from pipelines.config.job import GenerateJob
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan
from pipelines.rows import record
from pipelines.rows.schema import RECORD, arrow_schema
from pipelines.run import chain, faults
from pipelines.run.writer import encode_table, whole_partition, write_partition
from pipelines.storage.commits import read_commits
from pipelines.storage.uri import Storage
from tests.pipelines import small
from tests.pipelines.small_stages import SIZE

Job = Callable[..., GenerateJob]


@pytest.fixture
def plan(bundle: Bundle, job: Job, tmp_path: Path) -> GeneratePlan:
    plan = write_generate_plan(job(), bundle, Storage(tmp_path / "out"))
    write_captions(plan, small.profile().captions)
    return plan


def run(plan: GeneratePlan, attempts: int = 3) -> Columns:
    return small.chain_of(plan, attempts)(plan.partition(0))


def test_failed_samples_are_drawn_again_and_their_attempts_kept(plan: GeneratePlan) -> None:
    rows = run(plan)
    assert rows["final"].sum() == 8
    failed = ~rows["final"]
    assert failed.sum() > 0
    assert all(rows["reject"][failed])
    for row in np.flatnonzero(failed):
        last = np.flatnonzero((rows["sample_id"] == rows["sample_id"][row]) & rows["final"])[0]
        assert rows["attempt"][last] > rows["attempt"][row]
        assert not np.array_equal(rows["visible"][last], rows["visible"][row])
    one = run(plan, attempts=1)
    assert set(one["sample_id"][one["reject"] != ""]) == set(rows["sample_id"][failed])


def test_a_sample_that_was_accepted_is_not_computed_again(plan: GeneratePlan) -> None:
    """Nor is one that a stage could not take drawn again: it would fail again."""
    drawn = list[str]()
    visible, *others = small.chain_of(plan).stages

    def noting(rows: Columns, settings: Any, batch: int) -> Columns:
        made = visible(rows, settings, batch)
        drawn.extend(rows["noise_id"])
        return made

    block = plan.partition(0)
    block["caption"][2] = "BAD"
    rows = chain.Chain(plan.chain, plan.chain.stages, 3, loaded=[noting, *others])(block)
    assert (
        len(set(drawn)) == len(drawn) == len(rows["final"]) - 1
    )  # each attempt at each sample once, but for the bad row
    failed = {str(name) for name in rows["sample_id"][~rows["final"]]}
    assert {name.rsplit("/", 1)[0] for name in drawn if not name.endswith("/0")} == failed
    (bad,) = np.flatnonzero(rows["sample_id"] == block["sample_id"][2])
    assert rows["final"][bad] and rows["attempt"][bad] == 0
    assert rows["reject"][bad] == "error in visible: ValueError: a caption that cannot be drawn"


def test_rows_of_a_batch_that_had_to_shrink_say_so(plan: GeneratePlan) -> None:
    visible, parser, *others = small.chain_of(plan).stages

    def greedy(rows: Columns, settings: Any, batch: int) -> Columns:
        if batch > 1 and block["sample_id"][0] in rows["sample_id"]:
            raise MemoryError
        return parser(rows, settings, batch)

    block = plan.partition(0)
    rows = chain.Chain(plan.chain, plan.chain.stages, 1, loaded=[visible, greedy, *others])(block)
    assert rows["shrunk"][:, 1].tolist() == [1] * 4 + [0] * 4
    assert not rows["shrunk"][:, [0, 2, 3, 4]].any()
    provenance = [json.loads(record.pairs_of(plan.record, rows, row)[0]["provenance"]) for row in (0, 7)]
    assert [one.get("smaller_batches") for one in provenance] == [{"parser": 1}, None]


def test_later_draws_have_a_batch_of_their_own(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    """What pads a row depends on its attempt alone."""
    own = load_bundle(f"{bundle.folder}/bundle.yaml", ["visible.redraw_batch=2"])
    plan = small.make_here(job("identities.count=2"), own, tmp_path / "out")
    seen = set[tuple[int, int]]()

    class Noting:
        def __init__(self, stage: Any) -> None:
            self.stage = stage

        def __call__(self, rows: Columns, settings: Any, batch: int) -> Columns:
            assert len(rows["noise_id"]) <= batch
            seen.update((int(name.rsplit("/", 1)[1]), batch) for name in rows["noise_id"])
            return self.stage(rows, settings, batch)

    visible, *others = small.chain_of(plan).stages
    chain.Chain(plan.chain, plan.chain.stages, 3, loaded=[Noting(visible), *others])(plan.partition(0))
    assert {pair for pair in seen if pair[0] < 2} == {(0, 4), (1, 2)}


def test_a_stage_is_given_what_it_reads_and_no_more(plan: GeneratePlan) -> None:
    given = set[frozenset[str]]()
    *others, faces, gates = small.chain_of(plan).stages

    def noting(rows: Columns, settings: Any, batch: int) -> Columns:
        given.add(frozenset(rows))
        return faces(rows, settings, batch)

    chain.Chain(plan.chain, plan.chain.stages, 3, loaded=[*others, noting, gates])(plan.partition(0))
    assert given == {frozenset(("sample_id", *plan.chain.link("faces").flow.reads))}


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (lambda made: {**made, "scores": made["classes"]}, r"parser \(kind small, .*Parser\) says that it writes \['classes'\]; "
                                                            r"what differs: \['scores'\]"),
        (lambda made: {"classes": made["classes"][1:]}, r"stage parser \(.*\) was given 4 rows and returned {'classes': 3}"),
    ],
)  # fmt: skip
def test_a_kind_that_returns_other_columns_ends_the_run(
    returns: Callable[[Columns], Columns], message: str, plan: GeneratePlan
) -> None:
    visible, parser, *others = small.chain_of(plan).stages

    def wrong(rows: Columns, settings: Any, batch: int) -> Columns:
        return returns(parser(rows, settings, batch))

    with pytest.raises(UserError, match=message):
        chain.Chain(plan.chain, plan.chain.stages, 3, loaded=[visible, wrong, *others])(plan.partition(0))


def test_a_row_does_not_depend_on_its_neighbours(plan: GeneratePlan) -> None:
    rows = run(plan)
    alone = {key: values[3:4] for key, values in plan.partition(0).items()}
    again = small.chain_of(plan)(alone)
    last = np.flatnonzero(again["final"])[0]
    assert np.array_equal(again["thermal"][last], rows["thermal"][3])


def test_rows_that_a_stage_cannot_take_are_found_by_bisection() -> None:
    calls: list[int] = []

    def fussy(rows: Columns) -> Columns:
        calls.append(len(rows["sample_id"]))
        if 5 in rows["sample_id"]:
            raise ValueError("five")
        return {"double": rows["sample_id"] * 2}

    result, found, reasons = faults.survivors(fussy, {"sample_id": np.arange(8)}, "fussy")
    assert result["double"].tolist() == [0, 2, 4, 6, 8, 12, 14]
    assert found.tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert [r for r in reasons if r] == ["error in fussy: ValueError: five"]
    assert reasons[5]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("bad picture"), "row"),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory"),
        (MemoryError(), "memory"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "device"),
        (OSError(28, "No space left on device"), "environment"),
        (EnvironmentFault("weights"), "environment"),
    ],
)
def test_errors_have_kinds(error: Exception, kind: str) -> None:
    assert faults.kind_of(error) == kind


def test_what_the_environment_lacks_is_not_blamed_on_a_row() -> None:
    def broken(rows: Columns) -> Columns:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        faults.survivors(broken, {"sample_id": np.arange(8)}, "broken")


def test_memory_that_runs_out_halves_the_batch_and_marks_the_rows() -> None:
    batches = list[int]()

    class Greedy:
        def __init__(self, *_: object, **__: object) -> None: ...

        def __call__(self, rows: Columns, settings: object, batch: int) -> Columns:
            batches.append(batch)
            if batch > 2:
                raise MemoryError
            return {"seed": rows["sample_id"]}

    link = Link("visible", "visible", "nowhere", Part(kind="greedy"), "", NoOptions(), Flow((), ("seed",)))
    smaller = list[int]()
    result = chain.call_stage(Greedy(), link, 8, smaller, {"sample_id": np.arange(8)})
    assert result["seed"].tolist() == list(range(8))
    assert smaller == [4, 2]
    assert batches == [8, 8, 4, 2]  # once more as it was: what filled the memory may have been freed


def test_a_single_row_for_which_memory_ran_out_is_tried_once_more() -> None:
    """What filled the memory may have been freed; a second time it is the row's own fault."""
    calls = list[int]()

    def unlucky(rows: Columns, settings: object, batch: int) -> Columns:
        calls.append(batch)
        if len(calls) in (1, 3, 4):
            raise MemoryError
        return {"seed": rows["sample_id"]}

    link, smaller = (
        Link("visible", "visible", "nowhere", Part(kind="x"), "", NoOptions(), Flow((), ("seed",))),
        list[int](),
    )
    assert chain.call_stage(unlucky, link, 1, smaller, {"sample_id": np.arange(1)})["seed"].tolist() == [0]
    assert calls == [1, 1] and not smaller
    with pytest.raises(MemoryError):
        chain.call_stage(unlucky, link, 1, smaller, {"sample_id": np.arange(1)})
    assert len(calls) == 4


def test_a_stage_runs_on_the_rows_that_lack_what_it_writes(plan: GeneratePlan) -> None:
    """What the source brings for some rows stays theirs, and the others are computed."""
    rows, bit = plan.partition(0), np.uint64(1 << plan.chain.tracked.index("classes"))
    rows["classes"] = np.full((8, SIZE, SIZE), 7, np.uint8)
    rows["reached"] = np.where(np.arange(8) < 3, bit, np.uint64(0))
    made = chain.Chain(plan.chain, ("visible", "parser"))(rows)
    assert (made["classes"][:3] == 7).all() and (made["classes"][3:] < 2).all()
    assert (made["reached"] & bit == bit).all()


def test_the_writer_takes_nothing_but_whole_partitions(plan: GeneratePlan) -> None:
    rows = run(plan)
    half = {key: values[:5] for key, values in rows.items()}
    with pytest.raises(AssertionError, match="partition 0 has 8 items, the writer was given 5 rows of 5"):
        whole_partition(half, plan)
    twice = {key: np.concatenate([values, values[:1]]) for key, values in rows.items()}
    twice["final"][-1] = True
    with pytest.raises(AssertionError, match="8 items, the writer was given 9 rows of 8"):
        whole_partition(twice, plan)
    mixed = {**rows, "partition": np.arange(len(rows["sample_id"])) % 2}
    with pytest.raises(AssertionError, match="rows of partitions"):
        whole_partition(mixed, plan)


def test_the_same_rows_in_any_order_become_the_same_file(plan: GeneratePlan) -> None:
    rows = run(plan)
    order = np.random.default_rng(0).permutation(len(rows["sample_id"]))
    write_partition(rows, plan, threads=1)
    first = small.shards(Path(plan.out.uri))
    write_partition({key: values[order] for key, values in rows.items()}, plan, threads=4)
    assert small.shards(Path(plan.out.uri)) == first
    assert len(first) == 2


def test_the_writer_orders_attempts_and_counts_what_was_drawn_again(plan: GeneratePlan) -> None:
    """Final rows in plan order, then failed attempts in plan order and each sample's in theirs."""
    block = plan.partition(1)
    # Samples 0 to 7 fail as often as this, of three attempts.
    fails = dict(zip(block["sample_id"], (0, 2, 1, 0, 3, 0, 2, 0), strict=True))
    *others, faces, gates = small.chain_of(plan).stages

    def failing(rows: Columns, settings: Any, batch: int) -> Columns:
        found = faces(rows, settings, batch)
        places = (name.rsplit("/", 1) for name in rows["noise_id"])
        wrong = np.array([int(attempt) < fails[sample] for sample, attempt in places])
        return {**found, "found_embedding": np.where(wrong[:, None], -rows["embedding"], rows["embedding"])}

    rows = chain.Chain(plan.chain, plan.chain.stages, 3, loaded=[*others, failing, gates])(block)
    turned = {key: values[::-1] for key, values in rows.items()}
    _, ordered = whole_partition(turned, plan)
    place = {name: index for index, name in enumerate(block["sample_id"])}
    keys = [(not f, place[n], a) for f, n, a in zip(ordered["final"], ordered["sample_id"], ordered["attempt"])]
    assert keys == sorted(keys)
    assert [a for f, _, a in keys if f] == [0, 1, 0, 0, 1, 0, 1]
    counts = {name: values[0] for name, values in write_partition(turned, plan, threads=1).items()}
    wanted = {"partition": 1, "items": 8, "samples": 8, "rejected": 1, "redrawn": 4, "pairs": 2 * 7}
    assert wanted.items() <= counts.items()
    (facts,) = (one.facts for one in read_commits(plan.out).values())
    assert facts["reasons"] == {"identity too low": 8} and facts["captions"] == {"template": 8}


def test_the_schema_is_what_datasets_would_write(plan: GeneratePlan) -> None:
    from datasets import Features

    schema = arrow_schema(RECORD)
    features = Features.from_arrow_schema(schema)
    assert features.arrow_schema.metadata == schema.metadata
    assert features.arrow_schema.types == schema.types
    rows = chain.stack_rows([run(plan)])
    with ThreadPoolExecutor(1) as threads:
        table = record.encode_pairs(plan.record, rows, np.arange(2), threads)
    again = pq.read_table(io.BytesIO(encode_table(table)))
    wanted = arrow_schema(plan.record.columns)
    assert again.schema.metadata[b"huggingface"] == wanted.metadata[b"huggingface"]
    assert set(RECORD) - set(again.column_names) == {
        "pose_asked",
        "beyond_rooms",
        "picture_licence",
        "consent",
    }  # nobody asked for angles, can ask for rooms, or gave pictures
    thermal = rows["thermal"][0, 1]
    from pipelines.pictures.codecs import decode

    assert np.array_equal(decode(again["thermal"][1].as_py()["bytes"]), thermal)


def test_near_duplicates_of_a_person_are_drawn_again(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    """The second of two pictures that are alike goes, at every attempt that makes it so; another person's may stay."""
    wanted = job("identities.count=2", "gates.identity=-1", "gates.duplicates=0.02")
    plan = small.make_here(wanted, bundle, tmp_path / "out")
    visible, *others = small.chain_of(plan).stages

    def alike(rows: Columns, settings: Any, batch: int) -> Columns:
        made = visible(rows, settings, batch)
        first = np.array([name.endswith("/0") for name in rows["noise_id"]])
        made["visible"][first] = np.arange(SIZE, dtype=np.uint8)[None, None, :, None]
        return made

    rows = chain.Chain(plan.chain, plan.chain.stages, 3, loaded=[alike, *others])(plan.partition(0))
    people, first = rows["identity_id"], rows["attempt"] == 0
    told = np.array([text.startswith("near-duplicate within the person: 0.000") for text in rows["reject"]])
    assert told.any() and first[told].all()
    for person in np.unique(people):
        # Of the first attempts that came so far, one stayed: the others gave way to it.
        mine = first & (people == person) & ((rows["reject"] == "") | told)
        assert mine.sum() - told[mine].sum() == 1
    # What was measured stands in the scores, of those that were taken, too.
    differ = [json.loads(text).get("difference", np.nan) for text in rows["scores"]]
    assert all(value == 0 for value in np.array(differ)[told]) and np.nanmax(differ) >= 0.02
