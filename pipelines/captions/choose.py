"""Which text a sample takes as its caption: the first that states its attributes and that no other sample of the run has."""

from collections.abc import Callable, Sequence

from models.captions import grammar
from models.captions.measure import normalise_text
from models.captions.reading import disagreements
from models.seeds import seed_of
from pipelines.captions.keys import Keys
from pipelines.config.captions import GRAMMAR, LLM
from pipelines.config.chat import TextOptions

Texts = dict[tuple[int, int], str]
"""(sample, attempt) -> text; one that failed is absent."""
Taken = Keys | set[int]
"""Which texts a run has, as keys."""
Write = Callable[[Sequence[tuple[int, int]]], Texts]


def templates(asked: Sequence[dict[str, str]], seeds: Sequence[int], taken: Taken) -> list[str]:
    """Return a caption of the grammar for each sample, none of them in `taken` (which grows by them) if it can be helped."""
    captions = []
    for attributes, seed in zip(asked, seeds, strict=True):
        tries = (grammar.write_caption(attributes, seed_of(seed, "grammar", k)) for k in range(8))
        captions.append(next((text for text in tries if take(text, taken)), grammar.write_caption(attributes, seed)))
    return captions


def choose(
    asked: Sequence[dict[str, str]], seeds: Sequence[int], write: Write, options: TextOptions, taken: Taken
) -> tuple[list[str], list[str]]:
    """Return (captions, sources) of the samples with `asked` attributes.

    Attempt after attempt, in plan order, a sample takes the first text that states its attributes and is not `taken`; the
    grammar writes for those that are left. So the choice depends on the texts alone.
    """
    captions: dict[int, str] = {}
    for attempt in range(options.attempts):
        waiting = [k for k in range(len(asked)) if k not in captions]
        texts = write([(k, attempt) for k in waiting]) if waiting else {}
        for k in waiting:
            text = clean(texts.get((k, attempt), ""))
            if states(text, asked[k], options.stated) and take(text, taken):
                captions[k] = text
    left = [k for k in range(len(asked)) if k not in captions]
    filled = dict(zip(left, templates([asked[k] for k in left], [seeds[k] for k in left], taken), strict=True))
    whole = [captions.get(k) or filled[k] for k in range(len(asked))]
    return whole, [LLM if k in captions else GRAMMAR for k in range(len(asked))]


def append_words(caption: str, words: str) -> str:
    """Return `caption` with `words` as a last sentence of their own; the caption alone without any."""
    words = words.strip(" .")
    return f"{caption} {words[0].upper()}{words[1:]}." if words else caption


def clean(text: str) -> str:
    """Return `text` on one line, without the quotation marks that chat models like to put around an answer."""
    return " ".join(text.split()).strip("\"'“” ")


def take(text: str, taken: Taken) -> bool:
    """Return whether no sample of the run has this text (case and punctuation aside), and note that one has it now."""
    key = seed_of(normalise_text(text))
    if key in taken:
        return False
    taken.add(key)
    return True


def states(text: str, attributes: dict[str, str], share: float) -> bool:
    """Whether `text` is finished (a cut one has no full stop) and states at least `share` of `attributes`."""
    said = grammar.statable(attributes)
    return text.endswith((".", "!")) and len(disagreements(text, attributes)) <= (1 - share) * len(said) + 1e-9
