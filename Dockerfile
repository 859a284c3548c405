# Two images from one file: `--target web` for Fly.io, and `api`, the last, for Cloud Run.
#
# Dependencies come hash-locked from requirements/. torch is the one exception: its builds for
# processors and for CUDA share a version number, so TORCH_INDEX names an index that has one kind
# only. No secret is copied, given as a build argument or written: everything of the sort is read
# from Secret Manager (or from a mounted QUILLGATE_HOME) at run time.

ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm

# What both have: a numeric user without a shell, a place for state, bytecode made at build only.
FROM ${BASE_IMAGE} AS base
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    HOST=0.0.0.0 \
    LOG_FORMAT=json \
    QUILLGATE_HOME=/var/lib/quillgate
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/quillgate
WORKDIR /app

# Packages are installed by the base's pip into a folder that has none, and then copied.
FROM base AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv --without-pip /opt/venv

FROM packages AS web-packages
COPY requirements/web.txt requirements/web.txt
RUN python3 -m pip --python /opt/venv/bin/python install \
    --require-hashes --only-binary :all: -r requirements/web.txt

FROM packages AS api-packages
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python3 -m pip --python /opt/venv/bin/python install \
    --no-deps --only-binary :all: ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} "${TORCH}"
COPY requirements/api.txt requirements/api.txt
RUN python3 -m pip --python /opt/venv/bin/python install \
    --require-hashes --only-binary :all: -r requirements/api.txt

FROM base AS web
COPY --from=web-packages /opt/venv /opt/venv
COPY auth auth
COPY web web
RUN python3 -m compileall -q auth web
ENV PORT=8501
EXPOSE 8501
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD \
    ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/_stcore/health', timeout=4)"]
CMD ["python", "-m", "web"]

FROM base AS api
COPY --from=api-packages /opt/venv /opt/venv
COPY auth auth
COPY api api
COPY models/demo models/demo
RUN python3 -m compileall -q auth api
ENV PORT=8080
EXPOSE 8080
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD \
    ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health', timeout=4)"]
CMD ["python", "-m", "api"]
