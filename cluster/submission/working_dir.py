"""What goes to a cluster with a job: words that mean the same there, the rooms, and names of secrets, never their values."""

import copy
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from models.config import apply_edit
from models.errors import UserError

SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL", re.IGNORECASE)
LOGIN = re.compile(r"://[^/@\s]+:[^/@\s]+@")


class RayCommand(click.Command):
    """A command that runs on Ray: `submit` takes it to a cluster, `manifest rayjob` to Kubernetes."""


def parse_words(group: click.Group, words: Sequence[str]) -> dict[str, Any]:
    """Return the options of the command of `group` that `words` are: wrong usage is said here, not by the cluster.

    Raises:
        UserError: the command does not run on a cluster, or a word means nothing there, or shows a password.
        click.UsageError: an option is wrong.
    """
    command, params = parse_command(group, words)
    # Whatever names a place has to be there on the cluster, too.
    for option in command.params:
        value = params.get(str(option.name))
        if isinstance(option, click.Option) and isinstance(value, str) and value:
            _check_is_there(option.opts[0], value, str(option.metavar))
    check_edits(params.get("overrides", ()))
    _check_words(words)
    return params


def _check_words(words: Sequence[str]) -> None:
    """Raise a UserError for a word with a password: Ray and Kubernetes show the words of a job to everyone who reaches them."""
    if any(LOGIN.search(word) for word in words):
        raise UserError("a word holds a name and password; jobs show their words to everyone. Use --secret.")


def parse_command(group: click.Group, words: Sequence[str]) -> tuple[click.Command, dict[str, Any]]:
    """Return the command of `group` that `words` are, and its options as it would parse them itself.

    Raises:
        UserError: the command does not run on a cluster. click.UsageError: an option is wrong.
    """
    command = group.commands.get(words[0]) if words else None
    if not isinstance(command, RayCommand):
        known = ", ".join(name for name, one in group.commands.items() if isinstance(one, RayCommand))
        raise UserError(f"after -- comes what to run on the cluster: {known}, with its options.")
    return command, command.make_context(words[0], list(words[1:])).params


def parse_alone(group: click.Group, words: Sequence[str]) -> dict[str, Any]:
    """Return the options of any command of `group` that `words` are, for one that runs alone in a container.

    Whether a file is there is for the container to say.

    Raises:
        UserError: no command, a place that is gone with the container, or a password.
        click.UsageError: an option is wrong.
    """
    command: click.Command = group
    rest = list(words)
    while isinstance(command, click.Group):
        if not rest or rest[0] not in command.commands:
            raise UserError(f"after -- comes what to run: {', '.join(sorted(command.commands))}, with its options.")
        command = command.commands[rest.pop(0)]
    # A copy of the command that takes paths which are not here.
    command = copy.deepcopy(command)
    for option in command.params:
        if isinstance(option.type, click.Path):
            option.type.exists = False
    params = command.make_context(words[0], rest).params
    for option in command.params:
        value = params.get(str(option.name))
        if isinstance(option, click.Option) and value and str(option.metavar) in ("URI", "DIR"):
            _check_is_there(option.opts[0], str(value), "URI")
    check_edits(params.get("overrides") or ())
    _check_words(words)
    return params


def check_edits(edits: Sequence[str]) -> None:
    """Raise a UserError for `key.key=value` edits that name weights, people or pictures of this machine alone."""
    for edit in edits:
        key, _, value = edit.partition("=")
        if key == "thermal" or (key.endswith("identities.source") and value != "reference"):
            _check_is_there(f"--set {key}", value, "URI")
        content: dict[str, Any] = {}
        apply_edit(content, edit)
        for uri in _weights(content):
            if not uri.startswith("hub:"):
                _check_is_there(f"--set {key}", uri, "URI")


def _weights(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield the URI of each set of weights in nested values, however it is written: `weights=URI`, by name, or with more."""
    for key, value in content.items():
        if key == "weights":
            for one in value.values() if isinstance(value, dict) else [value]:
                uri = one.get("uri") if isinstance(one, dict) else one
                if isinstance(uri, str):
                    yield uri
        elif isinstance(value, dict):
            yield from _weights(value)


def _check_is_there(option: str, value: str, metavar: str) -> None:
    """Raise a UserError where the place `value` of an option is not there for a job. metavar: what the option takes."""
    from models.weights.store import ROOT, remote

    # Every node sees object storage, and an absolute path is the user's word that every node mounts it.
    if remote(value) or os.path.isabs(value.removeprefix("file://")):
        return
    # A folder of this checkout would be the copy's, and a file has to be part of what is copied.
    if metavar == "URI":
        raise UserError(
            f"{option} {value}: a job runs in a copy of the repository that is deleted after it. Give an s3:// address, "
            "or an absolute path that every node mounts."
        )
    if "FILE" in metavar and Path(value).is_file() and not (ROOT / value).is_file():
        raise UserError(
            f"{option} {value}: this file does not travel. Put it below {ROOT} and name it from there, or give an "
            "absolute path that every node mounts."
        )


def excludes(bundle: str | None) -> list[str]:
    """Return what stays at home: outputs, tests, and sealed folders of weights that the bundle does not name.

    Patterns of Ray's `excludes`. bundle: None for a command that takes none.

    Raises:
        UserError: the bundle uses weights of this machine that lie among what stays at home.
    """
    from models.weights.bundle import load_bundle, places
    from models.weights.store import ROOT, SEAL, remote
    from pipelines.run.session import EXCLUDED

    if bundle is None or remote(bundle) or os.path.isabs(bundle):
        return list(EXCLUDED)
    # The folders of weights that the bundle uses on this machine.
    chosen = load_bundle(bundle)
    everywhere = [place for part in chosen.parts.values() for place in places(part, chosen.folder).values()]
    used = [place.resolve() for place in everywhere if isinstance(place, Path)]
    for place in used:
        if place.is_relative_to(ROOT / "weights") or place.is_relative_to(ROOT / "out"):
            raise UserError(
                f"bundle {bundle}: {place} does not travel with a job. Upload it, and name it in the bundle by its s3:// "
                "address: each node fetches it once."
            )
    # Every other sealed folder of the repository is left behind.
    sealed = sorted(path.parent for path in (ROOT / "models").rglob(SEAL))
    unused = [one for one in sealed if not any(one.is_relative_to(u) or u.is_relative_to(one) for u in used)]
    return [*EXCLUDED, *(f"/{folder.relative_to(ROOT)}/" for folder in unused)]


def plain_environment(settings: Sequence[str], own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return `NAME=VALUE` settings, or `NAME` with the value it has here, as variables of the job.

    Whoever reaches the dashboard reads them, so a name that sounds like a secret is refused.
    """
    variables = {}
    for setting in settings:
        name, given, value = setting.partition("=")
        if SECRET.search(name):
            raise UserError(
                f"--env {name} sounds like a secret, and the dashboard shows a job's variables to everyone who reaches it. "
                f"Let the cluster's nodes provide it, and say --secret {name}."
            )
        if not given and name not in own:
            raise UserError(f"--env {name}: it has no value here; give one as {name}=VALUE.")
        variables[name] = value if given else own[name]
    return variables
