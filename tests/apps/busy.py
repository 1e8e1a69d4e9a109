"""What a worker is asked while one of its calls takes long, each path in its own way.

`/wait` waits as gate.py does, `/pid` and `/turn` answer at once, `/echo` answers its body, `/big` a pattern (big.py),
`/file` the file `path`, `/peer` who asks whom, one value a line.
"""

import itertools
import os
from urllib.parse import parse_qs
from wsgiref.validate import validator

from tests.apps.big import pattern
from tests.apps.gate import wait

turns = itertools.count(1)


def bare(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    answer = PATHS[environ["PATH_INFO"]](environ, query)
    if not isinstance(answer, bytes):
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return answer
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(answer)))])
    return [answer]


def held(environ, query):
    wait(query)
    return pid(environ, query)


def pid(environ, query):
    return str(os.getpid()).encode()


def turn(environ, query):
    return str(next(turns)).encode()


def echo(environ, query):
    return environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


def big(environ, query):
    return pattern(int(query["bytes"][0]))


def file(environ, query):
    return environ["wsgi.file_wrapper"](open(query["path"][0], "rb"), 65536)


def peer(environ, query):
    keys = ["REMOTE_ADDR", "REMOTE_PORT", "SERVER_PORT"]
    return "\n".join([*(environ.get(key, "") for key in keys), str(os.getpid())]).encode()


PATHS = {
    "/wait": held,
    "/pid": pid,
    "/turn": turn,
    "/echo": echo,
    "/big": big,
    "/file": file,
    "/peer": peer,
}

app = validator(bare)
