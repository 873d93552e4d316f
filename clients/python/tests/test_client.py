"""The client against a real server."""

import hashlib
import http.server
import struct
import threading
import time
import zlib

import pytest
from inkpool import Client, InkpoolError, JobFailed, ProblemError, Unreachable


def png(width=64, height=48, seed=0):
    """A gray page with strokes."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        rows += bytes(40 if y % 16 > 10 and (x + seed) % 12 < 4 else 215 for x in range(width))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b"")


def test_a_page_goes_there_and_comes_back(start, tmp_path):
    ink = Client(start().url)
    page = tmp_path / "page.png"
    page.write_bytes(png())
    upload = ink.upload(page)
    assert (upload.image.filename, upload.image.size_bytes) == ("page.png", page.stat().st_size)
    job = ink.wait(upload.job, timeout=60)
    assert job.state == "succeeded" and job.gate
    paths = ink.download_all(job.image_id, tmp_path / "out")
    assert sorted(path.name for path in paths) == ["clean.png", "clean.webp", "manifest.json", "thumb.webp"]
    for file in ink.image(job.image_id).files[1:]:
        assert hashlib.sha256((tmp_path / "out" / file.name).read_bytes()).hexdigest() == file.sha256
    assert ink.read(job.image_id) == page.read_bytes()
    assert [image.id for image in ink.images()] == [upload.image.id]
    assert [done.id for done in ink.jobs(state="succeeded")] == [job.id]
    again = ink.wait(ink.process_again(job.image_id, preset="photo"), timeout=60)
    assert again.preset == "photo" and len(ink.image(job.image_id).job_ids) == 2
    ink.delete_image(job.image_id)
    with pytest.raises(ProblemError) as refused:
        ink.image(job.image_id)
    assert (refused.value.status, refused.value.code) == (404, "not_found")


def test_the_same_twice_is_once(start):
    ink = Client(start().url)
    first, second = ink.upload(png(), filename="a.png"), ink.upload(png(), filename="a.png")
    assert (first.image.id, first.job.id) == (second.image.id, second.job.id)
    others = [ink.upload(png(), filename="b.png"), ink.upload(png(), filename="a.png", preset="photo")]
    others.append(ink.upload(png(), filename="a.png", again=True))
    assert len({first.image.id, *(other.image.id for other in others)}) == 4
    with pytest.raises(ProblemError) as reused:
        ink.upload(png(seed=1), filename="a.png", idempotency_key="k1") and ink.upload(
            png(seed=2), filename="a.png", idempotency_key="k1"
        )
    assert reused.value.code == "idempotency_key_reused"


def test_what_is_there_will_do_if_asked(start):
    ink = Client(start().url)
    first = ink.upload(png(), filename="a.png", preset="photo", dedup=True)
    assert not first.deduplicated
    ink.wait(first.job, timeout=60)
    by_post = ink.upload(png(), filename="b.png", preset="photo", dedup=True)
    announced = ink.upload_presigned(png(), filename="c.png", preset="photo", dedup=True)
    for same in (by_post, announced):
        assert same.deduplicated and same.image.filename == "a.png"
        assert (same.image.id, same.job.id) == (first.image.id, first.job.id)
    # Not asked for, or made into something else: another image.
    others = [ink.upload(png(), filename="b2.png", preset="photo"), ink.upload_presigned(png(), preset="photo")]
    others.append(ink.upload(png(), filename="d.png", settings={"denoise": "off"}, dedup=True))
    assert not any(other.deduplicated for other in others)
    assert len({first.image.id, *(other.image.id for other in others)}) == 4
    with pytest.raises(ValueError, match="again"):
        ink.upload(png(), again=True, dedup=True)


def test_presigned_uploads_arrive(start, tmp_path):
    ink = Client(start().url)
    page = tmp_path / "page.png"
    page.write_bytes(png(seed=3))
    upload = ink.upload_presigned(page, preset="photo", settings={"quality": "70"})
    assert ink.wait(upload.job, timeout=60).preset == "photo"
    assert upload.image.sha256 == hashlib.sha256(page.read_bytes()).hexdigest()
    with pytest.raises(InkpoolError, match="no image"):
        ink.upload_presigned(b"plain text")


def test_what_goes_wrong_has_a_name(start):
    ink = Client(start().url, retry_for=0)
    with pytest.raises(ProblemError) as refused:
        ink.upload(b"plain text")
    assert refused.value.code == "unsupported_format" and "Supported are" in str(refused.value)
    page = png()
    upload = ink.upload(page[: len(page) // 2], filename="cut.png")
    with pytest.raises(JobFailed) as failed:
        ink.wait(upload.job, timeout=60)
    assert failed.value.job.error.code == "malformed"
    assert ink.wait(upload.job, check=False).state == "failed"
    assert ink.retry(upload.job).state in ("queued", "released", "running", "failed")
    with pytest.raises(Unreachable, match="cannot reach"):
        Client("http://127.0.0.1:9", retry_for=0).presets()
    for address in ("ink.example.org", "ftp://x", "http://ada:secret@x"):
        with pytest.raises(InkpoolError):
            Client(address)


def test_a_token_is_needed_and_enough(start):
    server = start(
        INKPOOL_AUTH__MODE="accounts",
        INKPOOL_AUTH__ARGON2_MEMORY_KIB="64",
        INKPOOL_ADMIN__USERNAME="root",
        INKPOOL_ADMIN__PASSWORD="seven crooked lamps",
    )
    with pytest.raises(ProblemError) as nobody:
        Client(server.url).presets()
    assert nobody.value.code == "login_required"
    token = server.admin("token", "create", "--user", "root", "--name", "x", "--scopes", "read,write,admin")
    with Client(server.url, token) as ink:
        assert ink.wait(ink.upload(png()).job, timeout=60).state == "succeeded"
        assert ink.upload_presigned(png(seed=5)).job.id
        assert ink.limits()["parts_max"] > 0 and ink.cluster()["nodes"]


def test_events_come_and_go_on_after_a_restart(start):
    server = start()
    ink = Client(server.url)
    seen = []

    def watch():
        for event in ink.events(after=0):
            if event.kind == "job":
                seen.append((event.data["id"], event.data["state"]))

    threading.Thread(target=watch, daemon=True).start()
    job = ink.upload(png()).job
    ink.wait(job, timeout=60)
    server.stop()
    start(listen=server.url.removeprefix("http://"))
    other = ink.upload(png(seed=1)).job
    ink.wait(other, timeout=60)
    end = time.monotonic() + 30
    while (other.id, "succeeded") not in seen:
        assert time.monotonic() < end, seen
        time.sleep(0.05)
    assert seen.count((job.id, "succeeded")) == 1


def test_a_server_that_comes_back_is_waited_for(start):
    server = start()
    server.stop()
    threading.Timer(1.0, lambda: start(listen=server.url.removeprefix("http://"))).start()
    assert Client(server.url, retry_for=30).presets()[0]["name"] == "document"


def test_a_token_follows_no_redirect():
    asked = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.server.server_port, self.headers["Authorization"]))
            self.send_response(307)
            self.send_header("Location", f"http://127.0.0.1:{other.server_port}/api/v1/presets")
            self.end_headers()

        def log_message(self, *_):
            pass

    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) for _ in range(2)]
    server, other = servers
    for each in servers:
        threading.Thread(target=each.serve_forever, daemon=True).start()
    with pytest.raises(ProblemError, match="nothing is sent unasked"):
        Client(f"http://127.0.0.1:{server.server_port}", "secret", retry_for=0).presets()
    assert asked == [(server.server_port, "Bearer secret")]
    for each in servers:
        each.shutdown()
        each.server_close()
