"""Pyramid: two views, one of them rendered as JSON.

minicorn examples.pyramid_app:app
"""

from html import escape

from pyramid.config import Configurator
from pyramid.response import Response


def index(request):
    return Response(f"<h1>Hello, {escape(request.params.get('name', 'Pyramid'))}!</h1>")


def total(request):
    return {"sum": sum(request.json_body)}


with Configurator() as config:
    config.add_route("index", "/")
    config.add_view(index, route_name="index", request_method="GET")
    config.add_route("sum", "/sum")
    config.add_view(total, route_name="sum", request_method="POST", renderer="json")
    app = config.make_wsgi_app()
