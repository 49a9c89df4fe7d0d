# The CPU stack of `make install` as a node of a Ray cluster:
#   docker build -f cluster/images/cpu.Dockerfile -t thermapair:cpu .
FROM python:3.11.14-slim-bookworm

# libnuma: vLLM's CPU kernels; libgl, libglib: OpenCV; wget: KubeRay's probes.
# Versions are those of the base image's release: Debian keeps no older ones.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libnuma1 libgl1 libglib2.0-0 wget \
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
RUN python -m venv /opt/venv && requirements/install.sh /opt/venv && chown -R ray:ray /app

USER 1000
ENV PATH=/opt/venv/bin:$PATH HF_HUB_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1
CMD ["thermapair", "--help"]
