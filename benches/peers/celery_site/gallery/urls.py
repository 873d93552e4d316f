"""All routes."""

from django.urls import path

from . import views

urlpatterns = [
    path("images/upload-meta", views.upload_meta),
    path("images/unfinished", views.unfinished),
    path("images/<uuid:image>/uploaded", views.uploaded),
    path("images/<uuid:image>", views.show),
]
