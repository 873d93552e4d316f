"""Uploads in pieces by a client that is not ours: tuspy, as it comes from PyPI."""

import base64
import hashlib
import os
import socket
import sqlite3
import threading
import time

import pytest
import requests
from tusclient import client
from tusclient.exceptions import TusCommunicationError, TusUploadFailed
from tusclient.storage import filestorage

CHUNK = 100_000
ENDED = ("succeeded", "failed", "cancelled")


@pytest.fixture
def scan(tmp_path):
    """Gray noise as PNM: 1.2 MB that no proxy and no codec makes shorter."""
    file = tmp_path / "скан.pgm"
    file.write_bytes(b"P5\n1200 1000\n255\n" + os.urandom(1_200_000))
    return file


def uploader(server, file, **options):
    metadata = {"filename": file.name, "preset": "photo", "filetype": "image/x-portable-graymap"}
    options = {"chunk_size": CHUNK, "metadata": metadata} | options
    return client.TusClient(f"{server.api}/tus").uploader(str(file), **options)


def kept(server):
    """Pieces in the object store."""
    return [piece for piece in (server.data / "objects" / "piece").rglob("*") if piece.is_file()]


def assert_arrived(server, upload, file):
    """One image of exactly these bytes, and its job comes to its end; nothing is left of the pieces."""
    job_id = upload.request.response_headers["inkpool-job"]
    assert upload.request.response_headers["location"] == f"/api/v1/jobs/{job_id}"
    images = requests.get(f"{server.api}/images").json()["items"]
    assert [image["filename"] for image in images] == [file.name]
    assert images[0]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert images[0]["id"] == upload.request.response_headers["inkpool-image"]
    shown = requests.get(upload.url).json()
    assert shown["offset_bytes"] == file.stat().st_size and shown["item"]["job"]["id"] == job_id
    deadline = time.monotonic() + 120
    while (job := requests.get(f"{server.api}/jobs/{job_id}").json())["state"] not in ENDED:
        assert time.monotonic() < deadline, job
        time.sleep(0.2)
    assert job["state"] == "succeeded", job
    assert kept(server) == []


def test_a_file_in_chunks_with_checksums(server, scan):
    server.start()
    upload = uploader(server, scan, upload_checksum=True)
    upload.upload()
    assert_arrived(server, upload, scan)


def test_a_file_in_one_request(server, scan):
    server.start()
    upload = uploader(server, scan, chunk_size=1 << 30)
    upload.upload()
    assert_arrived(server, upload, scan)


def test_an_interrupted_upload_goes_on(server, scan, tmp_path):
    server.start()
    storage = str(tmp_path / "urls.json")
    first = uploader(server, scan, store_url=True, url_storage=filestorage.FileStorage(storage))
    first.upload(stop_at=600_000)
    assert requests.get(f"{server.api}/images").json()["items"] == []
    # Another program, another day: it knows the file and where it went.
    second = uploader(server, scan, store_url=True, url_storage=filestorage.FileStorage(storage))
    assert second.url == first.url and second.offset == 600_000
    second.upload()
    assert_arrived(server, second, scan)


def test_what_was_acknowledged_outlives_a_kill(server, scan):
    server.start()
    upload = uploader(server, scan)
    upload.upload(stop_at=500_000)
    # Half a request is on its way when the server is killed.
    path = upload.url.removeprefix(f"http://{server.address}")
    head = (
        f"PATCH {path} HTTP/1.1\r\nhost: {server.address}\r\ntus-resumable: 1.0.0\r\nupload-offset: 500000\r\n"
        "content-type: application/offset+octet-stream\r\ncontent-length: 700000\r\n\r\n"
    )
    with socket.create_connection(server.address.split(":")) as line:
        line.sendall(head.encode() + scan.read_bytes()[500_000:800_000])
        deadline = time.monotonic() + 60
        while upload.get_offset() < 500_000 + 4 * 65_536:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        server.kill()
    server.start()
    upload.offset = upload.get_offset()
    assert 500_000 + 4 * 65_536 <= upload.offset <= 800_000
    upload.upload()
    assert_arrived(server, upload, scan)


def test_what_came_before_an_ordered_stop_is_there(server, scan):
    server.start()
    upload = uploader(server, scan)
    upload.upload(stop_at=100_000)
    path = upload.url.removeprefix(f"http://{server.address}")
    head = (
        f"PATCH {path} HTTP/1.1\r\nhost: {server.address}\r\ntus-resumable: 1.0.0\r\nupload-offset: 100000\r\n"
        "content-type: application/offset+octet-stream\r\ncontent-length: 1000000\r\n\r\n"
    )
    with socket.create_connection(server.address.split(":")) as line:
        line.sendall(head.encode() + scan.read_bytes()[100_000:400_001])
        deadline = time.monotonic() + 60
        while upload.get_offset() < 100_000 + 4 * 65_536:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 20
        assert b" 503 " in line.recv(100)
    server.start()
    upload.offset = upload.get_offset()
    assert upload.offset == 400_001
    upload.upload()
    assert_arrived(server, upload, scan)


@pytest.mark.parametrize("where", ["piece-durable:7", "piece-acknowledged:7", "upload-durable", "upload-committed", "resumable-accepted"])
def test_a_client_goes_on_by_itself_after_a_kill(server, scan, where):
    """Killed between two steps, among them those between the image and the last acknowledgement."""
    server.start(INKPOOL_FAULT=where)

    def revive():
        assert server.has_died()
        server.start()

    reviver = threading.Thread(target=revive)
    reviver.start()
    upload = uploader(server, scan, retries=100, retry_delay=0.3)
    upload.upload()
    reviver.join()
    if "inkpool-job" not in upload.request.response_headers:
        # tuspy does not send what is there already: the last answer was lost, and HEAD told it that all is there.
        pytest.fail("the last answer has no job")
    assert_arrived(server, upload, scan)


def test_a_wrong_checksum_is_460_and_changes_nothing(server, scan):
    server.start()
    upload = uploader(server, scan)
    upload.upload(stop_at=300_000)
    before = kept(server)
    wrong = base64.b64encode(hashlib.sha1(b"else").digest()).decode()
    headers = upload.get_headers() | {
        "upload-offset": "300000",
        "content-type": "application/offset+octet-stream",
        "upload-checksum": f"sha1 {wrong}",
    }
    answer = requests.patch(upload.url, headers=headers, data=scan.read_bytes()[300_000:600_000])
    assert (answer.status_code, answer.json()["code"]) == (460, "checksum_differs")
    assert upload.get_offset() == 300_000 and kept(server) == before
    upload.upload_checksum = True
    upload.upload()
    assert_arrived(server, upload, scan)


def test_a_client_is_told_what_is_wrong(server, scan, tmp_path):
    server.start(INKPOOL_HTTP__BODY_BYTES_MAX="1000000")
    with pytest.raises(TusCommunicationError) as told:
        uploader(server, scan).create_url()
    assert told.value.status_code == 413
    words = tmp_path / "words.txt"
    words.write_bytes(b"only words " * 20_000)
    upload = uploader(server, words)
    with pytest.raises(TusUploadFailed) as told:
        upload.upload()
    assert told.value.status_code == 415
    with pytest.raises(TusCommunicationError) as told:
        upload.get_offset()
    assert told.value.status_code == 404 and kept(server) == []


def test_an_upload_is_given_up(server, scan):
    server.start()
    upload = uploader(server, scan)
    upload.upload(stop_at=300_000)
    assert requests.delete(upload.url, headers=upload.get_headers()).status_code == 204
    assert requests.head(upload.url, headers=upload.get_headers()).status_code == 404
    assert kept(server) == []


def test_unfinished_uploads_expire(server, scan):
    """Its time is shortened in the ledger, since the shortest that can be set is an hour."""
    server.start(INKPOOL_JANITOR__EVERY_S="1", INKPOOL_HTTP__REQUEST_TIMEOUT_S="1")
    upload = uploader(server, scan)
    upload.upload(stop_at=300_000)
    server.stop()
    with sqlite3.connect(server.data / "inkpool.sqlite") as ledger:
        ledger.execute("UPDATE resumable_uploads SET expires_at_ms = 1")
    ledger.close()
    server.start(INKPOOL_JANITOR__EVERY_S="1", INKPOOL_HTTP__REQUEST_TIMEOUT_S="1")
    assert requests.head(upload.url, headers=upload.get_headers()).status_code == 404
    deadline = time.monotonic() + 30
    while kept(server):
        assert time.monotonic() < deadline
        time.sleep(0.1)
