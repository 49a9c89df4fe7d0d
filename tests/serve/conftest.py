"""What the service of the tests is started with."""

from serve.app import Settings

OPEN_GATES = "{attempts: 1, identity: -1, detection: 0, faces: 99, face_area: [0, 1], celsius: [-50, 90], clipped: 1}"
SETTINGS = Settings(
    overrides=[
        "profile.groups=[{stages: [visible, parser, thermal, faces, gates], actors: [1, 1], cpus: 1, threads: 1}]",
        "profile.captions.threads=1",
        "profile.serve.queue=8",
        "profile.serve.batch_wait_ms=300",
        "profile.serve.limits={body_mb: 1, pictures: 3, megapixels: 1, views: 4, steps: 8, attempts: 2, captions: 4}",
        "bundle.visible.batch=4",
        "job.sampling.steps=2",
        f"job.gates={OPEN_GATES}",
    ]
)
"""The laptop's profile with one replica, low limits and few steps, so that what is refused and queued can be foretold."""
