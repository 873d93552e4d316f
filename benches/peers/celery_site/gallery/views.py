"""The API: announce, confirm, look."""

import json

from botocore.exceptions import ClientError
from django.conf import settings
from django.db import transaction
from django.http import JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_POST

from . import objects
from .models import Image
from .tasks import make

TYPES = {"image/jpeg", "image/png", "image/webp"}


@require_POST
def upload_meta(request):
    """A row, and where its bytes go."""
    try:
        asked = json.loads(request.body)
        image = Image(
            filename=str(asked["filename"])[:255],
            content_type=asked["content_type"],
            size_bytes=int(asked["size_bytes"]),
        )
    except (ValueError, KeyError, TypeError):
        return JsonResponse({"error": "filename, content_type and size_bytes are needed"}, status=400)
    if image.content_type not in TYPES:
        return JsonResponse({"error": "not an image"}, status=415)
    if not 0 < image.size_bytes <= settings.BODY_BYTES_MAX:
        return JsonResponse({"error": "too large"}, status=413)
    image.save(force_insert=True)
    url = objects.presigned("put_object", image.key("original"), ContentType=image.content_type, ContentLength=image.size_bytes)
    answer = {"id": image.id, "method": "PUT", "url": url, "headers": {"content-type": image.content_type}}
    return JsonResponse(answer, status=201)


@require_POST
def uploaded(request, image):
    """The bytes are there: the row says so, and a task is sent when that is committed."""
    image = get_object_or_404(Image, id=image)
    try:
        size_bytes = objects.size_bytes(image.key("original"))
    except ClientError:
        return JsonResponse({"error": "not uploaded"}, status=409)
    if size_bytes != image.size_bytes:
        return JsonResponse({"error": "another length"}, status=422)
    with transaction.atomic():
        begun = Image.objects.filter(id=image.id, state=Image.State.ANNOUNCED).update(state=Image.State.UPLOADED)
        if begun:
            transaction.on_commit(lambda: make.delay(str(image.id)))
    return JsonResponse({"id": image.id}, status=202)


@require_GET
def show(request, image):
    """An image, its files, and where they can be fetched."""
    image = get_object_or_404(Image, id=image)
    files = [
        {
            "name": crop.name,
            "size_bytes": crop.size_bytes,
            "width_px": crop.width_px,
            "height_px": crop.height_px,
            "url": objects.presigned("get_object", image.key(crop.name)),
        }
        for crop in image.crops.all()
    ]
    return JsonResponse({"id": image.id, "state": image.state, "files": files})


@require_GET
def unfinished(request):
    """How many uploaded images wait for their files."""
    return JsonResponse({"count": Image.objects.filter(state=Image.State.UPLOADED).count()})
