"""What hooks are given (server, worker, cfg, log, req, resp), with gunicorn's names for all of it, and when which of them
is called. Embedded in the program, see hooks.rs.

One `Server` for the life of a process, and one `Generation` for each reading of the configuration. A worker that was
forked from an interpreter that runs inherits both."""

import json
import os
import sys

# Given by the program: `write_log(level, text)`, with the numbers of Python's logging.
write_log = None

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

# Of gunicorn's settings, those that mean nothing here; a configuration file may have set them all the same.
DEFAULTS = {
    "worker_tmp_dir": None,
    "http_parser": "auto",
    "certfile": None,
    "keyfile": None,
    "ca_certs": None,
    "ciphers": None,
    "cert_reqs": 0,
    "ssl_version": None,
    "do_handshake_on_connect": False,
    "suppress_ragged_eofs": True,
    "default_proc_name": "gunicorn",
    "protocol": "http",
    "paste": None,
}


class Log:
    """gunicorn's logger: `log.info("%s is up", name)`."""

    def __init__(self, cfg):
        self.cfg = cfg

    @property
    def loglevel(self):
        return LEVELS[self.cfg.loglevel]

    @property
    def error_log(self):
        import logging

        return logging.getLogger("gunicorn.error")

    @property
    def access_log(self):
        import logging

        return logging.getLogger("gunicorn.access")

    def log(self, level, msg, *args, exc_info=None, **others):
        level = LEVELS.get(level.lower(), 20) if isinstance(level, str) else level
        text = formatted(str(msg), args)
        if exc_info:
            text = f"{text}\n{traceback_of(exc_info)}"
        write_log(level, text)

    def debug(self, msg, *args, **others):
        self.log(10, msg, *args, **others)

    def info(self, msg, *args, **others):
        self.log(20, msg, *args, **others)

    def warning(self, msg, *args, **others):
        self.log(30, msg, *args, **others)

    warn = warning

    def error(self, msg, *args, **others):
        self.log(40, msg, *args, **others)

    def critical(self, msg, *args, **others):
        self.log(50, msg, *args, **others)

    def exception(self, msg, *args, exc_info=True, **others):
        self.log(40, msg, *args, exc_info=exc_info, **others)

    def reopen_files(self):
        """The server does so by itself, upon SIGUSR1."""

    def close_on_exec(self):
        """All is."""


def formatted(text, args):
    """As logging has it: a single dict is for %(name)s, and a message that does not fit its arguments harms nobody."""
    if not args:
        return text
    try:
        return text % (args[0] if len(args) == 1 and isinstance(args[0], dict) and args[0] else args)
    except Exception as error:
        return f"{text} {args!r} (which does not fit: {error})"


def traceback_of(exc_info):
    import traceback

    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    elif not isinstance(exc_info, tuple):
        exc_info = sys.exc_info()
    return "".join(traceback.format_exception(*exc_info)).rstrip()


class Setting:
    """One of `cfg.settings`."""

    def __init__(self, name, value):
        self.name = name
        self.value = value

    def get(self):
        return self.value

    def set(self, value):
        self.value = value

    def __repr__(self):
        return f"<{self.name} = {self.value!r}>"


class Config:
    """gunicorn's settings by their names in configuration files, with the values of this generation."""

    def __init__(self, values):
        self.__dict__["settings"] = {name: Setting(name, value) for name, value in values.items()}

    def __getattr__(self, name):
        settings = self.__dict__.get("settings", {})
        if name not in settings:
            raise AttributeError(f"No configuration setting for: {name}")
        return settings[name].get()

    def __setattr__(self, name, value):
        raise AttributeError("Invalid access!")

    def set(self, name, value):
        if name not in self.settings:
            raise AttributeError(f"No configuration setting for: {name}")
        self.settings[name].set(value)

    @property
    def env(self):
        return dict(pair.split("=", 1) for pair in self.raw_env)

    @property
    def address(self):
        return [address_of(text) for text in self.bind]

    @property
    def uid(self):
        return self.user

    @property
    def gid(self):
        return self.group

    @property
    def worker_class_str(self):
        return self.worker_class

    @property
    def is_ssl(self):
        return False

    def __str__(self):
        return "\n".join(f"{name:33} = {setting.value}" for name, setting in sorted(self.settings.items()))


def address_of(text):
    """`bind` as gunicorn has it in `cfg.address`: a path, or host and port."""
    if text.startswith("unix:"):
        return text[5:]
    if text.startswith("fd://"):
        return int(text[5:])
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port))


class Listener:
    """A socket that the server listens on."""

    def __init__(self, text, descriptor, address):
        self.text = text
        self.descriptor = descriptor
        self.cfg_addr = tuple(address) if isinstance(address, list) else address

    def __str__(self):
        return self.text

    def __repr__(self):
        return f"<Listener {self.text}>"

    def fileno(self):
        return self.descriptor

    def getsockname(self):
        return self.cfg_addr

    @property
    def sock(self):
        import socket

        return socket.socket(fileno=os.dup(self.descriptor))

    def close(self):
        """It is the server's."""


class App:
    """What is served: `callable` is there once it is loaded, which in the master it never is."""

    def __init__(self, cfg):
        self.cfg = cfg
        self.callable = None

    def wsgi(self):
        return self.callable

    load = wsgi

    def reload(self):
        """The server does so by itself, upon SIGHUP."""


class Server:
    """gunicorn's arbiter."""

    # Those of gunicorn's class.
    WORKER_BOOT_ERROR = 3
    APP_LOAD_ERROR = 4

    def __init__(self, pid, generation):
        self.pid = pid
        self.WORKERS = {}
        self.LISTENERS = []
        self.num_workers = None
        self.worker_age = 0
        self.master_name = "Master"
        self.master_pid = 0
        self.reexec_pid = 0
        self.systemd = False
        # By slot, those about to be forked.
        self._coming = {}
        self.follow(generation)

    def follow(self, generation):
        """Another configuration counts from now on."""
        cfg = generation.cfg
        self.cfg, self.log, self.app = cfg, generation.log, generation.app
        self.address, self.timeout, self.proc_name = cfg.address, cfg.timeout, cfg.proc_name or cfg.wsgi_app
        self.worker_class = cfg.worker_class


class Worker:
    """gunicorn's worker."""

    def __init__(self, age, ppid, generation):
        self.age = age
        self.pid = "[booting]"
        self.ppid = ppid
        self.sockets = SERVER.LISTENERS
        self.app = generation.app
        self.cfg = generation.cfg
        self.log = generation.log
        # As gunicorn tells it.
        self.timeout = self.cfg.timeout / 2
        self.booted = False
        self.aborted = False
        self._alive = True
        self.nr = 0
        self.max_requests = self.cfg.max_requests or sys.maxsize
        self.reloader = None
        self.wsgi = None
        self._generation = generation

    def __str__(self):
        return f"<Worker {self.pid}>"

    @property
    def alive(self):
        return self._alive

    @alive.setter
    def alive(self, value):
        """Hooks end a worker that has grown too large with `worker.alive = False`: it answers what it has, and another
        one comes."""
        if self._alive and not value and self.pid == os.getpid():
            import signal

            os.kill(self.pid, signal.SIGTERM)
        self._alive = bool(value)

    def notify(self):
        """The server looks after that by itself."""


class Request:
    """The head of a request."""

    def __init__(self, method, uri, path, query, version, headers, remote_addr, peer_addr, scheme):
        self.method = method
        self.uri = self.unreader_uri = uri
        self.path = path
        self.query = query
        self.fragment = uri.partition("#")[2]
        self.version = version
        self.headers = headers
        self.trailers = []
        self.remote_addr = remote_addr
        self.peer_addr = peer_addr
        self.scheme = scheme
        self.body = None
        self.proxy_protocol_info = None

    def should_close(self):
        for name, value in self.headers:
            if name == "CONNECTION":
                return value.lower().strip() == "close"
        return self.version <= (1, 0)


class Response:
    """What became of a response."""

    def __init__(self, status, headers, sent, length):
        self.status = status
        self.status_code = int(status[:3])
        self.headers = headers
        self.sent = sent
        self.response_length = length
        self.headers_sent = True
        self.chunked = length is None
        self.must_close = False
        self.upgrade = False


# Of this process, or inherited.
SERVER = None


class Generation:
    """The hooks of one configuration. `values` are its settings as JSON, `namespace` what its file has left, or None."""

    def __init__(self, values, namespace, hooks, pid):
        global SERVER
        values = {**DEFAULTS, **json.loads(values)}
        for name in DEFAULTS:
            values[name] = (namespace or {}).get(name, values[name])
        if (namespace or {}).get("logconfig_dict"):
            values["logconfig_dict"] = namespace["logconfig_dict"]
        self.hooks = hooks
        self.cfg = Config({**values, **ids(values), **{name: hooks.get(name, nothing) for name in ALL}})
        self.log = Log(self.cfg)
        self.app = App(self.cfg)
        self.worker = None
        self.is_over = False
        if SERVER is None:
            SERVER = Server(pid, self)
            SERVER.num_workers = self.cfg.workers

    def call(self, name, *args):
        """The hook, if it is set."""
        hook = self.hooks.get(name)
        if hook is not None:
            hook(*args)

    # In the master.

    def on_starting(self):
        SERVER.follow(self)
        self.call("nworkers_changed", SERVER, SERVER.num_workers, None)
        self.call("on_starting", SERVER)

    def when_ready(self, listeners):
        SERVER.LISTENERS = [Listener(*listener) for listener in listeners]
        self.call("when_ready", SERVER)

    def resume(self, listeners):
        """It counts from now on, or again, since the one after it was given up."""
        SERVER.follow(self)
        SERVER.LISTENERS = [Listener(*listener) for listener in listeners]

    def on_reload(self, listeners):
        self.resume(listeners)
        self.nworkers_changed(self.cfg.workers)
        self.call("on_reload", SERVER)

    def nworkers_changed(self, count):
        before, SERVER.num_workers = SERVER.num_workers, count
        self.call("nworkers_changed", SERVER, count, before)

    def pre_fork(self, slot, age):
        SERVER.worker_age = age
        worker = Worker(age, os.getpid(), self)
        # Also for a child that is forked at this moment, which goes on with what the hook has made of it.
        SERVER._coming[slot] = worker
        self.call("pre_fork", SERVER, worker)

    def on_exit(self):
        self.call("on_exit", SERVER)

    def pre_exec(self):
        self.call("pre_exec", SERVER)

    # In a worker.

    def become_worker(self, slot, age, listeners):
        """This process is a worker, forked by the process with that number."""
        if not SERVER.LISTENERS:
            SERVER.LISTENERS = [Listener(*listener) for listener in listeners]
        coming = SERVER._coming.pop(slot, None)
        fits = coming is not None and coming.age == age
        self.worker = coming if fits else Worker(age, SERVER.pid, self)
        self.worker.pid = os.getpid()
        SERVER.follow(self)
        SERVER.worker_age = age

    def post_fork(self):
        self.call("post_fork", SERVER, self.worker)

    def post_worker_init(self, application):
        self.app.callable = self.worker.wsgi = application
        self.call("post_worker_init", self.worker)
        self.worker.booted = True

    def worker_int(self):
        self.worker._alive = False
        self.call("worker_int", self.worker)

    def worker_abort(self):
        self.worker._alive = False
        self.worker.aborted = True
        self.call("worker_abort", self.worker)

    def worker_exit(self):
        # Once, whichever way the worker takes.
        if self.worker is not None and not self.is_over:
            self.is_over = True
            self.worker._alive = False
            self.call("worker_exit", SERVER, self.worker)

    def answered(self, count):
        if self.worker is not None:
            self.worker.nr = count

    def request(self, *head):
        self.worker.nr += 1
        return Request(*head)

    def pre_request(self, request, environ):
        if "pre_request" in self.hooks:
            before = list(request.headers)
            self.call("pre_request", self.worker, request)
            if request.headers != before:
                amend(environ, before, request.headers)

    def post_request(self, request, environ, response):
        self.call("post_request", self.worker, request, environ, response and Response(*response))

    def abort_upon(self, number, crashes):
        """Has worker_abort called in the main thread upon a signal, before it ends the process."""
        import faulthandler
        import signal

        def on_signal(number, frame):
            # In place of the handler that was there.
            faulthandler.dump_traceback(2 if crashes is None else crashes)
            for hook in (self.worker_abort, self.worker_exit):
                try:
                    hook()
                except BaseException:
                    self.log.exception("%s: the hook raised", hook.__name__)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

        signal.signal(number, on_signal)


def amend(environ, before, after):
    """With gunicorn the environ is made of what pre_request has left: of the header fields, that holds here as well."""
    for name in {name.upper() for name, value in [*before, *after] if ((name, value) in before) != ((name, value) in after)}:
        values = [value for other, value in after if other.upper() == name]
        key = name.replace("-", "_")
        # How long the body is, the server has settled.
        if key == "CONTENT_LENGTH":
            continue
        key = key if key == "CONTENT_TYPE" else f"HTTP_{key}"
        if values:
            environ[key] = ",".join(map(str, values))
        else:
            environ.pop(key, None)


def nothing(*_):
    """A hook that is not set."""


def spawned(slot, pid):
    worker = SERVER._coming.pop(slot, None)
    if worker is not None:
        worker.pid = pid
        SERVER.WORKERS[pid] = worker


def child_exit(pid):
    worker = SERVER.WORKERS.pop(pid, None)
    if worker is not None:
        # The hook of the configuration that the worker is from.
        worker._generation.call("child_exit", SERVER, worker)


def ids(values):
    """User and group as numbers, as gunicorn has them."""
    import grp
    import pwd

    user, group = values["user"], values["group"]
    if not (user is None or user.isdigit()):
        user = pwd.getpwnam(user).pw_uid
    if not (group is None or group.isdigit()):
        group = grp.getgrnam(group).gr_gid
    return {
        "user": os.geteuid() if user is None else int(user),
        "group": os.getegid() if group is None else int(group),
    }


ALL = (
    "on_starting when_ready on_reload nworkers_changed pre_fork child_exit on_exit pre_exec post_fork post_worker_init "
    "worker_int worker_abort worker_exit pre_request post_request"
).split()
