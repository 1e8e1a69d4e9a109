"""Flask: a page with an escaped parameter, and a JSON route.

minicorn examples.flask_app:app
"""

from flask import Flask, jsonify, request
from markupsafe import escape

app = Flask(__name__)


@app.get("/")
def index():
    return f"<h1>Hello, {escape(request.args.get('name', 'Flask'))}!</h1>"


@app.post("/sum")
def total():
    return jsonify(sum=sum(request.get_json()))
