"""The client."""

from __future__ import annotations

import hashlib
import io
import json
import os
import ssl
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from ._errors import InkpoolError, JobFailed, ProblemError, Unreachable
from ._http import Transport
from ._models import Event, Image, Job, Upload

Source = str | os.PathLike[str] | bytes
# Looks at a job become rarer from the first to the second of these, seconds.
LOOK_MIN_S = 0.1
LOOK_MAX_S = 2.0
# How files begin (RFC 2046 names for what the server reads).
MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
    (b"%PDF-", "application/pdf"),
)


class Client:
    """A server, and who asks. Safe to use from several threads."""

    def __init__(
        self,
        server: str = "http://127.0.0.1:8080",
        token: str | None = None,
        *,
        timeout: float = 60.0,
        retry_for: float = 60.0,
        ssl_context: ssl.SSLContext | None = None,
    ):
        self._http = Transport(server, token, timeout, retry_for, ssl_context)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to close: a connection lasts as long as its request."""

    # Uploads.

    def upload(
        self,
        source: Source,
        *,
        preset: str = "",
        settings: Mapping[str, str] | None = None,
        filename: str | None = None,
        idempotency_key: str | None = None,
        again: bool = False,
        dedup: bool = False,
    ) -> Upload:
        """Sends an image, a path or its bytes, through the server. The same again gives the same image and job; with `dedup`
        the same bytes under another name do as well, if they were made into the same."""
        if again and dedup:
            raise ValueError("again asks for a new image, dedup for the one that is there")
        name, size_bytes, sha256, opened = _look_at(source, filename)
        key = idempotency_key or (str(uuid.uuid4()) if again else _key(sha256, name, preset, settings))
        query: dict[str, str] = {"filename": name, **{f"set.{key}": value for key, value in (settings or {}).items()}}
        if preset:
            query["preset"] = preset
        if dedup:
            query["dedup"] = "true"
        url = self._http.url("images", **query)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size_bytes),
            "Idempotency-Key": key,
        }
        item = self._json("POST", url, opened, headers)["items"][0]
        upload = Upload.of(item)
        if upload.image.sha256 != sha256:
            raise InkpoolError(f"{name} changed while it was being sent")
        return upload

    def upload_presigned(
        self,
        source: Source,
        *,
        preset: str = "",
        settings: Mapping[str, str] | None = None,
        filename: str | None = None,
        content_type: str | None = None,
        dedup: bool = False,
    ) -> Upload:
        """Announces an image, puts its bytes to the URL of the answer, past the server where it has a bucket, and completes
        it. With `dedup` nothing is put where the same bytes were made into the same before."""
        name, size_bytes, sha256, opened = _look_at(source, filename)
        with opened() as file:
            kind = content_type or _content_type(file.read(32), name)
        announced = {"filename": name, "size_bytes": size_bytes, "sha256": sha256, "content_type": kind}
        body: dict[str, Any] = {"files": [announced], "set": dict(settings or {})}
        if preset:
            body["preset"] = preset
        if dedup:
            body["dedup"] = True
        target = self._json("POST", self._http.url("uploads"), _document(body), _JSON)["items"][0]
        if known := target.get("known"):
            return Upload.of(known)
        url = self._http.absolute(target["url"])

        def put() -> None:
            try:
                # The signature is all that is asked for, and the bucket is somebody else.
                with self._http.send(target["method"], url, opened, target["headers"], token=False) as response:
                    self._http.read(response)
            except ProblemError as error:
                # An earlier try had arrived.
                if error.status != 412:
                    raise

        self._http.retrying(put)
        return Upload.of(self._json("POST", self._http.url("uploads", target["id"], "complete")))

    # Images.

    def image(self, image: str | Image) -> Image:
        """One image with its files."""
        return Image.of(self._json("GET", self._http.url("images", _id(image))))

    def images(self) -> Iterator[Image]:
        """All images, newest first."""
        return (Image.of(item) for item in self._items("images"))

    def delete_image(self, image: str | Image) -> None:
        """Deletes an image with its jobs and files."""

        def attempt() -> None:
            with self._http.send("DELETE", self._http.url("images", _id(image))) as response:
                self._http.read(response)

        self._http.retrying(attempt)

    def process_again(
        self, image: str | Image, *, preset: str = "", settings: Mapping[str, str] | None = None
    ) -> Job:
        """A further job on an image. Not tried again when the answer is lost: it would make two."""
        body: dict[str, Any] = {"set": dict(settings or {})}
        if preset:
            body["preset"] = preset
        url = self._http.url("images", _id(image), "jobs")
        return Job.of(self._json("POST", url, _document(body), _JSON, repeatable=False))

    # Files.

    def read(self, image: str | Image, name: str = "original") -> bytes:
        """The bytes of a file."""

        def attempt() -> bytes:
            with self._http.send("GET", self._file_url(_id(image), name)) as response:
                return self._http.read(response)

        return self._http.retrying(attempt)

    def download(self, image: str | Image, name: str, to: str | os.PathLike[str]) -> Path:
        """Writes a file to the path `to`, which is there whole or not at all."""
        known = image if isinstance(image, Image) else self.image(image)
        file = next((file for file in known.files if file.name == name), None)
        if file is None:
            raise InkpoolError(f"the image has no file {name}; it has {', '.join(each.name for each in known.files)}")
        path = Path(to)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._http.retrying(lambda: self._download_once(known.id, name, file.sha256, path))
        return path

    def download_all(
        self, image: str | Image, folder: str | os.PathLike[str], *, original: bool = False
    ) -> list[Path]:
        """Writes all files of an image below a folder."""
        known = self.image(_id(image))
        wanted = [file.name for file in known.files if original or file.name != "original"]
        return [self.download(known, name, _below(Path(folder), name)) for name in wanted]

    def _download_once(self, image: str, name: str, sha256: str, path: Path) -> None:
        descriptor, temporary = tempfile.mkstemp(prefix=".inkpool-", suffix=".tmp", dir=path.parent)
        try:
            digest = hashlib.sha256()
            with os.fdopen(descriptor, "wb") as out, self._http.send("GET", self._file_url(image, name)) as response:
                for piece in self._http.pieces(response):
                    digest.update(piece)
                    out.write(piece)
                out.flush()
                os.fsync(out.fileno())
            if digest.hexdigest() != sha256:
                raise InkpoolError(f"{name} is not what the server had listed")
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _file_url(self, image: str, name: str) -> str:
        return f"{self._http.url('images', image, 'files')}/{quote(name)}"

    # Jobs.

    def job(self, job: str | Job) -> Job:
        """One job as it is now."""
        return Job.of(self._json("GET", self._http.url("jobs", _id(job))))

    def jobs(self, state: str | None = None) -> Iterator[Job]:
        """All jobs, newest first."""
        return (Job.of(item) for item in self._items("jobs", state=state))

    def cancel(self, job: str | Job) -> Job:
        """Cancels a job."""
        return Job.of(self._json("POST", self._http.url("jobs", _id(job), "cancel")))

    def retry(self, job: str | Job) -> Job:
        """Queues a failed or cancelled job again."""
        return Job.of(self._json("POST", self._http.url("jobs", _id(job), "retry"), repeatable=False))

    def wait(self, job: str | Job, *, timeout: float = 3600.0, check: bool = True) -> Job:
        """The job when it has ended. With `check`, one that did not succeed is an error."""
        end = time.monotonic() + timeout
        pause = LOOK_MIN_S
        while True:
            now = self.job(job)
            if now.is_final:
                if check and now.state != "succeeded":
                    raise JobFailed(now)
                return now
            if time.monotonic() + pause > end:
                raise TimeoutError(f"job {now.id} is {now.state} after {timeout:.0f} s")
            time.sleep(pause)
            pause = min(pause * 1.5, LOOK_MAX_S)

    def events(self, *, after: str | int | None = None) -> Iterator[Event]:
        """What happens to all jobs, as it happens, for ever; with `after` from that event on. It reconnects by itself."""
        last = None if after is None else str(after)
        while True:
            for event in self._http_events(last):
                last = event.id or last
                yield event

    def _http_events(self, after: str | None) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after is not None else {})

        def opened() -> Any:
            stream = self._http.send("GET", self._http.url("events"), headers=headers)
            return stream, stream.__enter__()

        stream, response = self._http.retrying(opened)
        try:
            yield from _parse(self._http.pieces(response))
        except Unreachable:
            # A stream that breaks off is opened again by whoever reads it.
            return
        finally:
            stream.__exit__(None, None, None)

    # The server.

    def presets(self) -> list[dict[str, Any]]:
        """What can be asked for."""
        return list(self._json("GET", self._http.url("presets"))["items"])

    def limits(self) -> dict[str, Any]:
        """Bounds on uploads."""
        return self._json("GET", self._http.url("limits"))

    def cluster(self) -> dict[str, Any]:
        """Nodes, slots and queues; for administrators."""
        return self._json("GET", self._http.url("cluster"))

    def _items(self, path: str, **query: str | None) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while True:
            page = self._json("GET", self._http.url(path, cursor=cursor, **query))
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _json(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> dict[str, Any]:
        def attempt() -> bytes:
            with self._http.send(method, url, body, headers) as response:
                return self._http.read(response)

        document = json.loads(self._http.retrying(attempt, repeatable))
        if not isinstance(document, dict):
            raise InkpoolError("the answer is not one of an Inkpool server")
        return document


_JSON = {"Content-Type": "application/json"}


def _document(value: Any) -> bytes:
    return json.dumps(value).encode()


def _id(thing: str | Image | Job) -> str:
    return thing if isinstance(thing, str) else thing.id


def _look_at(source: Source, filename: str | None) -> tuple[str, int, str, Any]:
    """Name, length, SHA-256, and how to open it: as often as it is sent."""
    if isinstance(source, bytes):
        digest = hashlib.sha256(source).hexdigest()
        return filename or "image", len(source), digest, lambda: io.BytesIO(source)
    path = Path(source)
    with path.open("rb") as file:
        digest = _digest(file)
        size_bytes = file.tell()
    return filename or path.name, size_bytes, digest, lambda: path.open("rb")


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def _key(sha256: str, filename: str, preset: str, settings: Mapping[str, str] | None) -> str:
    """Stands for these bytes of this name, made into these files."""
    whole = json.dumps([sha256, filename, preset, sorted((settings or {}).items())])
    return f"python-{hashlib.sha256(whole.encode()).hexdigest()}"


def _content_type(head: bytes, name: str) -> str:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[:1] == b"P" and head[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6", b"7"):
        return "image/x-portable-anymap"
    for magic, kind in MAGIC:
        if head.startswith(magic):
            return kind
    raise InkpoolError(f"{name} is no image of a supported kind; say content_type if it is")


def _below(folder: Path, name: str) -> Path:
    """The place of a file, unless its name leads out of the folder."""
    parts = name.split("/")
    if any(not part or part.startswith(".") or "\\" in part or not part.isprintable() for part in parts):
        raise InkpoolError("a file of the server has a name that leads elsewhere")
    return folder.joinpath(*parts)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _parse(pieces: Iterator[bytes]) -> Iterator[Event]:
    """Lines become events (WHATWG HTML, 9.2.6)."""
    unread = b""
    kind, data, last = "", [], None
    for piece in pieces:
        *lines, unread = (unread + piece).split(b"\n")
        for raw in lines:
            line = raw.rstrip(b"\r").decode(errors="replace")
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif name == "id":
                last = value
            elif not line and data:
                yield Event(kind or "message", json.loads("\n".join(data)), last)
            if not line:
                kind, data = "", []
