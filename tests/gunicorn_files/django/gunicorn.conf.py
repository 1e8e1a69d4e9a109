"""gunicorn for the shop, a Django project behind a load balancer that ends TLS."""

import multiprocessing
import os

wsgi_app = "shop.wsgi:application"

bind = "0.0.0.0:8000"
workers = int(os.environ.get("WEB_CONCURRENCY", multiprocessing.cpu_count() * 2 + 1))
timeout = 60
graceful_timeout = 30
keepalive = 5

# Leaks of third-party packages.
max_requests = 1000
max_requests_jitter = 100

# Saves memory; what must not be shared is made anew in post_fork.
preload_app = True

forwarded_allow_ips = "127.0.0.1"
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}

loglevel = os.environ.get("LOG_LEVEL", "info")
accesslog = "-"
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "verbose": {"format": "{levelname}|{name}|{process}|{message}", "style": "{"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "verbose", "stream": "ext://sys.stdout"},
    },
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["console"], "propagate": False, "qualname": "gunicorn.error"},
        "gunicorn.access": {"level": "INFO", "handlers": ["console"], "propagate": False, "qualname": "gunicorn.access"},
        "shop": {"level": "DEBUG", "handlers": ["console"], "propagate": False},
    },
}


def post_fork(server, worker):
    from django.db import connections

    # A connection that was opened while the application was imported belongs to all workers otherwise.
    for connection in connections.all():
        connection.close()
    server.log.info("Worker spawned (pid: %s)", worker.pid)


def worker_exit(server, worker):
    worker.log.info("Worker %s leaves after %d requests", worker.pid, worker.nr)
