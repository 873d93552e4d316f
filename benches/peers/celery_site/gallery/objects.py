"""The object store: one client for each process, its connections kept."""

import functools

import boto3
from botocore.config import Config
from django.conf import settings


@functools.cache
def client():
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        # A further checksum of every body is CPU that the comparison does not ask for.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client("s3", endpoint_url=settings.S3_ENDPOINT, config=config)


def presigned(method, key, **bound):
    arguments = {"Bucket": settings.S3_BUCKET, "Key": key, **bound}
    return client().generate_presigned_url(method, Params=arguments, ExpiresIn=settings.UPLOAD_EXPIRES_S)


def size_bytes(key):
    return client().head_object(Bucket=settings.S3_BUCKET, Key=key)["ContentLength"]


def get(key):
    return client().get_object(Bucket=settings.S3_BUCKET, Key=key)["Body"].read()


def put(key, body, content_type):
    client().put_object(Bucket=settings.S3_BUCKET, Key=key, Body=body, ContentType=content_type)
