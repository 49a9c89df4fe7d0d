# The same stack on CUDA: torch, vLLM and onnxruntime in their GPU builds bring the CUDA libraries, the node its driver.
#   docker build -f cluster/images/cuda.Dockerfile -t thermapair:cuda .
FROM python:3.11.14-slim-bookworm

# gcc and libc6-dev: Triton compiles its launchers; libgl, libglib: OpenCV; wget: KubeRay's probes.
# Versions are those of the base image's release: Debian keeps no older ones.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev libnuma1 libgl1 libglib2.0-0 wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home ray

WORKDIR /app
COPY requirements requirements
COPY pyproject.toml README.md LICENSE ./
COPY cluster cluster
COPY serve serve
COPY pipelines pipelines
COPY models models
ENV PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv && requirements/install.sh /opt/venv cuda && chown -R ray:ray /app

USER 1000
ENV PATH=/opt/venv/bin:$PATH RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
CMD ["thermapair", "--help"]
