"""Rows: an image, and the files made of it."""

import uuid

from django.db import models


class Image(models.Model):
    class State(models.TextChoices):
        ANNOUNCED = "announced"
        UPLOADED = "uploaded"
        DONE = "done"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    filename = models.CharField(max_length=255)
    content_type = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.ANNOUNCED, db_index=True)
    width_px = models.IntegerField(null=True)
    height_px = models.IntegerField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    def key(self, name):
        return f"images/{self.id}/{name}"


class Crop(models.Model):
    image = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="crops")
    name = models.CharField(max_length=32)
    size_bytes = models.BigIntegerField()
    width_px = models.IntegerField()
    height_px = models.IntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["image", "name"], name="one_crop_of_a_name")]
