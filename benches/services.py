"""The services that benchmarks need, each fresh, in a directory of their own, on a free port of the loopback interface; and the
CPU time of trees of processes."""

import contextlib
import os
import secrets
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUCKET = "pages"
# Bound on the start of one service.
START_S = 120


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Process:
    """A started program, ended with the value; its output is in a file."""

    def __init__(self, name, command, log, port=None, environment=None, directory=ROOT):
        self.name, self.log = name, log
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, cwd=directory, env={**os.environ, **(environment or {})}
            )
        if port is not None:
            self.until(lambda: answers(port))

    def until(self, is_ready):
        ends = time.monotonic() + START_S
        while not is_ready():
            if self.process.poll() is not None or time.monotonic() > ends:
                self.stop()
                raise SystemExit(f"{self.name} did not start:\n{self.said()[-2000:]}")
            time.sleep(0.05)

    def said(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def postgres(directory, options=()):
    """A PostgreSQL that flushes every commit, with what its guides give a small machine. Its port, and the process."""
    port, data = free_port(), os.path.join(directory, "postgres")
    os.mkdir(data)
    settings = ["-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "shared_buffers=256MB", *options]
    command = ["scripts/services", "postgres", data, str(port), *settings]
    process = Process("PostgreSQL", command, os.path.join(directory, "postgres.log"))
    process.until(lambda: "database system is ready to accept connections" in process.said())
    return port, process


def nats(directory, program):
    """A NATS server with JetStream on disk. Its address, and the process."""
    port, store = free_port(), os.path.join(directory, "nats")
    configuration = os.path.join(directory, "nats.conf")
    with open(configuration, "w") as file:
        file.write(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{store}", max_mem: 64MB, max_file: 256MB }}\n')
    command = [program, "-c", configuration]
    return f"nats://127.0.0.1:{port}", Process("nats-server", command, os.path.join(directory, "nats.log"), port)


def redis(directory, appendfsync):
    """A Redis with an append-only file. Its address, and the process."""
    port, data = free_port(), os.path.join(directory, "redis")
    os.mkdir(data)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", data, "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", appendfsync]
    return f"redis://127.0.0.1:{port}/0", Process("redis-server", command, os.path.join(directory, "redis.log"), port)


class S3:
    """The S3 server of the tests, with one bucket."""

    def __init__(self, directory, program):
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        key, secret = secrets.token_hex(8), secrets.token_hex(16)
        self.settings = {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
        }
        environment = {"ROOT_ACCESS_KEY": key, "ROOT_SECRET_KEY": secret, "TMPDIR": directory}
        log = os.path.join(directory, "s3.log")
        self.process = Process("s3_server", [program, f"127.0.0.1:{port}", BUCKET], log, port, environment)


def stat(pid):
    """Parent, and CPU seconds of a process with those of its children that have ended."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[1]), sum(int(field) for field in fields[11:15]) / TICKS


def cpu_seconds(roots):
    """CPU seconds of each of these processes with all that they have started, living or ended."""
    found, total = {}, dict.fromkeys(roots, 0.0)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[int(entry)] = stat(entry)
    for pid, (_, seconds) in found.items():
        above = pid
        while above in found and above not in total:
            above = found[above][0]
        if above in total:
            total[above] += seconds
    return total


def flush_ms(directory):
    """Median of what the disk takes to flush 4 kB that were added to a file."""
    times = []
    path = os.path.join(directory, "flush")
    with open(path, "wb", buffering=0) as file:
        for _ in range(50):
            file.write(os.urandom(4096))
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(1000 * (time.perf_counter() - begun))
    os.unlink(path)
    return sorted(times)[len(times) // 2]
