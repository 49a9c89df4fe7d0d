"""From bundle, job and profile to the documents of a manifest: checked here, named or carried along, rendered."""

import os
from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from cluster.manifests import batch, kuberay
from cluster.manifests.launcher import launcher
from cluster.manifests.pods import FOLDER, Setup, config_map
from cluster.manifests.sizes import label_groups
from cluster.submission import working_dir
from models.config import sort_edits
from models.errors import UserError
from models.stages import STAGES
from models.weights.bundle import Bundle, load_bundle, places
from models.weights.store import ROOT, remote
from pipelines.config.captions import check_captions
from pipelines.config.job import JOBS, GenerateJob, load_job
from pipelines.config.profile import Profile, load_profile

PORT = 8000


def documents(
    kind: str,
    bundle: str,
    job: str,
    profile: str,
    *,
    overrides: Sequence[str] = (),
    out: str | None = None,
    name: str = "thermapair",
    image: str | None = None,
    secrets: Sequence[str] = (),
    env: Sequence[str] = (),
    spot: str = "",
    cache: str = "",
    volumes: Sequence[str] = (),
    words: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return the ConfigMap and the RayJob, RayService, RayCluster or Job (`kind`, in lower case) for a bundle, job and profile.

    spot, cache, volumes: as of `pods.Setup`. words: the command that a RayJob runs, checked already, in place of generating, or
    a Job; `bundle` is the one that it names.

    Raises:
        UserError: a file is wrong, weights or output would not be found in a pod, or a variable sounds like a secret.
    """
    # The three files with their edits, checked as a run checks them.
    kuberay.check_name(name)
    models: dict[str, type[BaseModel]] = {"job": GenerateJob, "profile": Profile, "bundle": Bundle}
    edits = sort_edits(overrides, models)
    working_dir.check_edits(overrides)
    load_job(job, edits["job"])
    chosen = load_bundle(bundle, edits["bundle"])
    check_captions(chosen)
    where = label_groups(load_profile(profile, edits["profile"]), tuple(STAGES))
    # How a pod finds them: by a name of the image, or in the ConfigMap. The edits of the profile stand in its file.
    job_words, files = kuberay.file_words("--job", job, JOBS)
    bundle_words, bundle_files = _bundle_words(bundle)
    _check_weights(chosen, in_config_map=bool(bundle_files))
    files |= bundle_files | {"profile.yaml": yaml.safe_dump(where.model_dump(mode="json"), sort_keys=False)}
    profile_words = ["--profile", f"{FOLDER}/profile.yaml"]
    kept = [f"{file}.{edit}" for file in ("job", "bundle") for edit in edits[file]]
    # What every pod has.
    gpus = any(group.gpus for group in where.groups)
    setup = Setup(
        name=name,
        image=image or f"thermapair:{'cuda' if gpus else 'cpu'}",
        environment=working_dir.plain_environment(env),
        secrets=secrets,
        files=files,
        spot=spot,
        cache=cache,
        volumes=volumes,
    )
    # A command without a cluster, the cluster alone, a command or `generate` with a cluster of its own, or the service.
    if kind == "job":
        body = batch.job(where, setup, _replace_bundle(words, bundle_words))
    elif kind == "raycluster":
        body = kuberay.ray_cluster(where, setup)
    elif kind == "rayjob" and words:
        if any(word.partition("=")[0] == "--profile" for word in words):
            raise UserError("--profile stands before the --: it sizes the worker groups, too.")
        body = kuberay.ray_job(where, setup, [*_replace_bundle(words, bundle_words), *profile_words])
    elif kind == "rayjob":
        words = [*bundle_words, *job_words, *profile_words, "--out", _check_out(out)]
        words += [word for edit in kept for word in ("--set", edit)]
        body = kuberay.ray_job(where, setup, ["generate", *words])
    else:
        config = _serve_config(bundle, job, profile, overrides, secrets)
        pod = {"bundle": bundle_words[1], "job": job_words[1], "profile": profile_words[1]}
        config["applications"][0]["args"] = {**pod, "overrides": kept}  # the same files, where a pod finds them
        body = kuberay.ray_service(where, setup, yaml.safe_dump(config, sort_keys=False))
    return [config_map(setup), body]


def launcher_of(
    profile: str, overrides: Sequence[str], name: str, image: str | None, region: str, spot: str
) -> dict[str, Any]:
    """Return the configuration of a cluster on AWS for a profile, as `ray up` takes it."""
    kuberay.check_name(name)
    if not image or "/" not in image:
        raise UserError("a launcher needs --image, in a registry that machines on AWS can pull from.")
    edits = sort_edits(overrides, {"profile": Profile})["profile"]
    where = label_groups(load_profile(profile, edits), tuple(STAGES))
    return launcher(name, where, image, region, bool(spot))


def _replace_bundle(words: Sequence[str], bundle_words: Sequence[str]) -> list[str]:
    """Return a command with its --bundle, written with a space or `=`, as it is found in a pod."""
    replaced = [part for word in words for part in (word.split("=", 1) if word.startswith("--bundle=") else [word])]
    if "--bundle" in replaced:
        place = replaced.index("--bundle")
        replaced[place : place + 2] = bundle_words
    return replaced


def _serve_config(
    bundle: str, job: str, profile: str, overrides: Sequence[str], secrets: Sequence[str]
) -> dict[str, Any]:
    """Return what `thermapair serve --config-out` writes; other machines reach a RayService, so it needs a key."""
    from serve import app
    from serve.http.middleware import KEY_VARIABLE

    if not secrets:
        raise UserError(
            f"a rayservice is reached by others: name the secret with its API key, --secret {KEY_VARIABLE}=SECRET:KEY."
        )
    settings = app.Settings(bundle=bundle, profile=profile, job=job, overrides=list(overrides))
    return app.config(settings, "0.0.0.0", PORT)


def _check_out(out: str | None) -> str:
    """Return `out`; a UserError where a pod could not write there, or it would be gone with the pod."""
    if out and (remote(out) or os.path.isabs(out.removeprefix("file://"))):
        return out
    raise UserError("a rayjob needs --out with an s3:// address, or an absolute path that every node mounts.")


def _bundle_words(bundle: str) -> tuple[list[str], dict[str, str]]:
    """Return (words, files) as `kuberay.file_words`; a URI is read where the pod is."""
    if remote(bundle) or (ROOT / "models" / bundle / "bundle.yaml").is_file():
        return ["--bundle", bundle], {}
    return kuberay.file_words("--bundle", bundle, ROOT / "models" / "bundles")


def _check_weights(bundle: Bundle, in_config_map: bool) -> None:
    """Raise a UserError for weights that lie neither in the image nor where a pod could fetch them.

    in_config_map: the bundle's file goes there, away from folders that it names relative to itself.
    """
    for name, part in bundle.parts.items():
        for one, place in places(part, bundle.folder).items():
            if isinstance(place, str) or os.path.isabs(part.weights[one].uri.removeprefix("file://")):
                continue
            if in_config_map or not place.resolve().is_relative_to(ROOT / "models"):
                which = f"the weights {one} of {name}" if len(part.weights) > 1 else f"the weights of {name}"
                raise UserError(
                    f"bundle {bundle.name}: {which} ({place}) are not in the image. Upload them and name them by their "
                    "s3:// address, or give an absolute path of the image."
                )
