"""Bottle: a page with an escaped parameter, and a JSON route.

minicorn examples.bottle_app:app
"""

from bottle import Bottle, html_escape, request

app = Bottle()


@app.get("/")
def index():
    return f"<h1>Hello, {html_escape(request.query.getunicode('name', 'Bottle'))}!</h1>"


@app.post("/sum")
def total():
    return {"sum": sum(request.json)}
