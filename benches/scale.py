"""How jobs a second grow with nodes and with slots when what a job costs is waiting: pages whose worker sleeps for 3 s
(`inkpool-fault: slow`), on nodes of the real program with PostgreSQL, NATS and S3.

usage: scale.py INKPOOL S3_SERVER [--rounds 3] [--seconds 30]      (scripts/bench calls it)

INKPOOL has fault points. Each measurement has services and nodes of its own, and uploads go on, so that there are always more
jobs than slots. A slot's pace is the time between its ends of jobs, and the rate is the sum over all slots, so that it does not matter
how far each has got when the measurement ends. Standard library only.
"""

import argparse
import statistics
import struct
import threading
import time
import zlib

from nodes import Services, progress, until

SHAPES = [(1, 2), (3, 2), (1, 8)]
JOB_SECONDS = 3
# Nodes know of each other's slots by then: more than the time between two renewals of a lease.
WARM_SECONDS = 10


def page(number=None):
    """A PNG of 64 × 64; with a number, unlike all others, and its worker sleeps."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = bytearray()
    for y in range(64):
        rows.append(0)
        rows += bytes(190 + (x * 7 + y * 3 + (number or 0)) % 40 for x in range(64))
    head = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    text = [] if number is None else [(b"tEXt", b"inkpool-fault\0slow %d" % number)]
    parts = [(b"IHDR", head), *text, (b"IDAT", zlib.compress(bytes(rows), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)


class Feeder(threading.Thread):
    """Uploads, so that there are always jobs that wait: several for each slot, and the least that there ever were."""

    AHEAD = 3

    def __init__(self, services, servers, slots):
        super().__init__(daemon=True)
        self.services, self.servers, self.slots = services, servers, slots
        self.least, self.stopped, self.number = None, threading.Event(), 0

    def run(self):
        try:
            while not self.stopped.is_set():
                left = self.left()
                if left < self.slots * self.AHEAD:
                    for _ in range(self.slots):
                        self.servers[self.number % len(self.servers)].upload(page(self.number))
                        self.number += 1
                    continue
                self.least = left if self.least is None else min(self.least, left)
                self.stopped.wait(0.5)
        except BaseException as error:
            # Said by whoever looks at the end.
            self.least = 0
            progress(f"uploads ended: {error}")

    def left(self):
        left = int(self.services.sql("SELECT count(*) FROM jobs WHERE state IN ('queued', 'released')"))
        if self.least is not None:
            self.least = min(self.least, left)
        return left

    def stop(self):
        self.stopped.set()
        self.join(120)
        if not self.least:
            raise SystemExit("slots were without jobs during the measurement")


def measure(options, nodes, slots):
    """Jobs a second, and the pause of a slot between two jobs, seconds: median and 95th percentile."""
    with Services(s3=options.s3) as services:
        # 512 MiB for each worker, so that all slots of a small machine may work at once.
        settings = {"slots__memory_bytes_max": 512 << 20, "slots__memory_total_bytes_max": 8 << 30}
        servers = [services.node(options.program, number, slots, **settings) for number in range(nodes)]
        count = nodes * slots
        feeder = Feeder(services, servers, count)
        feeder.start()
        until("jobs wait", 120, lambda: feeder.least is not None)
        time.sleep(WARM_SECONDS)
        begun = int(services.sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"))
        time.sleep(options.seconds)
        feeder.stop()
        wrong = int(services.sql("SELECT count(*) FROM jobs WHERE attempt > 1 OR state = 'failed'"))
        if wrong:
            raise SystemExit(f"{wrong} jobs failed or were begun again\n{services.said()}")
        rows = services.sql(
            "SELECT node, slot, started_at_ms, finished_at_ms FROM jobs "
            f"WHERE state = 'succeeded' AND finished_at_ms >= {begun} ORDER BY finished_at_ms"
        )
        for server in servers:
            server.process.kill()
    paces, pauses = {}, []
    for row in rows.splitlines():
        node, slot, started, finished = row.split("|")
        paces.setdefault((node, slot), []).append((int(started) / 1000, int(finished) / 1000))
    if len(paces) != count:
        raise SystemExit(f"{len(paces)} of {count} slots worked")
    rate = 0.0
    for times in paces.values():
        rate += (len(times) - 1) / (times[-1][1] - times[0][1])
        pauses += [after[0] - before[1] for before, after in zip(times, times[1:])]
    pauses.sort()
    return rate, statistics.median(pauses), pauses[int(len(pauses) * 0.95)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("s3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    rates, pauses = {shape: [] for shape in SHAPES}, {shape: [] for shape in SHAPES}
    for round_ in range(options.rounds):
        # Each round begins elsewhere, so that nobody is always the first on a machine that gets slower.
        for shape in SHAPES[round_ % 3 :] + SHAPES[: round_ % 3]:
            rate, pause, long = measure(options, *shape)
            said = f"{rate:.3f} jobs/s, pause {pause * 1000:.0f} ms, 95 % {long * 1000:.0f} ms"
            progress(f"round {round_ + 1}, {shape[0]} × {shape[1]}: {said}")
            rates[shape].append(rate)
            pauses[shape].append((pause, long))
    base = SHAPES[0]
    print("| nodes × slots | jobs/s | of what the job's 3 s allow | pause of a slot between jobs, p50 / p95 | of linear, from 1 × 2 |")
    print("|---|---|---|---|---|")
    for nodes, slots in SHAPES:
        shape = (nodes, slots)
        times = nodes * slots / (base[0] * base[1])
        linear = statistics.median(rate / times / one for rate, one in zip(rates[shape], rates[base]))
        rate = statistics.median(rates[shape])
        goal = "" if shape == base else " (goal ≥ 0.90)"
        print(
            f"| {nodes} × {slots} | {rate:.2f} | {rate * JOB_SECONDS / (nodes * slots):.2f} "
            f"| {statistics.median(pause for pause, _ in pauses[shape]) * 1000:.0f} / "
            f"{statistics.median(long for _, long in pauses[shape]) * 1000:.0f} ms | {linear:.2f}{goal} |"
        )
    print(f"\nMedians of {options.rounds} paired rounds of {options.seconds:.0f} s; the ratios are medians of the rounds' ratios.")


if __name__ == "__main__":
    main()
