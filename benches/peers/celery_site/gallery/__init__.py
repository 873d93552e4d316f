"""A site that makes WebP and crops of images: Django, Celery, Redis, PostgreSQL, S3. What `scripts/bench cluster` compares with.

An upload is announced ("get upload metadata": a row, and a URL presigned on the object store), put by the client, confirmed
("uploaded": the row changes, and with that commit a task is sent), and made into `full.webp`, `crop.webp` and `thumb.webp` by
Pillow in a worker process. As such sites are written, with what their guides advise: no middleware that it does not need,
connections kept, no results in the broker, one task at a time reserved for each process.
"""

from .celery import app

__all__ = ["app"]
