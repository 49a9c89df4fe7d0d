"""What configurations are without a word from anybody has to pass their own limits, which pydantic does not check of defaults."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

import pipelines.config


def models() -> Iterator[type[BaseModel]]:
    """Yield the configurations that can be made without a value."""
    for found in pkgutil.iter_modules(pipelines.config.__path__, "pipelines.config."):
        module = importlib.import_module(found.name)
        for one in vars(module).values():
            own = isinstance(one, type) and issubclass(one, BaseModel) and one.__module__ == found.name
            if own and not any(field.is_required() for field in one.model_fields.values()):
                yield one


@pytest.mark.parametrize("model", models(), ids=lambda one: one.__name__)
def test_defaults_pass_their_own_limits(model: type[BaseModel]) -> None:
    assert model.model_validate(model().model_dump()) == model()
