"""What recipes of evaluations share."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from models.config import check
from models.errors import UserError

T = TypeVar("T", bound=BaseModel)


def check_training(kind: type[T], given: Mapping[str, Any], own: Mapping[str, Any], evaluation: str) -> T:
    """Return the config of a training: `given` by the user, and the recipe's `own` values.

    Raises UserError for wrong values, and for one that both would say.
    """
    if both := sorted(given.keys() & own.keys()):
        raise UserError(
            f"evaluate {evaluation}: training.{both[0]} is the recipe's own, the same for all rows: leave it out, and choose "
            f"{both[0]} of the recipe or the command where it has one"
        )
    return check(kind, {**given, **own}, f"evaluate {evaluation}: training")
