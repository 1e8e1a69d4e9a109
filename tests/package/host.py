"""A program that serves: `host.py object` its own application, `host.py name` one of a file beside which it was started.

Like many a host it has a thread, an exit function, a handler and an opinion on its arguments, all of which are there
after it.
"""

import atexit
import os
import signal
import sys
import threading

import minicorn


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    threads = [thread.name for thread in threading.enumerate()]
    return [f"{os.getpid()} {sys.argv[1:]} {os.environ.get('GIVEN')} {threads}".encode()]


def say(*words):
    print(os.getpid(), *words, flush=True)


def state():
    """What a call of `run()` is to leave as it was."""
    umask = os.umask(0)
    os.umask(umask)
    with open("/proc/self/cmdline") as file:
        return os.getcwd(), umask, file.read()


def main(kind, *options):
    atexit.register(say, "exit function")
    signal.signal(signal.SIGTERM, lambda *_: say("own handler"))
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="host's")
    if "threadless" not in options:
        thread.start()
    os.umask(0o27)
    before = state()
    served = app if kind == "object" else "served:app"
    while True:
        result = minicorn.run(
            served,
            bind=["127.0.0.1:0"],
            workers=2,
            timeout=20.5,
            daemon="daemon" in options,
            pidfile="pid" if "daemon" in options else None,
            errorlog="log" if "daemon" in options else "-",
            access_logfile="none",
            raw_env={"GIVEN": "a=b"},
            umask=0o77,
            proxy_protocol=None,
        )
        say("run() has returned", result)
        if "twice" not in options:
            break
        options = ()
    os.kill(os.getpid(), signal.SIGTERM)
    say("as before" if state() == before else "changed")
    stop.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
