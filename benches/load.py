"""Measures the server under many clients: uploads at once, and watchers of events.

usage: load.py uploads INKPOOL [--clients 32] [--files 50] [--megabytes 20] [--by post|tus|both]
       load.py watchers INKPOOL [--watchers 500] [--pages 60]         (scripts/bench calls both)

`uploads`: every client sends its files one after the other, and deletes each when it is accepted, so that the disk needs room
for one file of each client. Memory is that of the server process alone, ten times a second; workers have their own.
`watchers`: event streams of one owner, who sends small pages one after the other. Standard library only.
"""

import argparse
import asyncio
import collections
import http.client
import json
import os
import statistics
import threading
import time

from server import Server, png


class Memory:
    """Resident memory of a process while this is entered, MB."""

    def __init__(self, pid):
        self.pid, self.samples, self.stopped = pid, [], threading.Event()

    def now(self):
        with open(f"/proc/{self.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1000

    def __enter__(self):
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while not self.stopped.wait(0.1):
            self.samples.append(self.now())

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()

    def quarters(self):
        """Highest of each quarter of the time: flat, or rising?"""
        size = max(1, len(self.samples) // 4)
        return [round(max(self.samples[at * size : (at + 1) * size] or [0])) for at in range(4)]


def noise(megabytes):
    """A page as PNM that nothing makes shorter: nearly as many pixels as bytes."""
    side = 4000
    pixels = side * (megabytes * 1_000_000 // side - 1)
    return f"P5\n{side} {pixels // side}\n255\n".encode() + (os.urandom(1 << 16) * (pixels // (1 << 16) + 1))[:pixels]


class Client:
    def __init__(self, server, body, counts, waits):
        self.server, self.body, self.counts, self.waits = server, body, counts, waits
        self.connection = server.connect()

    def ask(self, method, path, headers=None, body=None):
        """Asks again what is answered 503 with Retry-After, as a client should; every answer is counted."""
        while True:
            self.connection.request(method, f"/api/v1{path}", body=body, headers=headers or {})
            answer = self.connection.getresponse()
            text = answer.read()
            self.counts[answer.status] += 1
            if answer.status != 503:
                return answer, text
            time.sleep(int(answer.headers.get("retry-after", 1)))

    def post(self):
        _, text = self.ask("POST", "/images?preset=photo&filename=load.pgm", body=self.body)
        return json.loads(text)["items"][0]["image"]["id"]

    def tus(self):
        spoken = {"tus-resumable": "1.0.0"}
        answer, _ = self.ask("POST", "/tus", spoken | {"upload-length": str(len(self.body))})
        path = answer.headers["location"].removeprefix("/api/v1")
        bytes_at = {"content-type": "application/offset+octet-stream", "upload-offset": "0"}
        answer, text = self.ask("PATCH", path, spoken | bytes_at, self.body)
        if answer.status != 204:
            raise SystemExit(f"refused: {text}")
        return answer.headers["inkpool-image"]

    def run(self, files, way):
        for _ in range(files):
            begun = time.monotonic()
            image = getattr(self, way)()
            self.waits.append(time.monotonic() - begun)
            self.ask("DELETE", f"/images/{image}")


def uploads(options):
    body = noise(options.megabytes)
    print("| by | clients × files × size | MB/s | one upload, p50 / p95 / longest | server memory before, then highest of each quarter | answers |")
    print("|---|---|---|---|---|---|")
    for way in ["post", "tus"] if options.by == "both" else [options.by]:
        server = Server(options.program, 1)
        try:
            counts, waits = collections.Counter(), []
            Client(server, body, collections.Counter(), []).run(1, way)
            with Memory(server.process.pid) as memory:
                before, begun = round(memory.now()), time.monotonic()
                threads = [
                    threading.Thread(target=Client(server, body, counts, waits).run, args=(options.files, way))
                    for _ in range(options.clients)
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                lasted = time.monotonic() - begun
            if len(waits) != options.clients * options.files:
                raise SystemExit(f"{len(waits)} uploads came to their end")
            cuts = statistics.quantiles(waits, n=20)
            total = len(waits) * options.megabytes
            print(
                f"| {way} | {options.clients} × {options.files} × {options.megabytes} MB | {total / lasted:.0f} "
                f"| {statistics.median(waits):.1f} / {cuts[18]:.1f} / {max(waits):.1f} s "
                f"| {before} MB; {', '.join(map(str, memory.quarters()))} MB "
                f"| {', '.join(f'{count} × {status}' for status, count in sorted(counts.items()))} |",
                flush=True,
            )
        finally:
            stop(server)


async def watch(server, arrivals, opened):
    """Notes when the event `queued` of each job comes."""
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=1 << 20)
    writer.write(f"GET /api/v1/events HTTP/1.1\r\nhost: {server.host}:{server.port}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    opened.release()
    rest = b""
    while piece := await reader.read(1 << 16):
        now = time.monotonic()
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and b'"state":"queued"' in line:
                arrivals[json.loads(line[5:])["id"]].append(now)


async def watched(server, options):
    arrivals, opened = collections.defaultdict(list), asyncio.Semaphore(0)
    memory = Memory(server.process.pid)
    alone = memory.now()
    watchers = [asyncio.create_task(watch(server, arrivals, opened)) for _ in range(options.watchers)]
    for _ in watchers:
        await opened.acquire()
    quiet = memory.now()
    sent = {}
    page = png(64, 64)

    def send():
        connection = http.client.HTTPConnection(server.host, server.port, timeout=120)
        for _ in range(options.pages):
            begun = time.monotonic()
            sent[server.upload(connection, page, "photo")] = begun
            # Each is told of in about ten events, to every watcher: all of them are to be through by then.
            time.sleep(1)

    with memory:
        await asyncio.to_thread(send)
        await asyncio.sleep(3)
    for watcher in watchers:
        watcher.cancel()
    missing = sum(options.watchers - len(arrivals[job]) for job in sent)
    waits = sorted(1000 * (at - begun) for job, begun in sent.items() for at in arrivals[job])
    spread = [1000 * (max(arrivals[job]) - min(arrivals[job])) for job in sent if arrivals[job]]
    cuts = statistics.quantiles(waits, n=100)
    print("| measure | value |\n|---|---|")
    print(f"| watchers, pages sent, events missing | {options.watchers}, {options.pages}, {missing} |")
    print(f"| upload begun → `queued` at a watcher, p50 / p95 / p99 | {cuts[49]:.0f} / {cuts[94]:.0f} / {cuts[98]:.0f} ms |")
    print(f"| first watcher → last watcher, median / longest | {statistics.median(spread):.0f} / {max(spread):.0f} ms |")
    print(f"| server memory: alone, with watchers, highest while events come | {alone:.0f}, {quiet:.0f}, {max(memory.samples):.0f} MB |")


def stop(server):
    server.process.kill()
    server.process.wait()
    server.directory.cleanup()


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    load = commands.add_parser("uploads")
    load.add_argument("program")
    load.add_argument("--clients", type=int, default=32)
    load.add_argument("--files", type=int, default=50)
    load.add_argument("--megabytes", type=int, default=20)
    load.add_argument("--by", choices=["post", "tus", "both"], default="both")
    events = commands.add_parser("watchers")
    events.add_argument("program")
    events.add_argument("--watchers", type=int, default=500)
    events.add_argument("--pages", type=int, default=60)
    options = parser.parse_args()
    if options.command == "uploads":
        uploads(options)
        return
    server = Server(options.program, 1)
    try:
        asyncio.run(watched(server, options))
    finally:
        stop(server)


if __name__ == "__main__":
    main()
