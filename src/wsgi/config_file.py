"""A configuration file that is Python: running it, and what it says. Embedded in the program, see config_file.rs."""

import ast
import difflib
import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import os
import sys
import traceback
import types

MODULE_NAME = "__config__"

# What gunicorn counts as an argument of a hook.
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

# How alike a function's name and a hook's must be for the one to be taken for the other, misspelled.
ALIKE = 0.8


class Refused(Exception):
    """What is wrong with the file, in a sentence."""


def run(path, module, folder):
    """The namespace of the file at `path`, or else of `module`, run anew as gunicorn runs it: in `folder`, from which its
    neighbours are imported, before any change of the folder that it asks for."""
    before = os.getcwd()
    try:
        os.chdir(folder)
    except FileNotFoundError:
        # A release that has been removed; the file may be elsewhere.
        pass
    try:
        if folder not in sys.path:
            # Behind the folder of the application, which may be another one.
            sys.path.insert(1, folder)
        return run_here(path, module)
    finally:
        os.chdir(before)


def run_here(path, module):
    importlib.invalidate_caches()
    if path is None:
        if module in sys.modules:
            return vars(importlib.reload(sys.modules[module]))
        return vars(importlib.import_module(module))
    if not os.path.exists(path):
        raise Refused("it is not there")
    loader = importlib.machinery.SourceFileLoader(MODULE_NAME, path)
    spec = importlib.util.spec_from_file_location(MODULE_NAME, path, loader=loader)
    found = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = found
    # Not by the loader, which would put a compiled file beside it: a folder of configuration is for people.
    exec(loader.source_to_code(loader.get_data(path), path), vars(found))
    return vars(found)


def evaluate(path, module, folder, arguments):
    """What it says, as JSON: see `settings::python_file::Evaluated`. `arguments` has the names that each hook's arguments
    go by. The error is a clause behind the name of the file, or a traceback."""
    before = dict(os.environ), list(sys.path)
    try:
        namespace = run(path, module, folder)
        said = json.dumps({**look(namespace, path, arguments), **effects(*before, folder)})
    except BaseException as error:
        return False, explain(error)
    finally:
        # The process ends without the interpreter.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                pass
    return True, said


def look(namespace, path, arguments):
    values = []
    hooks = []
    for name, value in namespace.items():
        if name in arguments:
            if value is not None:
                hook(name, value, arguments[name])
                hooks.append(name)
        elif name == "accesslog" and value is None:
            # With gunicorn that is the default; here it is a decision.
            values.append((name, {"text": "none"}))
        elif not name.startswith("_") and value is not None and not is_code(value):
            values.append((name, plain(value)))
    return {"values": values, "hooks": hooks, "unused": unused(namespace, path, arguments)}


def effects(environment, path, folder):
    """What has become another one in this process, of what the application is to find so."""
    usual = next((place for place, entry in enumerate(sys.path) if entry in path), len(sys.path))
    new = [(place, os.path.join(folder, entry)) for place, entry in enumerate(sys.path) if is_new(entry, path)]
    changed = [pair for pair in os.environ.items() if environment.get(pair[0]) != pair[1]]
    return {
        "variables": [[text(name), text(value)] for name, value in changed],
        "removed": [text(name) for name in environment if name not in os.environ],
        "path_before": [text(entry) for place, entry in new if place < usual],
        "path_behind": [text(entry) for place, entry in new if place > usual],
    }


def is_new(entry, path):
    return isinstance(entry, (str, os.PathLike)) and entry not in path


def explain(error):
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, SystemExit):
        return f"it has ended itself with sys.exit({'' if error.code is None else repr(error.code)})"
    lines = traceback.format_exception(type(error), error, without_own(error.__traceback__))
    return "".join(lines).rstrip()


def without_own(trace):
    """The traceback from the first line of the file on."""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name != __file__ and not name.startswith("<frozen importlib") and not is_of_importlib(name):
            break
        trace = trace.tb_next
    return trace


def is_of_importlib(name):
    return os.path.dirname(name) == os.path.dirname(importlib.__file__)


def hook(name, value, arguments):
    """The function of a hook, to be called with as many arguments as it is given here."""
    function = imported(name, value) if isinstance(value, str) else value
    if not callable(function):
        raise Refused(f"{name} is no function but {value!r}")
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        # A function in C that does not say what it takes.
        return function
    count = sum(parameter.kind in POSITIONAL for parameter in parameters)
    if name == "post_request" and 2 <= count < 4:
        return lambda *given: function(*given[:count])
    if count != len(arguments):
        wanted = f"{len(arguments)} argument{'s' if len(arguments) > 1 else ''}, {', '.join(arguments)}"
        raise Refused(f"{name} is to take {wanted}, and takes {count}")
    return function


def imported(name, text):
    module, dot, attribute = text.rpartition(".")
    if not dot:
        raise Refused(f"{name} is '{text}', which is no function and no name of one as in package.module.function")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Refused(f"{name} is '{text}', which cannot be imported: {error}") from error


def unused(namespace, path, hooks):
    """Names that may be misspelled settings or hooks: set at the top of the file, and never looked at in it."""
    path = path or namespace.get("__file__")
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read(), path)
    except (OSError, TypeError, SyntaxError, ValueError):
        return []
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    found = []
    for name, is_function in assigned(tree.body):
        is_wanted = name in hooks or name in loaded or name in found or name.startswith("_") or not name.islower()
        is_near = not is_function or difflib.get_close_matches(name, hooks, 1, ALIKE)
        if not is_wanted and is_near:
            found.append(name)
    return found


def assigned(body):
    """The names that statements at the top of a file set, and whether each is a function's."""
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield statement.name, True
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                yield from ((node.id, False) for node in ast.walk(target) if is_stored(node))
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None and is_stored(statement.target):
            yield statement.target.id, False
        elif not isinstance(statement, ast.ClassDef):
            for part in ("body", "orelse", "finalbody"):
                yield from assigned(getattr(statement, part, []))
            for handler in getattr(statement, "handlers", []) + getattr(statement, "cases", []):
                yield from assigned(handler.body)


def is_stored(node):
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def is_code(value):
    return isinstance(value, (types.ModuleType, types.FunctionType, types.BuiltinFunctionType))


def plain(value):
    """The value as one of the kinds of `settings::python_file::Value`."""
    if isinstance(value, bool):
        return {"flag": value}
    if is_scalar(value):
        return {"text": text(value)}
    if isinstance(value, (list, tuple, set, frozenset)) and all(map(is_scalar, value)):
        return {"list": [text(item) for item in value]}
    if isinstance(value, dict) and all(is_scalar(item) for pair in value.items() for item in pair):
        return {"map": [[text(name), text(item)] for name, item in value.items()]}
    if isinstance(value, type):
        return {"object": f"{value.__module__}.{value.__qualname__}"}
    return {"object": type(value).__name__}


def is_scalar(value):
    return isinstance(value, (str, int, float, os.PathLike)) and not isinstance(value, bool)


def text(value):
    # By its value, which is not what an enum prints.
    value = str.__str__(value) if isinstance(value, str) else int(value) if isinstance(value, int) else value
    # What an environment variable has that is not UTF-8 has no place in JSON.
    return str(value).encode("utf-8", "replace").decode()
