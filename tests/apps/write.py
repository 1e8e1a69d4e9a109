"""The write() callable of start_response, followed by an iterable."""

from wsgiref.validate import validator


@validator
def app(environ, start_response):
    headers = [("Content-Type", "text/plain")]
    if environ["PATH_INFO"] == "/with-length":
        headers.append(("Content-Length", "17"))
    write = start_response("200 OK", headers)
    write(b"one ")
    write(b"")
    write(b"two ")
    return [b"", b"three ", b"end"]
