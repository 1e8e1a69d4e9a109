"""Reads a body that may still be on its way.

`/echo` answers each line when it has read it, `/late` reads only after its gate (gate.py) has opened, `/catch` answers
what reading raised, twice, and writes it to the file `raised` of the query if there is one; `/ignore` does not read,
`/keep` neither, and never lets go of the body.
Not validated: wsgiref.validate refuses `read()` without a size.
"""

import os
from urllib.parse import parse_qs

from tests.apps.gate import wait


def app(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    items = PATHS[environ["PATH_INFO"]](environ["wsgi.input"], query)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return items


def echo(body, query):
    return iter(body.readline, b"")


def late(body, query):
    wait(query)
    return [body.read()]


def catch(body, query):
    raised = [outcome(body.read) for _ in range(2)]
    answer = " ".join(raised)
    for path in query.get("raised", []):
        with open(path + ".new", "w") as file:
            file.write(answer)
        os.rename(path + ".new", path)
    return [answer.encode()]


def outcome(call):
    try:
        return f"{len(call())} bytes"
    except ConnectionError:
        return "ConnectionError"
    except Exception as error:
        return type(error).__name__


def ignore(body, query):
    return [b"ignored"]


def keep(body, query):
    kept.append(body)
    return [b"kept"]


kept = []

PATHS = {"/echo": echo, "/late": late, "/catch": catch, "/ignore": ignore, "/keep": keep}
