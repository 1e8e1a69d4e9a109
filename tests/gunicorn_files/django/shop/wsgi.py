"""The WSGI application, with a connection that is opened while it is imported, as a check at the start does."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_wsgi_application()

from django.db import connection  # noqa: E402

connection.ensure_connection()
