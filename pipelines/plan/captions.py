"""The captions of a plan: chunks of partitions, each committed as one file once all of it is written.

_plan/captions/part-00000.parquet   a row group per partition: caption, caption_source
_plan/captions/part-00000.json      how long it took, and when it was committed
"""

import json
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import EnvironmentFault
from pipelines.config.job import GenerateJob
from pipelines.plan.stored import ChainPlan
from pipelines.storage.errors import fault, remote

FOLDER = "_plan/captions"


class CaptionedPlan(ChainPlan[GenerateJob]):
    """A plan whose samples have captions, which are written after it, chunk by chunk."""

    def captions(self, partition: int) -> pa.Table:
        """Return caption and caption_source (llm | grammar | template) of `partition`, in the order of its samples.

        Where the language model invents, attributes and attributes_source, too, which go before the plan's.

        Raises:
            EnvironmentFault: their file is missing or damaged.
        """
        number, place = self.pieces.home(partition)
        chunk, row_group = self.pieces.found[number].chunk_of(place)
        with self._open_captions(chunk) as file:
            return file.read_row_group(row_group)

    def captions_of(self, chunk: int) -> list[str]:
        """Return the captions of a whole chunk, in order; raises what `captions` raises."""
        with self._open_captions(chunk) as file:
            return list(file.read(columns=["caption"])["caption"].to_pylist())

    @contextmanager
    def _open_captions(self, chunk: int) -> Iterator[pq.ParquetFile]:
        path = self.out.path(_chunk_file(chunk))
        try:
            with pq.ParquetFile(path, filesystem=self.out.arrow) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            if remote(error):
                raise fault(error, path, "read") from error
            raise EnvironmentFault(
                f"{path} is damaged or missing: it holds the captions that pairs are made from. Restore it from a copy, or "
                "delete it and run the same command again: captions are written anew, and finished pairs keep theirs."
            ) from error

    def chunks(self) -> Iterator[tuple[int, range]]:
        """Yield (chunk, its partitions) of all chunks of captions, in order."""
        for piece in self.pieces.found:
            for chunk in range(piece.first_chunk, piece.first_chunk + len(piece.chunks)):
                yield chunk, piece.partitions_of(chunk)

    def partitions_of(self, chunk: int) -> range:
        """Return the partitions whose captions are in `chunk`."""
        number = bisect_right([piece.first_chunk for piece in self.pieces.found], chunk) - 1
        return self.pieces.found[number].partitions_of(chunk)

    def chunk_of(self, partition: int) -> int:
        """Return the chunk that holds the captions of `partition`."""
        number, place = self.pieces.home(partition)
        return self.pieces.found[number].chunk_of(place)[0]

    def is_captioned(self, chunk: int) -> bool:
        """Whether the captions of `chunk` are committed."""
        return self.out.exists(_chunk_file(chunk))

    def list_captioned(self) -> set[int]:
        """Return the chunks whose captions are committed."""
        there = set(self.out.list(FOLDER))
        return {chunk for chunk, _ in self.chunks() if _chunk_file(chunk) in there}

    def read_uncaptioned(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield (chunk, sample table) of the chunks that have no captions yet."""
        done = self.list_captioned()
        for chunk, partitions in self.chunks():
            if chunk not in done:
                yield chunk, pa.concat_tables(self.sample_table(k) for k in partitions)

    def save_captions(
        self,
        chunk: int,
        captions: list[str],
        sources: list[str],
        seconds: float = 0.0,
        invented: Mapping[str, list[str]] | None = None,
    ) -> None:
        """Commit the captions of `chunk`, who wrote them and the seconds it took, one per row of its table.

        invented: columns of samples that stand in the place of the plan's (`attributes`, `attributes_source`). The first to
        commit wins.
        """
        # One row for every sample of the chunk's partitions.
        sizes = [self.rows(k) for k in self.partitions_of(chunk)]
        if len(captions) != sum(sizes):
            raise ValueError(f"chunk {chunk} has {sum(sizes)} samples, not {len(captions)}")
        # A row group for each partition, so that workers read theirs alone.
        columns = {"caption": pa.array(captions, pa.string()), "caption_source": pa.array(sources, pa.string())}
        columns |= {name: pa.array(values, pa.string()) for name, values in (invented or {}).items()}
        table, sink, start = pa.table(columns), pa.BufferOutputStream(), 0
        with pq.ParquetWriter(sink, table.schema) as writer:
            for size in sizes:
                writer.write_table(table.slice(start, size), row_group_size=size)
                start += size
        # Of two drivers the first wins, and only the winner notes its time.
        if self.out.create(_chunk_file(chunk), sink.getvalue().to_pybytes()):
            self.out.write(
                f"{FOLDER}/part-{chunk:05d}.json", json.dumps({"seconds": seconds, "ended": time.time()}).encode()
            )

    def caption_notes(self) -> dict[int, tuple[float, float]]:
        """Return chunk -> (seconds that it took, unix seconds at which it was committed) of all runs together.

        Raises EnvironmentFault for a damaged note.
        """
        notes = {}
        for name in self.out.list(FOLDER):
            if name.endswith(".json"):
                try:
                    note = json.loads(self.out.read(name))
                    notes[int(name[-10:-5])] = float(note["seconds"]), float(note["ended"])
                except (ValueError, TypeError, KeyError):
                    raise EnvironmentFault(
                        f"{self.out.shown(name)} is damaged. Delete it and run the same command again: it only says how long "
                        "captions took."
                    ) from None
        return notes


def _chunk_file(chunk: int) -> str:
    return f"{FOLDER}/part-{chunk:05d}.parquet"
