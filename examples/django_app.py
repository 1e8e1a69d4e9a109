"""Django in one file: settings, views and URLs; a real project has them in modules of their own.

minicorn examples.django_app:app
"""

import json

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.utils.html import format_html
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

settings.configure(
    # Any Host header will do: no link is built from it here. A real project lists its names.
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    # Signs sessions and tokens. This example has neither; a real project keeps its key out of its source.
    SECRET_KEY="not secret: this example signs nothing",
)


def index(request):
    return HttpResponse(format_html("<h1>Hello, {}!</h1>", request.GET.get("name", "Django")))


@csrf_exempt
@require_POST
def total(request):
    return JsonResponse({"sum": sum(json.loads(request.body))})


urlpatterns = [path("", index), path("sum", total)]

app = get_wsgi_application()
