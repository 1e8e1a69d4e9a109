"""One mebibyte in one bytes object: what a server does with a large body that it already has in memory."""

BODY = b"0123456789abcdef" * (1024 * 1024 // 16)


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", "1048576")])
    return [BODY]
