"""A file download: `wsgi.file_wrapper` hands the open file to the server, which sends it without Python.

minicorn examples.download:app
curl --remote-name --remote-header-name http://127.0.0.1:8000/
"""

import os


def app(environ, start_response):
    file = open(__file__, "rb")
    headers = [
        ("Content-Type", "text/x-python"),
        ("Content-Disposition", f'attachment; filename="{os.path.basename(__file__)}"'),
        ("Content-Length", str(os.fstat(file.fileno()).st_size)),
    ]
    start_response("200 OK", headers)
    # The server closes the file when the last byte is sent, or when the client leaves.
    return environ["wsgi.file_wrapper"](file)
