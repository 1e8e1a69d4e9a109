"""Imports a package that no environment has."""

import a_package_that_is_not_installed  # noqa: F401


def app(environ, start_response):
    raise AssertionError("never imported")
