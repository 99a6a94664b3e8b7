# Two images: `web` serves pages and queue, `worker` trains. docker-compose.yml builds both.
FROM python:3.11.14-slim-bookworm AS base
# Whoever owns the secret files on the host: a file secret is mounted with its owner and mode.
ARG UID=1000
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --uid "$UID" --create-home trainctl && install -d -o trainctl -m 0700 /var/lib/trainctl
WORKDIR /srv/trainctl
COPY pyproject.toml constraints.txt README.md LICENSE ./
# The dependencies are a layer of their own: two empty packages stand in for the code, which changes more often.
RUN mkdir app worker && touch app/__init__.py worker/__init__.py \
    && pip install -c constraints.txt setuptools \
    && pip install -c constraints.txt --no-build-isolation -e .

FROM base AS web
COPY migrations migrations
COPY templates templates
COPY static static
COPY app app
USER trainctl
VOLUME /var/lib/trainctl
EXPOSE 7860
CMD ["trainctl", "web"]

FROM base AS worker
# Triton builds its launchers with a C compiler the first time a kernel is used.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN pip install -c constraints.txt --no-build-isolation -e ".[worker]"
COPY app app
COPY worker worker
USER trainctl
VOLUME /var/lib/trainctl
CMD ["trainctl", "worker"]
