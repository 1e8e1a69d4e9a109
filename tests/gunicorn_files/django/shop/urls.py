"""One page: who answers, and with which database connection."""

import logging
import os

from django.db import connection
from django.http import JsonResponse
from django.urls import path

log = logging.getLogger("shop")


def index(request):
    log.debug("looked at the index")
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 + 1")
        (two,) = cursor.fetchone()
    return JsonResponse({"pid": os.getpid(), "two": two, "is_secure": request.is_secure()})


urlpatterns = [path("", index)]
