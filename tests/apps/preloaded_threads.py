"""Starts threads while it is imported: two that Python knows, and one that it does not. Answers how many run."""

import _thread
import threading
import time
from wsgiref.validate import validator


def wait():
    while True:
        time.sleep(60)


threading.Thread(target=wait, name="flusher", daemon=True).start()
threading.Thread(target=wait, name="watcher", daemon=True).start()
_thread.start_new_thread(wait, ())


@validator
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(threading.active_count()).encode()]
