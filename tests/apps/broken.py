"""Raises while it is imported."""

raise LookupError("the database is not configured")
