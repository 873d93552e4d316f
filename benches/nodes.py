"""Nodes of the program with PostgreSQL, NATS and, if wanted, S3, all gone at the end of a run. Every wait ends: a node that does not come
up ends the run with what it said. Standard library only.
"""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time

import services

# A statement of the measuring itself.
SQL_SECONDS = 120


def until(what, seconds, fact):
    """Waits for a fact; ends the run when it does not come true."""
    end = time.monotonic() + seconds
    while True:
        found = fact()
        if found:
            return found
        if time.monotonic() > end:
            raise SystemExit(f"not within {seconds} s: {what}")
        time.sleep(0.1)


class Services:
    """`s3`: the program of examples/s3_server.rs, where objects are to live in a bucket. `postgres`: further options of its server."""

    def __init__(self, s3=None, postgres=()):
        self.temporary = tempfile.TemporaryDirectory(prefix="inkpool-bench-")
        self.directory, self.parts = self.temporary.name, []
        # The database server may run as somebody else.
        os.chmod(self.directory, 0o711)
        try:
            self._start(s3, postgres)
        except BaseException:
            self.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _start(self, s3, postgres):
        self.postgres_port, database = services.postgres(self.directory, ["-c", "max_connections=200", *postgres])
        self.parts.append(database)
        program = os.environ.get("INKPOOL_TEST_NATS_SERVER") or os.path.join(services.ROOT, ".tools/venv/bin/nats-server")
        self.bus, bus = services.nats(self.directory, program)
        self.parts.append(bus)
        self.store = s3 and services.S3(self.directory, s3)
        if self.store:
            self.parts.append(self.store.process)

    def path(self, name):
        return os.path.join(self.directory, name)

    def said(self):
        """The last words of everybody."""
        return "\n".join(f"{part.name}: {part.said()[-600:]}" for part in self.parts)

    def url(self, database="postgres"):
        return f"postgres://inkpool@127.0.0.1:{self.postgres_port}/{database}"

    def sql(self, text, database="postgres", check=True):
        """What a statement answers, columns apart by `|`."""
        found = "set -eu; . scripts/lib.sh; find_postgres"
        programs = subprocess.run(["bash", "-c", found], cwd=services.ROOT, check=True, capture_output=True, text=True).stdout.strip()
        command = [os.path.join(programs, "psql"), "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", text, self.url(database)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SQL_SECONDS)
        if check and done.returncode:
            raise SystemExit(done.stderr)
        return done.stdout.strip()

    def node(self, program, number, slots, database="postgres", **settings):
        node = Node(self, program, number, slots, database, settings)
        until(f"node {number} is ready; {self.said()}", services.START_S, node.ready)
        return node

    def stop(self):
        for part in reversed(self.parts):
            part.stop()
        self.temporary.cleanup()


class Node:
    """A node of the program. `settings` are those of `config/default.toml`, as in `slots__drain_s=0`."""

    def __init__(self, around, program, number, slots, database, settings):
        self.around, self.data = around, around.path(f"node-{number}")
        os.makedirs(self.data, exist_ok=True)
        environment = {
            "INKPOOL_STORE__URL": around.url(database),
            "INKPOOL_BUS__URL": around.bus,
            "INKPOOL_LOG__FILTER": "warn",
            **{f"INKPOOL_{name.upper()}": str(value) for name, value in settings.items()},
        }
        if around.store:
            environment |= around.store.settings | {
                "INKPOOL_BLOBS__URL": f"s3://{services.BUCKET}/inkpool",
                "INKPOOL_BLOBS__ENDPOINT": around.store.endpoint,
            }
        self.port = services.free_port()
        command = [program, "serve", "--listen", f"127.0.0.1:{self.port}", "--slots", str(slots), "--data", self.data]
        part = services.Process(f"node-{number}", command, f"{self.data}.log", environment=environment)
        around.parts.append(part)
        self.process = part.process

    def ready(self):
        if self.process.poll() is not None:
            raise SystemExit(f"a node ended with {self.process.returncode}\n{self.around.said()}")
        try:
            return self.get("/readyz")["ready"]
        except (OSError, ValueError, KeyError, http.client.HTTPException):
            return False

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def upload(self, body, preset="photo"):
        """Sends one image; the id of its job."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", f"/api/v1/images?preset={preset}&filename=page.png", body=body)
            answer = connection.getresponse()
            said = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 202:
            raise SystemExit(f"upload refused: {answer.status} {said}")
        return said["items"][0]["job"]["id"]

    def memory_mb(self, what="VmRSS"):
        """Of the server alone; `VmHWM` is the most that it ever had."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith(what + ":"):
                    return int(line.split()[1]) / 1024
        raise SystemExit(f"no {what}")


def progress(text):
    """For whoever waits; tables go to standard output."""
    print(text, file=sys.stderr, flush=True)
