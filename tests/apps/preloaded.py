"""What an import leaves to the workers that are forked after it.

The import and each hook append a line, `what pid`, to the file that the variable NOTES names. The import also prints,
without flushing. Answers JSON.
"""

import atexit
import json
import os
import random
import threading
import uuid
from wsgiref.validate import validator


def note(what):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{what} {os.getpid()}\n")


note("import")
print("printed while importing")
atexit.register(note, "exit")
os.register_at_fork(
    before=lambda: note("before"), after_in_parent=lambda: note("parent"), after_in_child=lambda: note("child")
)
imported_by = os.getpid()


@validator
def app(environ, start_response):
    answer = {
        "imported_by": imported_by,
        "parent": os.getppid(),
        "pid": os.getpid(),
        "random": random.random(),
        "uuid": str(uuid.uuid4()),
        "main_thread": threading.current_thread() is threading.main_thread(),
        "threads": [thread.name for thread in threading.enumerate()],
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
