# An image of Runwait, without a project: docs/deploying.md says how to add one.

FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.txt ./
# All but Runwait itself, in exact versions; a layer that stays as long as these do.
RUN python -m venv /opt/runwait && \
    grep -v '^-e' requirements.txt > pins.txt && \
    /opt/runwait/bin/pip install --no-cache-dir --disable-pip-version-check -r pins.txt
COPY setup.py setup.cfg README.md ./
COPY app app
RUN /opt/runwait/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps .

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home runwait && \
    install --directory --owner=runwait /data
COPY --from=build /opt/runwait /opt/runwait
ENV PATH=/opt/runwait/bin:$PATH PYTHONUNBUFFERED=1 PORT=8000 DATA_DIR=/data
USER runwait
WORKDIR /project
# Where there is no REDIS_URL: the Valkey of its own keeps its files here.
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:%s/ok' % os.environ['PORT'], timeout=4)"]
CMD ["runwait", "serve"]
