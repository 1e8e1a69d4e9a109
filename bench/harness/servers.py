"""The servers: how each is started, with one worker process and, where there is a choice, one thread.

Settings differ from a server's defaults only where the default would not let it take part (a listen backlog of 5, ten
keep-alive connections at most) or would cost it something that the others do not do (an access log).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.environment import APPS, BENCH, FLOOR, VENV

PYTHON = str(VENV / "bin" / "python")
# The workloads that need no more than the hello app: bare heads in, hello out.
HELLO_ONLY = frozenset({"hello", "browser", "pipeline", "close", "single"})


@dataclass(frozen=True)
class Launch:
    """What a command line is made from."""

    port: int
    app: str
    access_log: Path | None
    """Where to log requests; None: log nothing."""
    is_observed: bool = False
    """Log them as JSON, and name each; for a server that can."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Server:
    """One row of the tables."""

    name: str
    command: Callable[[Launch], list[str]]
    remark: str = ""
    """How it is run, where that is not plain from its name."""
    only: frozenset[str] | None = None
    """The workloads it takes part in; None: all."""
    logs: bool = False
    """Whether it has an access log. Those without run the `log` workload as they are."""
    prints_log: bool = False
    """Its access log goes to its stdout, which is a file here."""
    peer: bool = True
    """Whether it is somebody else's WSGI server, so that it counts for "the best peer"."""

    def takes_part_in(self, workload_name: str) -> bool:
        return self.only is None or workload_name in self.only


def minicorn(binary: Path, name: str = "minicorn") -> Server:
    """minicorn, from any build of it."""

    def command(launch: Launch) -> list[str]:
        target = [str(binary), f"{launch.app}:app", "--bind", launch.address, "--workers", "1"]
        observed = []
        if launch.is_observed:
            names = ["--request-id-header", "X-Request-ID"]
            observed = ["--access-logformat", "json", *names, "--admin-bind", "127.0.0.1:0"]
        return [*target, "--chdir", str(APPS), "--access-logfile", str(launch.access_log or "none"), *observed]

    return Server(name, command, logs=True, peer=False)


def floor(launch: Launch) -> list[str]:
    return [str(FLOOR), str(launch.port)]


def granian(launch: Launch) -> list[str]:
    address = ["--host", "127.0.0.1", "--port", str(launch.port)]
    one_each = ["--workers", "1", "--runtime-threads", "1", "--blocking-threads", "1"]
    log = "--access-log" if launch.access_log else "--no-access-log"
    protocols = ["--interface", "wsgi", "--http", "1", "--no-ws"]
    return [script("granian"), *protocols, *address, *one_each, log, f"{launch.app}:app"]


def uwsgi(launch: Launch) -> list[str]:
    process = ["--master", "--processes", "1", "--die-on-term", "--need-app"]
    log = ["--logto", str(launch.access_log)] if launch.access_log else ["--disable-logging"]
    return [script("uwsgi"), "--http11-socket", launch.address, *process, *log, "--module", f"{launch.app}:app"]


def gunicorn(*worker: str) -> Callable[[Launch], list[str]]:
    def command(launch: Launch) -> list[str]:
        log = ["--access-logfile", str(launch.access_log)] if launch.access_log else []
        process = ["--bind", launch.address, "--workers", "1", *worker, "--no-control-socket"]
        return [script("gunicorn"), *process, *log, f"{launch.app}:app"]

    return command


def embedded(name: str) -> Callable[[Launch], list[str]]:
    """A server that is a Python function: serve.py calls it."""

    def command(launch: Launch) -> list[str]:
        log = [str(launch.access_log)] if launch.access_log else []
        return [PYTHON, str(BENCH / "serve.py"), name, launch.app, str(launch.port), *log]

    return command


def script(name: str) -> str:
    return str(VENV / "bin" / name)


def all_servers(binary: Path) -> list[Server]:
    """Every server, in the order of the tables."""
    # Nobody runs gthread with one thread: it would be the sync worker with a poller in front.
    gthread = gunicorn("--worker-class", "gthread", "--threads", "4")
    handler_only = HELLO_ONLY | {"log"}
    return [
        Server("floor", floor, "no Python, no parsing", only=HELLO_ONLY, peer=False),
        minicorn(binary),
        Server("bjoern", embedded("bjoern")),
        Server("fastwsgi", embedded("fastwsgi")),
        Server("granian", granian, "1 runtime and 1 blocking thread", logs=True, prints_log=True),
        Server("uwsgi", uwsgi, "--http11-socket", logs=True),
        Server("gunicorn-sync", gunicorn("--worker-class", "sync"), logs=True),
        Server("gunicorn-gthread", gthread, "4 threads", logs=True),
        Server("waitress", embedded("waitress"), "1 thread"),
        Server("cheroot", embedded("cheroot"), "1 thread, 1,000 keep-alive connections instead of 10"),
        Server("wsgiref", embedded("wsgiref"), "simple_server, backlog 1,024 instead of 5", logs=True),
        Server(
            "http.server", embedded("http.server"), "no WSGI, a thread for each connection", handler_only, logs=True
        ),
    ]
