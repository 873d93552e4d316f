"""Settings, from the environment of benches/systems.py."""

import os

DEBUG = False
SECRET_KEY = os.environ["SITE_SECRET"]
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "gallery.urls"
WSGI_APPLICATION = "gallery.wsgi.application"
INSTALLED_APPS = ["gallery"]
# An API without pages, forms and logins: each of Django's usual ones would cost CPU for nothing.
MIDDLEWARE = []
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "site",
        "USER": "inkpool",
        "HOST": "127.0.0.1",
        "PORT": os.environ["SITE_POSTGRES_PORT"],
        # Kept: a connection for each request would cost more than the request.
        "CONN_MAX_AGE": None,
    }
}

S3_ENDPOINT = os.environ["SITE_S3_ENDPOINT"]
S3_BUCKET = os.environ["SITE_S3_BUCKET"]
# As long as Inkpool's uploads.expires_s.
UPLOAD_EXPIRES_S = 900
BODY_BYTES_MAX = 67_108_864

CELERY_BROKER_URL = os.environ["SITE_REDIS_URL"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A task whose process dies comes again: acknowledged at its end, not at its start.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
# With late acknowledgement the guides advise to reserve no more than what runs.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# What became of an image stands in its row.
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
