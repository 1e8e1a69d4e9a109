"""Every form in which an application can be named."""

from types import SimpleNamespace
from wsgiref.validate import validator


def answering(text):
    @validator
    def answer(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [text.encode()]

    return answer


application = answering("application")
app = answering("app")
holder = SimpleNamespace(inner=SimpleNamespace(app=answering("attribute")))
not_callable = 42


class Instance:
    def __call__(self, environ, start_response):
        return answering("instance")(environ, start_response)


instance = Instance()


class ClassApp:
    """The class itself is the application: its instance is the iterable."""

    def __init__(self, environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])

    def __iter__(self):
        yield b"class"


def create_app(*args, **kwargs):
    return answering(repr((args, kwargs)))


def create_none():
    return None


def create_broken():
    raise LookupError("the factory is not configured")
