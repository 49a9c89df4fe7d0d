"""A service without Ray: its deployments in this process, behind handles that answer as Ray Serve's do."""

import asyncio
import copy
from typing import Any

from serve.app import Settings, call_rows
from serve.http import codecs
from serve.service import Service
from serve.stage_deployment import StageDeployment


class Method:
    """A method of a handle: `remote` starts it and returns a task, which can be awaited and cancelled."""

    def __init__(self, method: Any) -> None:
        self.method = method

    def remote(self, *asked: Any) -> asyncio.Task:
        # Between processes everything travels as a copy.
        return asyncio.ensure_future(self.method(*copy.deepcopy(asked)))


class Handle:
    """The handle of one replica of `deployment`."""

    def __init__(self, deployment: Any) -> None:
        self.deployment = deployment

    def __getattr__(self, name: str) -> Method:
        return Method(getattr(self.deployment, name))


def local_service(settings: Settings) -> Service:
    """Return a service of `settings` whose deployments of stages have one replica each, in this process."""
    request = settings.load()
    groups = request.profile.assign(request.chain.stages)
    batch, serving = call_rows(request.chain), request.profile.serve
    wait, pixels = serving.batch_wait_ms / 1000, codecs.max_pixels(serving.limits)
    handles = [
        (group.stages, Handle(StageDeployment(request.chain.part_of(group.stages), 1, batch, wait, pixels)))
        for group in groups
    ]
    return Service(request, handles)
