"""Plans of earlier versions: ids, seeds, words and people of a job stay as they were, whatever draws them."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from models.weights.bundle import load_bundle
from pipelines.config.job import GenerateJob, load_job
from pipelines.plan.extend import write_generate_plan
from pipelines.storage.uri import Storage
from tests.pipelines import small

DEMO = load_job("demo", ["captions=template"])
PAIRS = load_job("pairs", ["identities.count=200"])
CHOSEN = small.job("identities.count=40", "views.attributes={beard: [none, full], sex: woman}")

# Digests of each column of the samples, in order, and of the people's ids.
BEFORE = {
    "demo": {
        "sample_id": "c2d32030fafed6a8",
        "identity_id": "692cfec5e21cac4f",
        "view": "6c56702ccc0b8caa",
        "draw": "2fc1d7e09200ebba",
        "seed": "b4f5d9ce28fe2747",
        "attributes": "0b36b81205757729",
        "attributes_source": "c5aaf1fce4bf4f07",
        "people": "6b9279bf433206cd",
    },
    "pairs": {
        "sample_id": "fd526a53837ae9e3",
        "identity_id": "8d50b50259ad143b",
        "view": "910be224b3a5c2ae",
        "draw": "d38f51a1331a8730",
        "seed": "4f5c351d1752c3c6",
        "attributes": "9bfa407426a3391a",
        "attributes_source": "cd53a8416b9da84b",
        "people": "ae684b53ede9c345",
    },
    "test": {
        "sample_id": "d7d22f40d6b745b9",
        "identity_id": "e736136ebe802fa6",
        "view": "e77ef57f2b6cad95",
        "draw": "1ff17ba63018c2cb",
        "seed": "34f358131df07803",
        "attributes": "3e5eaeb72b9c45a9",
        "attributes_source": "fe17a90dd3461e72",
        "people": "46d4da701e0a6593",
    },
}
# The embeddings, as far as processors agree on the last bits: of the first and last person, and of all summed up.
EMBEDDINGS = {
    "demo": ([0.02977435, 0.04048753, 0.0067817, -0.05485692, -0.03522818, -0.01860462], 1.0574642),
    "pairs": ([-0.01259899, -0.02814854, -0.00634495, 0.0131253, -0.1086276, -0.0259774], 12.1219252),
    "test": ([0.0452938, 0.02445772, 0.03317057, -0.03172446, 0.04443192, 0.00596884], 0.7298567),
}


@pytest.mark.parametrize(("job", "bundle"), [(DEMO, "starter"), (PAIRS, "null"), (CHOSEN, "null")])
def test_a_plan_is_the_one_that_earlier_versions_wrote(job: GenerateJob, bundle: str, tmp_path: Path) -> None:
    plan = write_generate_plan(job, load_bundle(bundle), Storage(tmp_path))
    samples = [row for k in range(plan.partitions) for row in plan.sample_table(k).to_pylist()]
    people = [row for k in range(plan.partitions) for row in plan.identity_table(k).to_pylist()]
    found = {name: digest([row[name] for row in samples]) for name in samples[0]}
    assert found | {"people": digest([row["identity_id"] for row in people])} == BEFORE[job.name]
    embeddings = np.array([row["embedding"] for row in people], np.float64)
    few, total = EMBEDDINGS[job.name]
    np.testing.assert_allclose(np.ravel(embeddings[[0, -1], :3]), few, atol=1e-6)
    assert float((embeddings @ np.cos(np.arange(512))).sum()) == pytest.approx(total, abs=1e-4)


def digest(values: list[object]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
