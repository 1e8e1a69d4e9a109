"""gunicorn for the guest book, behind nginx on the same host; started by systemd, which makes the folders."""

import os

run_dir = os.environ.get("RUNTIME_DIRECTORY", "/run/guestbook")
log_dir = os.environ.get("LOGS_DIRECTORY", "/var/log/guestbook")

bind = "unix:" + os.path.join(run_dir, "gunicorn.sock")
pidfile = os.path.join(run_dir, "gunicorn.pid")
# nginx is in our group.
umask = 0o007
proc_name = "guestbook"

workers = 2
threads = 2
worker_class = "gthread"
worker_connections = 500

errorlog = os.path.join(log_dir, "error.log")
accesslog = os.path.join(log_dir, "access.log")
loglevel = "debug"
access_log_format = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %({x-forwarded-for}i)s %(D)s'

forwarded_allow_ips = "*"
secure_scheme_headers = {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}

statsd_host = os.environ.get("STATSD_HOST")
statsd_prefix = "guestbook"


def pre_request(worker, req):
    worker.log.debug("%s %s from %s", req.method, req.path, dict(req.headers).get("X-FORWARDED-FOR", "nobody"))


def post_request(worker, req, environ, resp):
    worker.log.debug("%s %s: %s, %s bytes", req.method, req.path, resp.status, resp.sent)


def worker_int(worker):
    worker.log.info("worker received INT or QUIT signal")

    import sys
    import threading
    import traceback

    names = {thread.ident: thread.name for thread in threading.enumerate()}
    code = []
    for ident, stack in sys._current_frames().items():
        code.append("\n# Thread: %s(%d)" % (names.get(ident, ""), ident))
        for filename, lineno, name, line in traceback.extract_stack(stack):
            code.append('File: "%s", line %d, in %s' % (filename, lineno, name))
    worker.log.debug("\n".join(code))
