"""Counts its requests, and the workers that live."""

import os

from prometheus_client import Counter, Gauge

REQUESTS = Counter("requests", "Requests answered")
ALIVE = Gauge("workers_alive", "Workers that have imported this", multiprocess_mode="livesum")
ALIVE.set(1)


def app(environ, start_response):
    REQUESTS.inc()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
