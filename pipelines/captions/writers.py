"""What writes texts for a job: engines of the bundle's model, or a server. Both are asked alike."""

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from models.weights.bundle import Bundle
from pipelines.captions.chat import ChatClient
from pipelines.captions.engine import EngineSpec
from pipelines.captions.pool import Engines
from pipelines.captions.resident import Answers, Request, Written
from pipelines.config.captions import CHAT, writer_of
from pipelines.config.chat import TextOptions
from pipelines.config.job import GenerateJob
from pipelines.config.profile import CaptionEngines


class Spec(Protocol):
    """What writers are made with."""

    @property
    def options(self) -> TextOptions: ...

    @property
    def name(self) -> str:
        """The model in a message."""


class Writers(Protocol):
    """Whoever answers requests, inside a `with` block."""

    @property
    def spec(self) -> Spec: ...

    @property
    def busy(self) -> bool:
        """Whether there is enough to do for a while."""

    @property
    def hint(self) -> str:
        """What to look at where nothing is answered."""

    def submit(self, requests: Sequence[Request], progress: Callable[[int], None] = ...) -> Answers:
        """Ask, and return what will hold the answers. progress: called with the number of requests as they are answered."""

    def collect(self, answers: Answers) -> list[Written]:
        """Return the texts of `submit`, in the order of its requests, once all are there."""

    def __enter__(self) -> "Writers": ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def open_writers(
    job: GenerateJob, bundle: Bundle, engines: CaptionEngines, stopped: threading.Event | None = None
) -> Writers | None:
    """Return who writes for `job`, not yet started; None where the grammar does. stopped: ends every wait, by Interrupted.

    Raises:
        EnvironmentFault: weights are missing.
        UserError: options are wrong, or the server's key is not there.
    """
    if job.captions.backend == CHAT:
        return ChatClient(job.captions, stopped)
    part = writer_of(bundle, job.captions.backend, job.parts)
    return None if part is None else Engines(EngineSpec(part, bundle.folder, engines), stopped)
