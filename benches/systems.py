"""The systems that `scripts/bench cluster` compares, each started fresh with services of its own, and how a client speaks with each.

A system says how an image is sent (`send`, by a name of its `ways`), how many wait (`unfinished`), what was made of one (`files`), and
which processes are its own (`roots`).
"""

import http.client
import json
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.parse

import psycopg

import services
from services import Process

SITE = os.path.join(services.ROOT, "benches/peers/celery_site")
# Processes of gunicorn, and threads of each: as many as clients, so that each connection that is kept has one.
GUNICORN = ("2", "4")


class Links(dict):
    """Connections of one client that are kept, by host and port."""

    def ask(self, address, method, path, body=None, headers=None):
        if address not in self:
            self[address] = http.client.HTTPConnection(address, timeout=120)
        self[address].request(method, path, body=body, headers=headers or {})
        answer = self[address].getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path} was answered {answer.status}: {content[:500]}")
        return content

    def put(self, target, body):
        url = urllib.parse.urlsplit(target["url"])
        self.ask(url.netloc, "PUT", f"{url.path}?{url.query}", body, target["headers"])

    def get(self, url):
        url = urllib.parse.urlsplit(url)
        return self.ask(url.netloc, "GET", f"{url.path}?{url.query}")


class System:
    """A directory, services and programs that end together."""

    def __init__(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="inkpool-bench-")
        self.directory = self.temporary.name
        # The database runs as nobody when the bench runs as root.
        os.chmod(self.directory, 0o711)
        self.parts = []

    def path(self, name):
        return os.path.join(self.directory, name)

    def roots(self):
        return {part.process.pid: part.name for part in self.parts}

    def stop(self):
        for part in reversed(self.parts):
            part.stop()
        self.temporary.cleanup()


class Inkpool(System):
    """One node. `ways`: `one request` is POST /images; `announced` is announce, put and complete."""

    ways = ("one request", "announced")

    def __init__(self, programs, in_cluster):
        super().__init__()
        self.name = "Inkpool, full cluster" if in_cluster else "Inkpool, embedded"
        settings = {"INKPOOL_LOG__FILTER": "warn", "INKPOOL_DATA": self.path("data")}
        if in_cluster:
            settings |= self.cluster(programs)
        command = [programs.inkpool, "serve", "--listen", "127.0.0.1:0", "--slots", str(programs.slots)]
        server = Process("inkpool", command, self.path("inkpool.log"), environment=settings, directory=self.directory)
        self.parts.append(server)
        server.until(lambda: "http://" in server.said())
        line = next(line for line in server.said().splitlines() if "http://" in line)
        self.address = line.rsplit("http://", 1)[1].strip()

    def cluster(self, programs):
        port, database = services.postgres(self.directory)
        self.parts.append(database)
        bus, server = services.nats(self.directory, programs.nats)
        self.parts.append(server)
        store = services.S3(self.directory, programs.s3)
        self.parts.append(store.process)
        return store.settings | {
            "INKPOOL_STORE__URL": f"postgres://inkpool@127.0.0.1:{port}/postgres",
            "INKPOOL_BUS__URL": bus,
            "INKPOOL_BLOBS__URL": f"s3://{services.BUCKET}/bench",
            "INKPOOL_BLOBS__ENDPOINT": store.endpoint,
        }

    def send(self, links, picture, way):
        if way == "one request":
            path = "/api/v1/images?preset=photo&filename=bench"
            answer = json.loads(links.ask(self.address, "POST", path, picture.body))
            return answer["items"][0]["image"]["id"]
        announced = {
            "filename": "bench",
            "size_bytes": len(picture.body),
            "sha256": picture.sha256,
            "content_type": picture.content_type,
        }
        asked = json.dumps({"preset": "photo", "files": [announced]})
        kind = {"content-type": "application/json"}
        target = json.loads(links.ask(self.address, "POST", "/api/v1/uploads", asked, kind))["items"][0]
        if target["url"].startswith("/"):
            target["url"] = f"http://{self.address}{target['url']}"
        links.put(target, picture.body)
        answer = json.loads(links.ask(self.address, "POST", f"/api/v1/uploads/{target['id']}/complete"))
        return answer["image"]["id"]

    def unfinished(self, links):
        return json.loads(links.ask(self.address, "GET", "/api/v1/quota"))["jobs_queued"]["used"]

    def files(self, links, image):
        answer = json.loads(links.ask(self.address, "GET", f"/api/v1/images/{image}"))
        made = [file for file in answer["files"] if file["name"].endswith(".webp")]
        return {file["name"]: links.get(urllib.parse.urljoin(f"http://{self.address}", file["url"])) for file in made}


class Site(System):
    """Django, Celery, Redis, PostgreSQL and S3: benches/peers/celery_site."""

    ways = ("announced",)

    def __init__(self, programs, appendfsync):
        super().__init__()
        self.name = f"Django + Celery, appendfsync {appendfsync}"
        port, database = services.postgres(self.directory)
        self.parts.append(database)
        broker, server = services.redis(self.directory, appendfsync)
        self.parts.append(server)
        store = services.S3(self.directory, programs.s3)
        self.parts.append(store.process)
        settings = store.settings | {
            "PYTHONDONTWRITEBYTECODE": "1",
            "SITE_SECRET": secrets.token_hex(32),
            "SITE_POSTGRES_PORT": str(port),
            "SITE_REDIS_URL": broker,
            "SITE_S3_ENDPOINT": store.endpoint,
            "SITE_S3_BUCKET": services.BUCKET,
        }
        self.prepare(port, settings)
        self.serve(settings)
        self.work(settings, programs.slots)

    def prepare(self, port, settings):
        with psycopg.connect(f"postgresql://inkpool@127.0.0.1:{port}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE site")
        command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(command, cwd=SITE, check=True, env={**os.environ, **settings})

    def serve(self, settings):
        port = services.free_port()
        self.address = f"127.0.0.1:{port}"
        processes, threads = GUNICORN
        command = [sys.executable, "-m", "gunicorn", "gallery.wsgi", "--bind", self.address, "--log-level", "warning"]
        command += ["--worker-class", "gthread", "--workers", processes, "--threads", threads, "--keep-alive", "60"]
        log = self.path("gunicorn.log")
        self.parts.append(Process("gunicorn", command, log, port, settings, directory=SITE))

    def work(self, settings, processes):
        command = [sys.executable, "-m", "celery", "--app", "gallery", "worker", "--pool", "prefork", "--loglevel", "WARNING"]
        # Nothing watches the workers, so they need not tell each other how they are.
        command += ["--concurrency", str(processes), "--without-gossip", "--without-mingle", "--without-heartbeat"]
        # It has no port to ask: the first round, which is not counted, waits for it.
        self.parts.append(Process("celery", command, self.path("celery.log"), environment=settings, directory=SITE))

    def send(self, links, picture, way):
        kind = {"content-type": "application/json"}
        meta = {"filename": "bench", "content_type": picture.content_type, "size_bytes": len(picture.body)}
        target = json.loads(links.ask(self.address, "POST", "/images/upload-meta", json.dumps(meta), kind))
        links.put(target, picture.body)
        links.ask(self.address, "POST", f"/images/{target['id']}/uploaded")
        return target["id"]

    def unfinished(self, links):
        return json.loads(links.ask(self.address, "GET", "/images/unfinished"))["count"]

    def files(self, links, image):
        answer = json.loads(links.ask(self.address, "GET", f"/images/{image}"))
        return {file["name"]: links.get(file["url"]) for file in answer["files"]}
