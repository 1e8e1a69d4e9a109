"""Hands what it was told, the body, on to the logs: as an environ variable, a header and a reason, and as the path says.

`/errors` writes it to wsgi.errors, `/raise` raises it.
"""


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    text = body.decode("utf-8", "backslashreplace")
    environ["tests.told"] = text
    if environ["PATH_INFO"] == "/errors":
        environ["wsgi.errors"].write(text + "\n")
    if environ["PATH_INFO"] == "/raise":
        raise RuntimeError(text)
    sound = "".join(character for character in body.decode("latin-1") if character.isprintable())
    start_response(f"200 {sound}", [("Content-Type", "text/plain"), ("X-Told", sound)])
    return [b"told"]
