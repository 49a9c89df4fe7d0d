"""Which of the answers that an endpoint has does the caller want? (RFC 9110, section 12.5.1.)"""

from dataclasses import dataclass, field

from serve.http.problems import ProblemError


@dataclass(frozen=True)
class Media:
    """A media type as it is written, with its parameters but for `q`."""

    type: str
    parameters: dict[str, str] = field(default_factory=dict)
    q: float = 1.0

    def __str__(self) -> str:
        return "; ".join([self.type, *(f"{name}={value}" for name, value in self.parameters.items())])

    def fits(self, offer: "Media") -> int:
        """Return how closely this range names `offer`, 0 for not at all. A range without parameters means the plain one."""
        # From */* over image/* to the type itself, whose parameters have to be the same.
        kind, _, part = self.type.partition("/")
        if self.type != "*/*" and kind != offer.type.partition("/")[0]:
            return 0
        if part == "*":
            return 1 if kind == "*" else 2
        if self.type != offer.type:
            return 0
        return 3 + len(self.parameters) if self.parameters == offer.parameters else 0


def parse_media(text: str) -> Media:
    """Parse one entry of an Accept header."""
    first, *rest = (part.strip() for part in text.split(";"))
    pairs = [(name.strip().lower(), value.strip().strip('"')) for name, _, value in (p.partition("=") for p in rest)]
    try:
        q = min(max(float(dict(pairs).get("q", "1")), 0.0), 1.0)
    except ValueError:
        q = 0.0
    return Media(first.lower(), {name: value.lower() for name, value in pairs if name and name != "q"}, q)


JSON = parse_media("application/json")
PNG = parse_media("image/png")
CENTIKELVIN = parse_media("image/png; unit=centikelvin")
NPY = parse_media("application/x-npy")


def choose_media(accept: str | None, offers: list[Media]) -> Media:
    """Return the offer that the header `accept` likes best, the first of equals; the first without a header.

    Raises:
        ProblemError: 406 with what there is.
    """
    # Every offer has the quality of the range that names it most closely; zero refuses it.
    ranges = [parse_media(part) for part in (accept or "*/*").split(",") if part.strip()] or [parse_media("*/*")]

    def quality(offer: Media) -> float:
        fitting = [(wanted.fits(offer), wanted.q) for wanted in ranges if wanted.fits(offer)]
        return max(fitting)[1] if fitting else 0.0

    best = max(offers, key=quality)
    if quality(best) == 0:
        there = ", ".join(f"'{offer}'" for offer in offers)
        raise ProblemError(
            "not-acceptable", f"Accept names none of the answers there are: {there}", "Ask for one of them."
        )
    return best
