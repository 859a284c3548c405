# Two images from one file: `--target web` for Fly.io, and `api`, the last, for Cloud Run.
#
# Dependencies come hash-locked from requirements/. torch is the one exception: its builds for
# processors and for CUDA share a version number, so TORCH_INDEX names an index that has one kind
# only. No secret is copied, given as a build argument or written: everything of the sort is read
# from Secret Manager (or from a mounted QUILLGATE_HOME) at run time.

# By tag, so that a build of today has today's security updates of Debian and Python; the packages,
# which are what changes under one's feet, are pinned by hash. Who needs the same base every time pins
# it too: --build-arg BASE_IMAGE=docker.io/library/python@sha256:... (`docker buildx imagetools
# inspect python:3.11-slim-bookworm` tells the digest), and then has to renew it.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm

# Packages are installed here and copied; the installer stays behind.
FROM ${BASE_IMAGE} AS packages
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
# What a new environment brings of its own is in no lock.
RUN python3 -m venv /opt/venv && pip uninstall --yes --quiet setuptools wheel

FROM packages AS web-packages
COPY requirements/web.txt requirements/web.txt
RUN pip install --require-hashes --only-binary :all: -r requirements/web.txt \
    && pip uninstall --yes --quiet pip \
    && find /opt/venv -depth -type d \( -name test -o -name tests \) -exec rm -rf {} +

FROM packages AS api-packages
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-deps --only-binary :all: \
    ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} "${TORCH}"
COPY requirements/api.txt requirements/api.txt
RUN pip install --require-hashes --only-binary :all: -r requirements/api.txt \
    && pip uninstall --yes --quiet pip \
    && find /opt/venv -depth -type d \( -name test -o -name tests \) -exec rm -rf {} +

# What both images have: a numeric user, a place for state, bytecode made at the build only, and
# not the base's own installer.
FROM ${BASE_IMAGE} AS base
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    HOST=0.0.0.0 \
    LOG_FORMAT=json \
    QUILLGATE_HOME=/var/lib/quillgate
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/quillgate \
    && rm -rf /usr/local/bin/pip* /usr/local/bin/wheel /usr/bin/pip* /usr/bin/wheel \
        /usr/share/python-wheels /usr/local/lib/python3*/ensurepip /usr/lib/python3*/ensurepip \
    && find /usr/local/lib /usr/lib/python3 -depth \( -path '*-packages/pip*' \
        -o -path '*-packages/setuptools*' -o -path '*-packages/pkg_resources*' \
        -o -path '*-packages/wheel*' -o -path '*-packages/_distutils_hack*' \
        -o -path '*-packages/distutils-precedence.pth' \) -delete
WORKDIR /app

FROM base AS web
COPY --from=web-packages /opt/venv /opt/venv
COPY auth auth
COPY web web
# Fly.io alone begins as root, to be given its machine's socket, and steps down (web/fly_machine.py).
# Before RUN: podman's cache tells builds apart by what a RUN could see, and not by what USER says.
ARG RUN_AS=10001:10001
RUN python -m compileall -q auth web && python -c 'import auth.__main__, web.asgi'
ENV PORT=8501
EXPOSE 8501
USER ${RUN_AS}
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD \
    ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/_stcore/health', timeout=4)"]
CMD ["python", "-m", "web"]

FROM base AS api
COPY --from=api-packages /opt/venv /opt/venv
COPY auth auth
COPY api api
# Another model: put its folder into models/ and name it here, or with --build-arg.
ARG MODEL=models/demo
COPY ${MODEL} ${MODEL}
# The kernels' machine code too: compiling takes seconds that a start does not have.
RUN python -m compileall -q auth api \
    && python -c 'import auth.__main__, api.app, api.gpt.engine' \
    && python -m api.gpt.kernels every
ENV PORT=8080 MODEL_URI=${MODEL}
EXPOSE 8080
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD \
    ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health', timeout=4)"]
CMD ["python", "-m", "api"]
