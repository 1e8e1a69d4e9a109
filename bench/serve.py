"""Serves a WSGI app with a server that has no command line of its own, or none that lets it be configured alike.

usage: serve.py SERVER MODULE PORT [ACCESS_LOG]

One worker process and one thread each; what else differs from the server's defaults says why. This is run by the
harness and imports nothing of it, so that the process under test holds only the server and the app.
"""

import importlib
import os
import sys

HOST = "127.0.0.1"
BACKLOG = 1024


def serve_bjoern(app, port, access_log):
    import bjoern

    bjoern.run(app, HOST, port)


def serve_fastwsgi(app, port, access_log):
    import fastwsgi

    fastwsgi.run(app, HOST, port)


def serve_waitress(app, port, access_log):
    import waitress

    waitress.serve(app, host=HOST, port=port, threads=1)


def serve_cheroot(app, port, access_log):
    from cheroot import wsgi

    server = wsgi.Server((HOST, port), app, numthreads=1, max=1, request_queue_size=BACKLOG)
    # Ten by default: of 64 keep-alive connections 54 would be closed after each answer.
    server.keep_alive_conn_limit = 1000
    server.start()


def serve_wsgiref(app, port, access_log):
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    class Server(WSGIServer):
        # Five by default: of 64 clients most would wait a second for their SYN to be sent again.
        request_queue_size = BACKLOG

    class Handler(WSGIRequestHandler):
        if not access_log:

            def log_message(self, format, *args):
                pass

    make_server(HOST, port, app, Server, Handler).serve_forever()


def serve_http_server(app, port, access_log):
    """The handler says hello itself: http.server knows no WSGI."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Server(ThreadingHTTPServer):
        request_queue_size = BACKLOG

    class Handler(BaseHTTPRequestHandler):
        # HTTP/1.0 by default, which closes after each answer.
        protocol_version = "HTTP/1.1"
        # Head and body are two writes, and Nagle would hold the second back for 40 ms.
        disable_nagle_algorithm = True

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", "13")
            self.end_headers()
            self.wfile.write(b"Hello, World!")

        if not access_log:

            def log_message(self, format, *args):
                pass

    Server((HOST, port), Handler).serve_forever()


SERVERS = {
    "bjoern": serve_bjoern,
    "fastwsgi": serve_fastwsgi,
    "waitress": serve_waitress,
    "cheroot": serve_cheroot,
    "wsgiref": serve_wsgiref,
    "http.server": serve_http_server,
}


def main(name, module, port, access_log=None):
    sys.path.insert(0, os.getcwd())
    app = importlib.import_module(module).app
    if access_log:
        # The standard library's servers log to sys.stderr.
        sys.stderr = open(access_log, "a", buffering=1)
    SERVERS[name](app, int(port), access_log)


if __name__ == "__main__":
    main(*sys.argv[1:])
