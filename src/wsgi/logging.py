"""Python's logging and the server's logs: the loggers that gunicorn has, and --log-config. Embedded in the program, see
logging.rs.

The loggers are there as soon as somebody imports `logging`; nothing here imports it before that.
"""

import os
import sys

NAMES = ("gunicorn.error", "gunicorn.access", "minicorn.error", "minicorn.access")

# gunicorn's, on which a configuration is laid.
CONFIG_DEFAULTS = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {
            "level": "INFO",
            "handlers": ["error_console"],
            "propagate": True,
            "qualname": "gunicorn.error",
        },
        "gunicorn.access": {
            "level": "INFO",
            "handlers": ["console"],
            "propagate": True,
            "qualname": "gunicorn.access",
        },
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stdout"},
        "error_console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stderr"},
    },
    "formatters": {
        "generic": {
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
            "class": "logging.Formatter",
        }
    },
}


class Loader:
    """Runs `logging` as its own loader does, and then `after`."""

    def __init__(self, loader, finder, after):
        self.loader = loader
        self.finder = finder
        self.after = after

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        # Not before: whoever only asks where it is does not import it.
        if self.finder in sys.meta_path:
            sys.meta_path.remove(self.finder)
        # What others see is not this one.
        module.__loader__ = module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        self.after(module)


def spec(own, after):
    """Where `logging` is, as all finders but our own know, with something to be done when it has been imported."""
    for finder in sys.meta_path:
        found = None if finder is own else finder.find_spec("logging", None, None)
        if found is not None:
            found.loader = Loader(found.loader, own, after)
            return found
    return None


def install(logging, write, level):
    """gunicorn's loggers, with a handler each that writes to the server's error log."""

    class ErrorLog(logging.Handler):
        """The server's error log. A line of it has time, level and worker already."""

        def emit(self, record):
            try:
                write(record.levelno, self.format(record))
            except Exception:
                self.handleError(record)

    handlers = {}
    for name in NAMES:
        logger = logging.getLogger(name)
        if any(getattr(handler, "_minicorn", False) for handler in logger.handlers):
            continue
        handler = handlers.setdefault(name.rpartition(".")[2], ErrorLog())
        handler._minicorn = handler._gunicorn = True
        logger.addHandler(handler)
        logger.setLevel(level if name.endswith("error") else logging.INFO)
        logger.propagate = False


def configure(dictionary, json_file, ini_file):
    """As gunicorn does, of which the first that is given counts."""
    if dictionary is not None or json_file is not None:
        from logging.config import dictConfig

        if dictionary is None:
            dictionary = loaded(json_file)
        dictConfig({**CONFIG_DEFAULTS, **dictionary})
    else:
        from logging.config import fileConfig

        if not os.path.exists(ini_file):
            raise FileNotFoundError("it is not there")
        places = {"__file__": ini_file, "here": os.path.dirname(ini_file)}
        fileConfig(ini_file, defaults={**CONFIG_DEFAULTS, **places}, disable_existing_loggers=False)


def configured(name):
    """The logger, unless it is as `install` has left it."""
    import logging

    logger = logging.getLogger(name)
    is_own = logger.handlers and all(getattr(handler, "_minicorn", False) for handler in logger.handlers)
    return None if is_own and not logger.filters and not logger.propagate else logger


def adopt(path):
    """Whether requests are to go through gunicorn.access although no configuration says so: the application or a hook has
    put a filter or a handler there. The server's own handler then writes what the filters leave, to the file at `path`
    or to standard output."""
    import logging

    if configured("gunicorn.access") is None:
        return False
    handler = logging.StreamHandler(sys.stdout) if path is None else logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("gunicorn.access")
    logger.handlers = [handler if getattr(own, "_minicorn", False) else own for own in logger.handlers]
    return True


class Atoms(dict):
    """gunicorn's, which formatters and filters of gunicorn.access look for in `record.args`."""

    # Numbers with gunicorn; all others are text.
    NUMBERS = ("B", "T", "D", "M")

    def __init__(self, pairs):
        super().__init__(pairs)
        for name in self.NUMBERS:
            self[name] = int(super().__getitem__(name))

    def __getitem__(self, name):
        return self.get(name.lower() if name.startswith("{") else name, "-")


def tell(logger, line, atoms):
    """A request, with its line as the message."""
    pairs = [pair.split("\0", 1) for pair in atoms.split("\n")[:-1]]
    logger.info(line.replace("%", "%%"), Atoms(pairs))


def loaded(path):
    import json

    with open(path) as file:
        return json.load(file)


def parsed(text):
    import json

    return json.loads(text)


def reopen():
    """Opens all files of handlers anew, after somebody has moved the old ones away."""
    import logging

    for name in [None, *logging.root.manager.loggerDict]:
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.FileHandler):
                handler.acquire()
                try:
                    if handler.stream:
                        handler.close()
                        handler.stream = handler._open()
                finally:
                    handler.release()
