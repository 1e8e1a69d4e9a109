"""A prefork WSGI server: gunicorn's command line, a C server's speed.

``minicorn.run(app)`` serves a WSGI application from this process; the command ``minicorn``, or ``python -m minicorn``, serves
one that it imports.
"""

from __future__ import annotations

import sys

from . import _minicorn
from ._minicorn import __version__

TYPE_CHECKING = False  # Importing typing for it would be paid by every master.
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from os import PathLike
    from typing import Any, Callable, Union

    WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
    Text = Union[str, int, float, PathLike[str]]
    Setting = Union[Text, bool, Sequence[Text], Mapping[str, Text], None]

__all__ = ["__version__", "run"]


def run(
    app: str | WSGIApplication | None = None,
    *,
    bind: str | Sequence[str] | None = None,
    workers: int | str | None = None,
    threads: int | None = None,
    worker_connections: int | None = None,
    daemon: bool | None = None,
    timeout: float | None = None,
    log_level: str | None = None,
    **settings: Setting,
) -> None:
    """Serve ``app`` until the server is asked to stop, by SIGTERM, SIGINT (ctrl-C) or SIGQUIT.

    ``app`` is either the name of the application, ``"module:name"``, or the application itself. Workers import the one
    that is named, so a reload (SIGHUP) finds new code; the object is forked with them as it is, and a reload reads
    nothing but the settings again.

    Every setting of the command line is a keyword, by gunicorn's name for it in a configuration file or by that of the
    option with underscores: ``error_logfile`` and ``errorlog`` are the same. A list stands for an option that is given
    several times, a dict for ``NAME=VALUE`` pairs, and ``None`` for nothing said. What is said here wins over the
    configuration file and the environment, which are read as by the command; ``config="none"`` reads no file.

    It is to be called from the main thread, behind ``if __name__ == "__main__":`` if workers import the module that calls.
    They lack the threads of this process, run no ``atexit`` functions of it, and share its open files. With
    ``daemon=True`` the calling process ends when the server serves, and the call goes on in the background.

    Returns when the server was asked to stop. Raises SystemExit with the status of the command when it fails, TypeError
    for an unknown keyword, ValueError for a wrong value, RuntimeError where it cannot be called.
    """
    import threading

    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("minicorn.run() has to be called from the main thread")
    settings.update(
        bind=bind,
        workers=workers,
        threads=threads,
        worker_connections=worker_connections,
        daemon=daemon,
        timeout=timeout,
        log_level=log_level,
    )
    arguments = ["minicorn"]
    known = _minicorn.keywords()
    for name, value in settings.items():
        arguments += _arguments(name, value, known)
    if app is not None and not isinstance(app, str):
        if not callable(app):
            raise TypeError(f"app: neither a name nor callable, but of type {type(app).__name__}")
        arguments += ["--", _name(app)]
        status = _minicorn.serve(arguments, _AGAIN, app)
    else:
        arguments += ["--", app] if app is not None else []
        status = _minicorn.serve(arguments, _AGAIN)
    if status:
        raise SystemExit(status)


def _arguments(name: str, value: Setting, known: list[str]) -> list[str]:
    """What the keyword is on the command line."""
    if name in _minicorn.HOOKS:
        raise TypeError(f"{name}: a hook has to be in a configuration file, as in config='minicorn.conf.py'")
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TypeError(f"run() got an unexpected keyword argument {name!r}{hint}")
    if value is None:
        return []
    if name in ("env", "raw_env") and isinstance(value, dict):
        value = [f"{variable}={text}" for variable, text in value.items()]
    return _minicorn.keyword_arguments(name, value)


def _name(app: WSGIApplication) -> str:
    """What the application is called in logs and titles: ``module:name`` where it is to be found so."""
    own = type(app).__name__
    for module in ("__main__", str(getattr(app, "__module__", None))):
        for name, value in vars(sys.modules.get(module, object)).items():
            if value is app:
                return f"{module}:{name}"
    return f"{getattr(app, '__module__', None) or '__main__'}:{getattr(app, '__qualname__', own)}"


def _again() -> list[str]:
    """The command that has started this process, for a new master to be started in the same way."""
    if hasattr(sys, "orig_argv"):
        arguments = sys.orig_argv
    else:  # Before Python 3.10; read while nobody has written a title over it.
        with open("/proc/self/cmdline", encoding=sys.getfilesystemencoding(), errors="surrogateescape") as file:
            arguments = file.read().split("\0")[:-1]
    # By its full path, which leads to the virtual environment from everywhere.
    return [sys.executable, *arguments[1:]]


_AGAIN = _again()
