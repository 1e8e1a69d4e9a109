"""A thread that works while no request does: it creates the file that the variable TICKED names, again and again."""

import os
import threading
import time
from wsgiref.validate import validator


def tick():
    while True:
        open(os.environ["TICKED"], "w").close()
        time.sleep(0.01)


threading.Thread(target=tick, daemon=True).start()


@validator
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ticking"]
