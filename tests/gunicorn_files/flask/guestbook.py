"""A guest book, which logs the way that Flask's documentation of gunicorn shows."""

import logging

from flask import Flask, request

app = Flask(__name__)

gunicorn_logger = logging.getLogger("gunicorn.error")
app.logger.handlers = gunicorn_logger.handlers
app.logger.setLevel(gunicorn_logger.level)


@app.get("/")
def index():
    app.logger.info("%s reads the book", request.args.get("name", "somebody"))
    return "empty"


@app.get("/broken")
def broken():
    raise ValueError("no such page in the book")
