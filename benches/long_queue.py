"""What a long queue costs: choosing, releasing and claiming a job with 100 and with 100,000 queued, and the memory of a server that
works on the longer queue. Real PostgreSQL and NATS.

usage: long_queue.py INKPOOL QUEUE [--jobs 100000] [--rounds 25] [--minutes 3]      (scripts/bench calls it)

QUEUE is examples/queue.rs: it fills two databases of one server through the program's own ledger, and measures by turns. The client's times
are from the call to its answer, a commit with its flush included; the server's are those of the statements alone, buffers are pages of
8 KiB that the statements touched, both from pg_stat_statements. Memory is that of the server process, without its workers.
Standard library only.
"""

import argparse
import hashlib
import json
import os
import subprocess
import time

from nodes import Services, progress, until
from scale import page

FEW = 100
OWNERS = 20
SLOTS = 2
FILL_SECONDS = 900
COST_SECONDS = 600
RATIO_MAX, MEMORY_MB_MAX = 1.2, 200


def fill(options, services, database, jobs, objects):
    services.sql(f"CREATE DATABASE {database}")
    services.sql("CREATE EXTENSION pg_stat_statements", database)
    file = services.path("page.png")
    with open(file, "wb") as target:
        target.write(page())
    os.makedirs(objects, exist_ok=True)
    began = time.monotonic()
    command = [options.queue, "fill", services.url(database), str(jobs), str(OWNERS), file, objects]
    subprocess.run(command, check=True, timeout=FILL_SECONDS)
    # What autovacuum does within the next minutes.
    services.sql("VACUUM ANALYZE", database)
    progress(f"{jobs} jobs queued in {time.monotonic() - began:.0f} s")


def cost(options, services):
    command = [options.queue, "cost", services.url("small"), services.url("large"), str(options.rounds)]
    done = subprocess.run(command, check=True, timeout=COST_SECONDS, capture_output=True, text=True)
    found = json.loads(done.stdout)
    few, many = found["queued"]
    print(f"| step | client, {few} queued | {many} queued | ratio, median of pairs | server, {few} | {many} | buffers, {few} | {many} |")
    print("|---|---|---|---|---|---|---|---|")
    for step in found["steps"]:
        small, large = step["small"], step["large"]
        goal = f" (goal ≤ {RATIO_MAX})" if step["step"] == "claim" else ""
        print(
            f"| {step['step']} | {small['client_ms']:.2f} ms | {large['client_ms']:.2f} ms | {step['ratio']:.2f}{goal} "
            f"| {small['server_ms']:.2f} ms | {large['server_ms']:.2f} ms | {small['buffers']:.0f} | {large['buffers']:.0f} |"
        )
    print(f"\n{found['steps'][0]['pairs']} pairs, by turns; {OWNERS} owners, half of the jobs one owner's and first in the queue.")


def queued(services):
    return int(services.sql("SELECT count(*) FROM jobs WHERE finished_at_ms IS NULL", "large"))


def memory(options, services):
    # The measurement before has queued some without an image to work on.
    sha256 = hashlib.sha256(page()).hexdigest()
    services.sql(f"DELETE FROM images WHERE sha256 <> '{sha256}'", "large")
    node = services.node(options.program, 0, SLOTS, "large", jobs__queue_jobs_max=2 * options.jobs)
    begun, began, samples = queued(services), time.monotonic(), []
    done = "SELECT count(*) FROM jobs WHERE state = 'succeeded' AND node <> 'bench'"
    until("the server works on the queue", 60, lambda: int(services.sql(done, "large")) > 0)
    while time.monotonic() - began < 60 * options.minutes:
        samples.append(node.memory_mb())
        # What an administrator's page and a monitor ask for.
        for path in ["/api/v1/cluster", "/readyz"]:
            node.get(path)
        time.sleep(1)
    ended, peak = queued(services), node.memory_mb("VmHWM")
    failed = int(services.sql("SELECT count(*) FROM jobs WHERE state = 'failed'", "large"))
    if failed:
        raise SystemExit(f"{failed} jobs failed\n{services.said()}")
    quarters = [max(samples[len(samples) * part // 4 : len(samples) * (part + 1) // 4]) for part in range(4)]
    print("| measure | value |\n|---|---|")
    print(f"| queued at first, at the end, after | {begun}, {ended}, {time.monotonic() - began:.0f} s |")
    print(f"| jobs a second, {SLOTS} slots | {(begun - ended) / (time.monotonic() - began):.1f} |")
    print(f"| server memory, highest of each quarter | {', '.join(f'{value:.0f}' for value in quarters)} MB |")
    print(f"| server memory, peak | {peak:.0f} MB (goal < {MEMORY_MB_MAX}) |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("queue")
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--minutes", type=float, default=3)
    options = parser.parse_args()
    extension = ["-c", "shared_preload_libraries=pg_stat_statements", "-c", "pg_stat_statements.track_planning=on"]
    with Services(postgres=extension) as services:
        fill(options, services, "small", FEW, services.path("unused"))
        fill(options, services, "large", options.jobs, services.path("node-0/objects"))
        cost(options, services)
        print()
        memory(options, services)


if __name__ == "__main__":
    main()
