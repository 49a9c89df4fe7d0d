"""The chain of a job, resolved from columns: the stages that what is wanted needs and the source does not bring.

    chain = resolve_chain(bundle, given=("visible",), wanted=("thermal",), layers=layers)

Who makes a stage follows from the bundle, what a stage reads and writes from its kind. A column that nobody writes, or that
two stages write, is refused by name before anything starts. Nothing here imports torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel

from models import stages
from models.columns import COLUMNS
from models.errors import UserError
from models.layers import Layer
from models.stages import BY_JOB, CAPTIONS, PARTLESS, STAGES, Flow, NoOptions, Stage
from models.temperature import Unit
from models.weights.bundle import Bundle, Part, fetch, small_files
from pipelines.config.profile import Group, Profile

SOURCE = "source"


@dataclass(frozen=True)
class Link:
    """One stage of a chain: small and picklable, its weights are loaded where it runs."""

    stage: str
    name: str
    """Of its part in the bundle; the stage's own where it needs none."""
    package: str
    part: Part
    folder: str
    """What the part's relative weights are of."""
    settings: BaseModel
    flow: Flow

    def load(self, threads: int) -> Stage:
        """Return the stage, its weights fetched and verified."""
        options = stages.parse_settings(
            stages.import_settings(self.package).Options, self.part.options, f"{self.name}.options"
        )
        make = stages.import_stage(self.package)
        return make(fetch(self.part, self.folder), options, dtype=self.part.dtype, threads=threads)

    def batch(self, attempt: int) -> int:
        """Return the compute batch of an attempt."""
        return self.part.batch if attempt == 0 else self.part.redraw_batch or self.part.batch


@dataclass(frozen=True)
class FaceCut:
    """How faces are cut out of the source's pictures, each a row of its own, before the first stage sees them."""

    link: Link
    """The stage that finds them."""
    faces: int
    """At most so many of a picture, the largest."""
    margin: float
    """What is left around a face on every side, as a share of the longer side of its box."""
    size: int
    """Side of the squares in pixels."""
    frames: "Frames | None" = None
    """How thermal frames are read; None where pictures are visible ones."""


@dataclass(frozen=True)
class Frames:
    """How thermal frames are read whose faces are cut out: as a translate job says, and `grey`, the degrees Celsius for which
    levels 0 and 255 are taken."""

    unit: Unit
    palette: Literal["white-hot", "any"]
    samples: int
    grey: tuple[float, float]


@dataclass(frozen=True)
class ChainSpec:
    """The stages of a job in order, and what its source brings."""

    links: tuple[Link, ...]
    given: tuple[str, ...]
    tracked: tuple[str, ...]
    """The columns of which a row may have some and lack others, in the order of their bits in `reached`."""
    cut: FaceCut | None = None
    """None where a picture of the source is a row."""

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages in order."""
        return tuple(link.stage for link in self.links)

    @property
    def weighted(self) -> tuple[Link, ...]:
        """The stages whose weights the job needs: those of the chain, and the one that finds faces to cut out."""
        return (*self.links, *([self.cut.link] if self.cut else []))

    def link(self, stage: str) -> Link:
        """Return the link of a stage that is in the chain."""
        return next(link for link in self.links if link.stage == stage)

    def part_of(self, names: Sequence[str]) -> "ChainSpec":
        """Return the same chain with the stages `names` alone; the bits of `reached` stay those of the whole."""
        return replace(self, links=tuple(link for link in self.links if link.stage in names))

    def with_settings(
        self, bundle: Bundle, wanted: Mapping[str, Mapping[str, Any]], layers: Sequence[Layer]
    ) -> "ChainSpec":
        """Return the same stages asked for something else. Raises a UserError for another stage, or what one does not know."""
        if unknown := [stage for stage in wanted if stage not in self.stages]:
            raise UserError(f"settings.{unknown[0]}: no stage {unknown[0]!r} here; known: {', '.join(self.stages)}.")
        return chain_spec(
            [_apply_settings(link, bundle, wanted.get(link.stage, {}), layers) for link in self.links], self.given
        )

    @property
    def pipes(self) -> list[tuple[str, str, str, list[tuple[str, str]]]]:
        """(stage, part, kind, [(column read, who writes it)]) of every stage in order."""
        writers = dict.fromkeys(self.given, SOURCE)
        found = []
        # In the order of the chain, so that a column's writer so far is the one that is read.
        for link in self.links:
            there = [name for name in link.flow.reads_if_there if name in writers]
            read = [(name, writers[name]) for name in (*link.flow.reads, *there)]
            found.append((link.stage, link.name, link.part.kind, read))
            writers |= dict.fromkeys(link.flow.writes, link.stage)
        return found

    def __str__(self) -> str:
        lines = [f"{SOURCE}: brings {', '.join(self.given)}"]
        for (stage, part, kind, read), link in zip(self.pipes, self.links, strict=True):
            by = {who: [name for name, writer in read if writer == who] for who in dict.fromkeys(w for _, w in read)}
            reads = "; ".join(f"{', '.join(names)} from {who}" for who, names in by.items())
            home = f"part {part}, {kind}" if link.stage not in PARTLESS else "no part"
            lines.append(f"{stage} ({home}): reads {reads or 'nothing'}; writes {', '.join(link.flow.writes)}")
        return "\n".join(lines)


PIXELS = ("picture", "png", "centikelvin")


def chain_spec(links: Sequence[Link], given: Sequence[str]) -> ChainSpec:
    """Return the chain of `links` over what is `given`."""
    written = [column for link in links for column in link.flow.writes]
    tracked = tuple(dict.fromkeys([*(name for name in given if COLUMNS[name].codec in PIXELS), *written]))
    assert len(tracked) <= 64, "a row's columns no longer fit the bits of `reached`"
    return ChainSpec(tuple(links), tuple(given), tracked)


def resolve_chain(
    bundle: Bundle,
    *,
    given: Sequence[str],
    wanted: Sequence[str],
    optional: Sequence[str] = (),
    layers: Sequence[Layer] = (),
    parts: Mapping[str, str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> ChainSpec:
    """Return the stages that make `wanted`, and those of `optional` that the bundle can make, of what is `given`.

    parts: stage -> part, where two make it. settings: stage -> what is asked of it beyond its part's defaults.

    Raises:
        UserError: a column that nobody writes or two write, an unknown stage, part or setting, a condition that a part
            does not know.
        EnvironmentFault: the small files of weights that say so cannot be read.
    """
    # Names of stages that nobody knows are refused first: they are most often misspelt.
    parts, settings = parts or {}, settings or {}
    for key, names in (("parts", parts), ("settings", settings)):
        for stage in names:
            if stage not in STAGES:
                raise UserError(f"{key}.{stage}: no stage {stage!r}; known: {', '.join(STAGES)}.")
    # What could be made, what of it is needed, and in which order.
    candidates, failures = _candidates(bundle, parts, settings, layers)
    chosen = _choose_links(bundle, candidates, failures, given, wanted, optional)
    if idle := [stage for stage in (*parts, *settings) if stage not in chosen]:
        raise UserError(f"{idle[0]} is asked for something, and no column of this job needs that stage.")
    _check_writers(chosen, given)
    return chain_spec(_order_links(chosen), given)


def _candidates(
    bundle: Bundle,
    parts: Mapping[str, str],
    settings: Mapping[str, Mapping[str, Any]],
    layers: Sequence[Layer],
) -> tuple[dict[str, Link], dict[str, UserError]]:
    """Return the link of every stage that the bundle can make, and why others fail: which matters only if they are needed."""
    found, failures = dict[str, Link](), dict[str, UserError]()
    for stage in STAGES:
        try:
            # The part that makes the stage: the bundle's, or a stand-in for a stage that needs none.
            entry = bundle.part_for(stage, parts)
            if entry is None and stage in PARTLESS:
                entry = stage, Part(kind=PARTLESS[stage], stage=stage)
            if entry is None:
                continue
            # Its link, bare at first: what it reads and writes follows from the settings.
            name, part = entry
            package = stages.package_of(stage, part.kind, f"bundle {bundle.name}: {name}.kind")
            bare = Link(stage, name, package, part, bundle.folder, NoOptions(), Flow((), ()))
            found[stage] = _apply_settings(bare, bundle, settings.get(stage, {}), layers)
        except UserError as error:
            failures[stage] = error
    return found, failures


def _apply_settings(link: Link, bundle: Bundle, wanted: Mapping[str, Any], layers: Sequence[Layer]) -> Link:
    """Return `link` with the settings that its part and `wanted` make, written out, and the columns that follow."""
    kind, where = stages.import_settings(link.package), f"settings.{link.stage}"
    # The part's settings under those that are wanted; layers and size come from the job alone.
    if by_job := sorted(wanted.keys() & set(BY_JOB)):
        raise UserError(f"{where}.{by_job[0]}: conditions and samples of the job, and the bundle's size, say it.")
    by_job_values = {"layers": tuple(layers), "size": bundle.size}
    own = {name: value for name, value in by_job_values.items() if name in kind.Settings.model_fields}
    settings = stages.parse_settings(kind.Settings, {**link.part.settings, **wanted, **own}, where)
    # The columns that follow: the small files of the weights may decide on them.
    options = stages.parse_settings(kind.Options, link.part.options, f"bundle {bundle.name}: {link.name}.options")
    flow = kind.columns(options, settings, small_files(link.part, link.folder))
    if unknown := [name for name in (*flow.reads, *flow.reads_if_there, *flow.writes) if name not in COLUMNS]:
        raise UserError(f"stage {link.stage} ({link.part.kind}): no column {unknown[0]!r} in models/columns.py.")
    return replace(link, settings=settings, flow=flow)


def _choose_links(
    bundle: Bundle,
    candidates: Mapping[str, Link],
    failures: Mapping[str, UserError],
    given: Sequence[str],
    wanted: Sequence[str],
    optional: Sequence[str],
) -> dict[str, Link]:
    """Return the links that `wanted`, and what they read in turn, needs."""
    chosen, there = dict[str, Link](), set(given)
    # Columns that are still to be had: name, who wants it, and whether the job can do without.
    wanted_columns = [(name, "the job", False) for name in wanted] + [(name, "the job", True) for name in optional]
    while wanted_columns:
        column, who, spare = wanted_columns.pop(0)
        if column in there:
            continue
        # Exactly one stage must write it.
        writers = [link for link in candidates.values() if column in link.flow.writes]
        if len(writers) > 1:
            raise UserError(f"column {column} is written by two stages, {' and '.join(w.stage for w in writers)}.")
        if not writers:
            if spare and not failures:
                continue
            raise _no_writer(bundle, failures, column, who)
        # Take that stage, and go on with what it reads.
        link = writers[0]
        chosen[link.stage] = link
        there |= set(link.flow.writes)
        wanted_columns += [(name, f"stage {link.stage}", False) for name in link.flow.reads]
    return chosen


def _no_writer(bundle: Bundle, failures: Mapping[str, UserError], column: str, who: str) -> UserError:
    """Return why nobody writes a column: what went wrong with a stage, else that no part of the bundle does."""
    if failures:
        return next(iter(failures.values()))
    return UserError(
        f"{who} reads column {column}, which the source does not bring and no part of bundle {bundle.name} writes; it has "
        f"parts for: {', '.join(part.stage for part in bundle.parts.values() if part.stage != CAPTIONS) or 'nothing'}."
        if who != "the job"
        else f"column {column} is wanted, and no part of bundle {bundle.name} writes it: add one for the stage that does."
    )


def _check_writers(chosen: Mapping[str, Link], given: Iterable[str]) -> None:
    """Raise a UserError for a column that two write: two stages, or a stage and the source."""
    writers = dict.fromkeys(given, f"the {SOURCE}")
    for link in chosen.values():
        for column in link.flow.writes:
            if column in writers:
                raise UserError(
                    f"column {column} comes from {writers[column]} and is written by stage {link.stage}, too."
                )
            writers[column] = f"stage {link.stage}"


def _order_links(chosen: Mapping[str, Link]) -> tuple[Link, ...]:
    """Return links so that every one comes after those that write what it reads; the table's order breaks ties."""
    left = [chosen[stage] for stage in STAGES if stage in chosen]
    done: list[Link] = []
    # Again and again the first stage that reads nothing of those that are still to come.
    while left:
        missing = {column for link in left for column in link.flow.writes}
        ready = [link for link in left if not missing & {*link.flow.reads, *link.flow.reads_if_there}]
        if not ready:
            raise UserError(
                f"stages {', '.join(link.stage for link in left)} read what one another write: no order fits."
            )
        done.append(ready[0])
        left.remove(ready[0])
    return tuple(done)


def faces_link(bundle: Bundle) -> Link:
    """Return the stage that finds and embeds faces."""
    return resolve_chain(bundle, given=("visible",), wanted=("found_embedding",)).link("faces")


def landmarks_link(bundle: Bundle) -> Link:
    """Return the stage that finds landmarks, by which faces are found in thermal pictures, too."""
    given = ("visible", "thermal", "classes", "bbox")
    return resolve_chain(bundle, given=given, wanted=("landmarks_70",)).link("landmarks")


def check_profile(
    profile: Profile, chain: ChainSpec, attempts: int = 1, setting: str = "gates.attempts"
) -> list[Group]:
    """Return the profile's groups for a chain. setting: where `attempts` comes from.

    Raises:
        UserError: a group that computes on a CPU in several threads (the last bits would depend on how many), or that cuts
            redraws off from the gates.
    """
    groups = profile.assign(chain.stages)
    # Bytes must not depend on a number of threads.
    for group in groups:
        if group.threads > 1 and not group.gpus:
            raise UserError(
                f"profile.groups: {', '.join(group.stages)} would compute on a CPU in {group.threads} threads, and bytes "
                "would depend on that number. Set threads: 1 and raise actors instead; it is faster, too."
            )
    # Redraws stay in one actor.
    if attempts > 1 and "gates" in chain.stages and "gates" not in groups[0].stages:
        together = ", ".join(chain.stages[: chain.stages.index("gates") + 1])
        raise UserError(
            f"profile.groups: samples are drawn again up to {attempts} times by the actor that holds the first stage, "
            f"{chain.stages[0]}, and the gates stand in another group. Put {together} into one group, or set "
            f"{setting}=1."
        )
    return groups


def known_conditions(chain: ChainSpec) -> list[str] | None:
    """Return the words that the thermal stage knows, None where its kind does not say."""
    link = next(link for link in chain.links if "thermal" in link.flow.writes)
    tell = getattr(stages.import_settings(link.package), "conditions", None)
    return None if tell is None else list(tell(small_files(link.part, link.folder)))
