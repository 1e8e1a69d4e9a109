"""gunicorn in a container: everything from the environment, metrics of all workers on a port of their own."""

import os
import pathlib
import shutil

from prometheus_client import CollectorRegistry, multiprocess, start_http_server

bind = "0.0.0.0:" + os.getenv("PORT", "8080")
workers = int(os.getenv("GUNICORN_WORKERS", "2"))
threads = int(os.getenv("GUNICORN_THREADS", "4"))
worker_class = "gthread"
# Docker's /tmp may be on a disk: https://docs.gunicorn.org/en/stable/faq.html
worker_tmp_dir = "/dev/shm"
graceful_timeout = int(os.getenv("GUNICORN_GRACEFUL_TIMEOUT", "20"))

accesslog = "-"
errorlog = "-"
access_log_format = (
    '{"time": "%(t)s", "remote": "%(h)s", "request": "%(r)s", "status": "%(s)s", "bytes": "%(B)s", "us": "%(D)s"}'
)

metrics_dir = pathlib.Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])


def on_starting(server):
    shutil.rmtree(metrics_dir, ignore_errors=True)
    metrics_dir.mkdir(parents=True)


def when_ready(server):
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    start_http_server(int(os.environ["METRICS_PORT"]), addr="127.0.0.1", registry=registry)


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)


def on_exit(server):
    shutil.rmtree(metrics_dir, ignore_errors=True)
