"""What is made of an image: the files of Inkpool's preset `photo`."""

import io

from celery import shared_task
from django.db import transaction
from django.utils import timezone
from PIL import Image as Picture
from PIL import ImageOps, UnidentifiedImageError

from . import objects
from .models import Crop, Image

QUALITY = 80
METHOD = 4
CROP_PX = 512
THUMB_PX = 320


def files(body):
    """Name, size and bytes of each file, upright. Nothing is enlarged."""
    picture = ImageOps.exif_transpose(Picture.open(io.BytesIO(body)))
    if picture.mode not in ("L", "RGB", "RGBA"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    yield encoded("full.webp", picture)
    side = min(CROP_PX, *picture.size)
    yield encoded("crop.webp", ImageOps.fit(picture, (side, side), Picture.Resampling.LANCZOS))
    # In place, for it is the last one: a copy of 12 megapixels takes 36 MB.
    picture.thumbnail((THUMB_PX, THUMB_PX), Picture.Resampling.LANCZOS)
    yield encoded("thumb.webp", picture)


def encoded(name, picture):
    result = io.BytesIO()
    picture.save(result, "WEBP", quality=QUALITY, method=METHOD)
    return name, picture.size, result.getvalue()


@shared_task(bind=True, max_retries=5, retry_backoff=2)
def make(self, image):
    """Safe to run again: objects are put under the same keys, and rows are replaced with the state in one transaction."""
    image = Image.objects.get(id=image)
    if image.state != Image.State.UPLOADED:
        return
    rows = []
    try:
        body = objects.get(image.key("original"))
        for name, (width_px, height_px), content in files(body):
            objects.put(image.key(name), content, "image/webp")
            rows.append(Crop(image=image, name=name, size_bytes=len(content), width_px=width_px, height_px=height_px))
            if name == "full.webp":
                image.width_px, image.height_px = width_px, height_px
        image.state = Image.State.DONE
    except UnidentifiedImageError:
        image.state, rows = Image.State.FAILED, []
    except OSError as error:
        raise self.retry(exc=error) from error
    image.finished_at = timezone.now()
    with transaction.atomic():
        image.crops.all().delete()
        Crop.objects.bulk_create(rows)
        image.save(update_fields=["state", "width_px", "height_px", "finished_at"])
