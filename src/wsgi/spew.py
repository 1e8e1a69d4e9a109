"""--spew: each line of Python that runs, on standard output, as gunicorn's debug.spew writes it. Embedded in the program."""

import linecache
import sys
import threading


def trace(frame, event, arg):
    if event == "line":
        name = frame.f_globals.get("__name__", "[unknown]")
        file = frame.f_globals.get("__file__") or frame.f_code.co_filename
        file = file[:-1] if file.endswith((".pyc", ".pyo")) else file
        line = linecache.getline(file, frame.f_lineno).rstrip()
        line = line or f"Unknown code named [{frame.f_code.co_name}].  VM instruction #{frame.f_lasti}"
        # Whatever print() has become in the application.
        sys.__stdout__.write(f"{name}:{frame.f_lineno}: {line}\n")
    return trace


def begin():
    """Traces this thread, and those that Python starts from now on."""
    threading.settrace(trace)
    sys.settrace(trace)
