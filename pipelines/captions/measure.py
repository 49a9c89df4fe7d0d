"""How a bundle's caption model does: what it says of what was asked, how distinct, how fast."""

import random
import time

from models.captions.measure import Agreement
from models.captions.sampling import draw_attributes
from models.errors import UserError
from models.seeds import seed_of
from models.weights.bundle import Bundle
from pipelines.captions.choose import clean
from pipelines.captions.engine import EngineSpec, text_seed
from pipelines.captions.pool import Engines
from pipelines.config.captions import writer_of
from pipelines.config.profile import CaptionEngines


def measure(bundle: Bundle, engines: CaptionEngines, count: int = 1000, seed: int = 0) -> dict[str, float]:
    """Return how the bundle's caption model does on `count` attribute sets spread over the vocabulary.

    Shares of first attempts: `captions_agree` (the reader finds every attribute), `attributes_agree` (of all asked),
    `distinct`, `answered`. `tokens_per_second` is counted between the first and the last text, `start_seconds` before.
    """
    part = writer_of(bundle, "llm")
    if part is None:
        raise UserError(f"bundle {bundle.name} has no language model to measure.")
    # Everything is asked for at once, so that the engine's batches are full.
    asked = [draw_attributes(random.Random(seed_of(seed, "measure captions", k))) for k in range(count)]
    requests = [(one, text_seed(seed_of(seed, "measure captions", k), 0)) for k, one in enumerate(asked)]
    began = time.time()
    with Engines(EngineSpec(part, bundle.folder, engines)) as pool:
        written = pool.collect(pool.submit(requests))
    agreement = Agreement()
    for attributes, one in zip(asked, written, strict=True):
        agreement.add(attributes, clean(one.text))
    # The first texts come together and have waited for the engine: their tokens are not of the time that is counted.
    answers = [one for one in written if one.text]
    first, last = (f((one.at for one in answers), default=began) for f in (min, max))
    tokens = sum(one.tokens for one in answers if one.at > first)
    return {
        **agreement.summary(),
        "answered": len(answers) / count,
        "tokens_per_caption": sum(one.tokens for one in answers) / max(1, len(answers)),
        "tokens_per_second": tokens / (last - first) if last > first else 0.0,
        "start_seconds": first - began,
    }
