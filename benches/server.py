"""Measures the server end to end, on a release build: latency of one page on a warm slot, small jobs a second, and the
share of the CPU of a job that is not the pipeline.

usage: server.py INKPOOL IN_PROCESS JPEG_12MP   (scripts/bench calls it)

INKPOOL is the program; IN_PROCESS runs the same engine without server, bus, ledger or worker process
(`in_process PRESET COUNT FILE`, prints the CPU seconds of one job); JPEG_12MP is a photo. Standard library only.
"""

import http.client
import json
import os
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

TICKS = os.sysconf("SC_CLK_TCK")


def png(width, height, seed=0):
    """A gray PNG with strokes on shaded paper."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        rows += bytes(
            30 if (x // 3 + seed) % 7 == 0 and (y // 9) % 2 == 0 else 190 + (x * 7 + y * 3 + seed) % 40
            for x in range(width)
        )

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(rows), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


class Server:
    """A server on a fresh data directory."""

    def __init__(self, program, slots):
        self.directory = tempfile.TemporaryDirectory(prefix="inkpool-bench-")
        command = [program, "serve", "--listen", "127.0.0.1:0", "--slots", str(slots), "--data", self.directory.name]
        environment = {**os.environ, "INKPOOL_LOG__FILTER": "warn"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        line = self.process.stdout.readline()
        self.host, port = line.strip().rsplit("/", 1)[1].split(":")
        self.port = int(port)

    def connect(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=120)

    def upload(self, connection, body, preset):
        connection.request("POST", f"/api/v1/images?preset={preset}&filename=bench", body=body)
        answer = connection.getresponse()
        result = json.loads(answer.read())
        if answer.status != 202:
            raise SystemExit(f"upload refused: {result}")
        return result["items"][0]["job"]["id"]

    def cpu_seconds(self):
        """CPU of the server and of its workers, living or reaped."""
        total = 0
        for pid in [self.process.pid, *self.workers()]:
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
            except FileNotFoundError:
                continue
            total += int(fields[11]) + int(fields[12])
            if pid == self.process.pid:
                total += int(fields[13]) + int(fields[14])
        return total / TICKS

    def workers(self):
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat") as stat:
                        parent = int(stat.read().rsplit(")", 1)[1].split()[1])
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if parent == self.process.pid:
                    found.append(int(entry))
        return found

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.directory.cleanup()


class Watcher(threading.Thread):
    """Follows the events of the server; knows when each job succeeded."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.connection = server.connect()
        self.connection.request("GET", "/api/v1/events")
        self.stream = self.connection.getresponse()
        self.ended = {}
        self.changed = threading.Condition()
        self.start()

    def run(self):
        for raw in self.stream:
            if raw.startswith(b"data:"):
                job = json.loads(raw[5:])
                if job.get("state") in ("succeeded", "failed", "cancelled"):
                    with self.changed:
                        self.ended[job["id"]] = (time.perf_counter(), job)
                        self.changed.notify_all()

    def wait(self, jobs):
        with self.changed:
            if not self.changed.wait_for(lambda: all(job in self.ended for job in jobs), 300):
                raise SystemExit("jobs did not end within 300 s")
        failed = [self.ended[job][1] for job in jobs if self.ended[job][1]["state"] != "succeeded"]
        if failed:
            raise SystemExit(f"a job did not succeed: {failed[0]}")


def latency(program):
    """From an upload's last byte to the event `succeeded`, milliseconds: a page of 0.23 megapixels, one warm slot."""
    server = Server(program, 1)
    watcher, connection, times = Watcher(server), server.connect(), []
    for seed in range(60):
        body = png(540, 420, seed)
        sent = time.perf_counter()  # the body is in the socket's buffer microseconds later
        job = server.upload(connection, body, "document")
        watcher.wait([job])
        times.append((watcher.ended[job][0] - sent) * 1000)
        time.sleep(0.02)
    server.stop()
    return sorted(times[10:])


def throughput(program, jobs=600, clients=8):
    """Small pictures (64 × 64) a second: four slots, eight clients, preset photo."""
    server = Server(program, 4)
    watcher, body, accepted, lock = Watcher(server), png(64, 64), [], threading.Lock()

    def client(count):
        connection = server.connect()
        for _ in range(count):
            job = server.upload(connection, body, "photo")
            with lock:
                accepted.append(job)

    client(20)
    watcher.wait(accepted)
    began = time.perf_counter()
    threads = [threading.Thread(target=client, args=(jobs // clients,)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    watcher.wait(accepted)
    rate = (len(accepted) - 20) / (time.perf_counter() - began)
    server.stop()
    return rate


def share(program, in_process, body, file, preset, count, rounds):
    """CPU of a job end to end, and of the same job in process; medians of paired rounds, seconds, and their share."""
    server = Server(program, 1)
    watcher, connection = Watcher(server), server.connect()
    watcher.wait([server.upload(connection, body, preset)])
    whole, alone = [], []
    for _ in range(rounds):
        before = server.cpu_seconds()
        jobs = [server.upload(connection, body, preset) for _ in range(count)]
        watcher.wait(jobs)
        time.sleep(0.3)
        whole.append((server.cpu_seconds() - before) / count)
        output = subprocess.run([in_process, preset, str(count), file], check=True, capture_output=True, text=True)
        alone.append(float(output.stdout))
    server.stop()
    shares = [1 - b / a for a, b in zip(whole, alone)]
    return statistics.median(whole), statistics.median(alone), statistics.median(shares)


def main():
    program, in_process, jpeg = sys.argv[1:4]
    times = latency(program)
    print("| measure | value | goal |\n|---|---|---|")
    print(f"| last byte → succeeded, 540 × 420 page, warm slot, p50 | {times[len(times) // 2]:.0f} ms | ≤ 250 ms |")
    print(f"| the same, p95 | {times[int(len(times) * 0.95)]:.0f} ms | – |")
    rates = sorted(throughput(program) for _ in range(3))
    print(f"| jobs a second, 64 × 64 PNG, 4 slots, median of 3 | {rates[1]:.0f} | – |")
    with open(jpeg, "rb") as file:
        photo = file.read()
    whole, alone, part = share(program, in_process, photo, jpeg, "photo", 3, 5)
    print(f"| CPU of a 12-megapixel photo, end to end / in process | {whole:.3f} s / {alone:.3f} s | – |")
    print(f"| share that is not the pipeline, 12 megapixels | {part * 100:.1f} % | ≤ 3 % |")
    with tempfile.NamedTemporaryFile(suffix=".png") as small:
        small.write(png(64, 64))
        small.flush()
        whole, alone, part = share(program, in_process, png(64, 64), small.name, "photo", 200, 5)
    print(f"| CPU of a 64 × 64 PNG, end to end / in process | {whole * 1000:.2f} ms / {alone * 1000:.2f} ms | – |")
    print(f"| share that is not the pipeline, 64 × 64 | {part * 100:.0f} % | – |")


if __name__ == "__main__":
    main()
