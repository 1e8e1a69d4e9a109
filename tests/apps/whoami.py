"""Answers who its process is, and was at the import: one `name=value` a line. `/make` creates the file `path` of the query."""

import os
from urllib.parse import parse_qs
from wsgiref.validate import validator


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return oct(mask)


AT_IMPORT = (os.getresuid(), os.getresgid(), umask())


@validator
def app(environ, start_response):
    if environ["PATH_INFO"] == "/make":
        open(parse_qs(environ["QUERY_STRING"])["path"][0], "w").close()
    start_response("200 OK", [("Content-Type", "text/plain")])
    names = {"users": os.getresuid(), "groups": os.getresgid(), "others": os.getgroups(), "umask": umask()}
    names["is_same_since_import"] = AT_IMPORT == (names["users"], names["groups"], names["umask"])
    return ["".join(f"{name}={value}\n" for name, value in names.items()).encode()]
