"""The service as a Ray Serve application: one deployment per stage group of the profile, one for captions, and the HTTP side.

    serve run serve.app:build bundle=starter profile=laptop

is what `thermapair serve` does on one machine; `serve deploy` and a RayService take the file of `--config-out`.
"""

import os
from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict
from ray import serve as ray_serve
from ray.serve.config import AutoscalingConfig, BackpressureConfig, HTTPOptions
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig, ServeDeploySchema

from models.errors import UserError
from models.stages import PARTLESS
from models.weights.bundle import Part, fetch, pin
from pipelines.captions.engine import environment
from pipelines.config.captions import CHAT, writer_of
from pipelines.config.chain import ChainSpec, check_profile
from pipelines.config.profile import Group
from pipelines.config.request import Request, check_request, load_request
from pipelines.run.kernels import name_kernels, open_scans, probe_links
from pipelines.run.session import ENVIRONMENT
from serve import pairs_request
from serve.api import create_app
from serve.caption_deployment import CaptionDeployment
from serve.http import codecs
from serve.http.middleware import KEY_VARIABLE, is_loopback
from serve.http.problems import ProblemError
from serve.http.requests import PairsRequest
from serve.service import Service, call_rows, calls_at_once
from serve.stage_deployment import StageDeployment

NAME = "thermapair"
QUIET = LoggingConfig(enable_access_log=False)
"""Of Ray Serve's processes, each of which would write a line for a request; the gateway writes one that says more."""
ENGINE = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "1", "RAY_SERVE_LOG_TO_STDERR": "1"}
"""Ray Serve's defaults, for a replica with an engine: Ray Serve's own loop need not stand still for the minute that it takes to
start, and vLLM writes to a real stderr.
"""
SLACK_SECONDS = 30
"""How much longer Ray Serve waits for a request than the service, whose own answers say more."""


class Settings(BaseModel):
    """What is served and with what: names or paths of YAML files, and `key.key=value` edits of them.

    job: what a request leaves open (conditions, settings, gates, who writes captions).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str = "starter"
    profile: str = "laptop"
    job: str = "demo"
    overrides: list[str] = []

    def load(self) -> Request:
        """Return the three files and the chain of pairs, checked.

        Raises:
            UserError: one of them is wrong, or the profile cuts off from the gates the redraws that requests may ask for, or
                the job's captions are written by a server.
        """
        request = load_request(self.bundle, self.profile, self.job, self.overrides)
        if request.job.captions.backend == CHAT:
            raise UserError(
                "captions.backend: chat is for jobs; the service writes by the bundle's model (llm) or template."
            )
        attempts = request.profile.serve.limits.attempts
        check_profile(request.profile, request.chain, attempts, "profile.serve.limits.attempts")
        return request


@ray_serve.ingress()
class Gateway:
    """The HTTP side. It takes the API key from the environment of the node that it runs on."""

    def __init__(
        self,
        request: Request,
        stage_deployments: Sequence[tuple[Sequence[str], DeploymentHandle]],
        caption_deployment: DeploymentHandle | None,
    ) -> None:
        self.service = Service(request, stage_deployments, caption_deployment)

    def __serve_build_asgi_app__(self) -> Any:
        """Return the application; Ray Serve calls it once, when the replica starts."""
        return create_app(self.service, os.environ.get(KEY_VARIABLE, ""))


def build(settings: Settings) -> ray_serve.Application:
    """Return the application of a bundle and a profile.

    Raises:
        UserError: one of the files is wrong, or a request that leaves everything open is over the service's own limits.
        EnvironmentFault: weights are not there.
    """
    request = settings.load()
    written = writer_of(request.bundle, request.job.captions.backend, request.job.parts)
    captions = [name for name, part in request.bundle.parts.items() if part is written]
    request = settle(request, captions)
    # A deployment for every group, one for captions if a model writes them, and the HTTP side over all.
    serving = request.profile.serve
    served = pairs_request.served_chain(request.chain, request.bundle)
    groups = check_profile(request.profile, served)
    stage_deployments = [(group.stages, bind_stages(group, served, request)) for group in groups]
    caption_deployment = bind_captions(request.bundle.parts[captions[0]], request) if captions else None
    gateway = ray_serve.deployment(Gateway).options(
        name="gateway",
        num_replicas=serving.gateways,
        max_ongoing_requests=16 * serving.queue,
        max_queued_requests=16 * serving.queue,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=serving.retry_seconds),
        ray_actor_options={"num_cpus": 0.1, "runtime_env": {"env_vars": ENVIRONMENT}},
        logging_config=QUIET,
    )
    return gateway.bind(request, stage_deployments, caption_deployment)


def settle(request: Request, captions: Sequence[str]) -> Request:
    """Return `request` with what its parts leave open written out: the weights by digest, fetched, and kernels of scans.

    captions: the parts that write them. Raises as `build`.
    """
    # Weights in use are held to what they are now, and fetched before anything starts: missing ones are said at once.
    links = pairs_request.served_chain(request.chain, request.bundle).links
    used = [*captions, *(link.name for link in links if link.stage not in PARTLESS)]
    request = check_request(request.job, pin(request.bundle, used), request.profile)
    for name in used:
        fetch(request.bundle.parts[name], request.bundle.folder)
    check_defaults(request)
    # Kernels are chosen where the replicas will run, once for all of them.
    served = pairs_request.served_chain(request.chain, request.bundle)
    chosen = probe_links([link for link in served.links if open_scans(link)], served, request.profile)
    return check_request(request.job, name_kernels(request.bundle, chosen), request.profile)


def check_defaults(request: Request) -> None:
    """Raise a UserError where a request that leaves everything open would be over the service's own limits."""
    limits = request.profile.serve.limits
    try:
        pairs_request.resolve_pairs(PairsRequest(), request.job, request.chain, request.bundle, limits)
    except ProblemError as error:
        raise UserError(
            f"requests that leave everything open are over profile.serve.limits: {error.detail}. Raise the limit, or lower "
            "what the job says."
        ) from None


def bind_stages(group: Group, served: ChainSpec, request: Request) -> ray_serve.Application:
    """Return the deployment of one stage group of the chain `served`.

    It has the replicas and resources that the profile gives the group's actors.
    """
    serving, (least, most) = request.profile.serve, group.actors
    rows = call_rows(request.chain)
    # A replica is an actor of the jobs: the same resources on the same nodes, with the same threads.
    actor: dict[str, Any] = {
        "num_cpus": group.cpus,
        "num_gpus": group.gpus,
        **group.selector,
        "runtime_env": {"env_vars": {**ENVIRONMENT, "OMP_NUM_THREADS": str(group.threads)}},
    }
    if group.memory_mb:
        actor["memory"] = group.memory_mb * 2**20
    # As many replicas as a job has actors; between the least and the most, by how many requests wait.
    deployment = ray_serve.deployment(StageDeployment).options(
        name="-".join(group.stages),
        max_ongoing_requests=calls_at_once(request.chain),
        max_queued_requests=serving.queue,
        ray_actor_options=actor,
        graceful_shutdown_timeout_s=serving.request_seconds,
        logging_config=QUIET,
        **(
            {"num_replicas": least}
            if least == most
            else {
                "autoscaling_config": AutoscalingConfig(
                    min_replicas=least, max_replicas=most, target_ongoing_requests=2 * rows
                )
            }
        ),
    )
    wait, pixels = serving.batch_wait_ms / 1000, codecs.max_pixels(serving.limits)
    thermal = pairs_request.thermal_faces(request.bundle)
    return deployment.bind(served.part_of(group.stages), group.threads, rows, wait, pixels, thermal)


def bind_captions(part: Part, request: Request) -> ray_serve.Application:
    """Return the deployment of the caption model, an engine a replica."""
    # An engine takes as many attribute sets at once as its batch; Ray Serve keeps the others waiting.
    engines = request.profile.captions
    deployment = ray_serve.deployment(CaptionDeployment).options(
        name="captions",
        num_replicas=engines.engines,
        max_ongoing_requests=engines.batch,
        max_queued_requests=request.profile.serve.queue,
        ray_actor_options={
            "num_cpus": engines.cpus,
            "num_gpus": engines.gpus,
            "runtime_env": {"env_vars": {**ENVIRONMENT, **environment(engines), **ENGINE}},
        },
        logging_config=QUIET,
    )
    return deployment.bind(part, request.bundle.folder, engines)


def config(settings: Settings, host: str, port: int) -> dict[str, Any]:
    """Return the Serve configuration that deploys `settings`, checked against Ray's own schema.

    The API key is no part of it: it is the environment variable of the nodes. `args` may be edited as the command's options.
    """
    profile = settings.load().profile
    # Every node of a cluster answers; the service gives up on a request before Ray Serve does.
    content = {
        "proxy_location": "EveryNode",
        "http_options": {
            "host": host,
            "port": port,
            "request_timeout_s": profile.serve.request_seconds + SLACK_SECONDS,
        },
        "logging_config": QUIET.model_dump(mode="json", include={"enable_access_log"}),
        "applications": [
            {
                "name": NAME,
                "route_prefix": "/",
                "import_path": f"{__name__}:build",
                "args": settings.model_dump(mode="json"),
            }
        ],
    }
    ServeDeploySchema.model_validate(content)
    return content


def config_text(settings: Settings, host: str, port: int) -> str:
    """Return `config` as YAML."""
    return yaml.safe_dump(config(settings, host, port), sort_keys=False)


def start(settings: Settings, host: str = "127.0.0.1", port: int = 8000, *, wait: bool = True) -> None:
    """Start the service on the Ray that runs; returns when it is ready, or at once with `wait` false.

    Raises:
        UserError: other machines are to reach it and there is no API key, or a file or the weights are wrong.
    """
    # Everything that can be refused is refused before Ray Serve starts.
    check_host(host)
    application = build(settings)
    seconds = settings.load().profile.serve.request_seconds + SLACK_SECONDS
    ray_serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(host=host, port=port, request_timeout_s=seconds),
        logging_config=QUIET,
    )
    ray_serve.run_many(
        [ray_serve.RunTarget(application, name=NAME, route_prefix="/")], wait_for_applications_running=wait
    )


def check_host(host: str) -> None:
    """Raise a UserError if `host` can be reached from other machines and nothing asks for a key."""
    if not is_loopback(host) and not os.environ.get(KEY_VARIABLE):
        raise UserError(
            f"--host {host} lets other machines in, and no API key is set. Put one into the environment variable "
            f"{KEY_VARIABLE}, or keep to --host 127.0.0.1."
        )
