"""Falcon: resources are classes, their methods are the HTTP methods.

minicorn examples.falcon_app:app
"""

import falcon


class Index:
    def on_get(self, req, resp):
        resp.media = {"hello": req.get_param("name", default="Falcon")}


class Sum:
    def on_post(self, req, resp):
        resp.media = {"sum": sum(req.get_media())}


app = falcon.App()
app.add_route("/", Index())
app.add_route("/sum", Sum())
