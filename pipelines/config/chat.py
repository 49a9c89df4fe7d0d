"""What captions are asked for, and of which server: any that speaks OpenAI's chat completions (vLLM, Ollama, LiteLLM, ...)."""

import os
import re
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from models.errors import UserError

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
"""An environment variable by its usual spelling. Keys of services have small letters or dashes, so none passes for a name."""

SECRET = re.compile(r"key|secret|passw|authorization|credential", re.IGNORECASE)
"""What a field of a request is called that should not be written down."""


class TextOptions(BaseModel):
    """How a language model samples texts, and which of them are taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(default=0.8, gt=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=110, ge=8)
    attempts: int = Field(default=3, ge=1, le=16)
    """Captions asked for one sample before the grammar writes it."""
    stated: float = Field(default=1.0, ge=0, le=1)
    """Share of the attributes that the reader must find in a caption."""


class ChatOptions(TextOptions):
    """The same of a server, and what only it knows."""

    extra: dict[str, Any] = {}
    """Further fields of each request; null leaves one of the usual ones out: {max_tokens: null, max_completion_tokens: 300}."""


class ChatServer(BaseModel):
    """A server of chat completions. Address, model and options may change a caption, the rest only how it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = ""
    """Address of the API, as in https://host/v1."""
    model: str = ""
    key: str = ""
    """Name of the environment variable that holds the key; none for a server that asks for none."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    concurrency: int = Field(default=8, ge=1, le=1024)
    """Requests under way at once."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds for one answer."""
    patience: float = Field(default=300.0, ge=0)
    """Seconds without any answer after which the server counts as gone and the run stops."""
    options: ChatOptions = ChatOptions()

    @property
    def name(self) -> str:
        """The model in a message."""
        return f"the model {self.model} at {self.url}"

    def read_key(self) -> str:
        """Return the key, "" for none. Raises a UserError that names the variable where it is not set or no header takes it."""
        if not self.key:
            return ""
        value = os.environ.get(self.key, "").strip()
        if not value:
            raise UserError(
                f"captions.key: the environment variable {self.key} is not set; it should hold the server's key."
            )
        if not (value.isascii() and value.isprintable()):
            raise UserError(
                f"captions.key: the environment variable {self.key} holds what no key has: control characters."
            )
        return value


def check_server(server: ChatServer) -> None:
    """Raise ValueError for an address or a key's name that cannot be. No message repeats either: they may hold a secret."""
    if not server.url or not server.model:
        raise ValueError(
            "chat needs url and model, as in {backend: chat, url: https://host/v1, model: NAME, key: VARIABLE}"
        )
    # An address of a server, and nothing secret in it.
    try:
        address = urlsplit(server.url)
        known = address.scheme in ("http", "https") and bool(address.hostname) and (address.port or 1)
    except ValueError:
        known = False
    if not known or not server.url.isprintable() or " " in server.url:
        raise ValueError("url is no address of a server: give one as https://host/v1")
    if address.username or address.password or "@" in address.netloc or "?" in server.url or "#" in server.url:
        raise ValueError(
            "url holds more than an address: a key or password does not belong there, for outputs show it; put it into an "
            "environment variable and name that in key"
        )
    if server.url.rstrip("/").endswith("/chat/completions"):
        raise ValueError("url is the address of the API, without /chat/completions: https://host/v1")
    # What is sent beside a request, and where the key is.
    if any(SECRET.search(name) for name in server.options.extra):
        raise ValueError("options.extra holds what sounds like a secret, and outputs show it: name a variable in key")
    if own := sorted({"model", "messages", "stream"} & set(server.options.extra)):
        raise ValueError(f"options.extra takes no {', '.join(own)}")
    if server.key and not VARIABLE.fullmatch(server.key):
        raise ValueError(
            "key is the name of the environment variable that holds the key, in capitals, never the key itself"
        )
