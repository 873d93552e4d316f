"""Jobs a second and CPU a job of Inkpool, embedded and as a full cluster, beside a site of Django and Celery that makes the same files.

usage: cluster.py INKPOOL S3_SERVER NATS_SERVER JPEG_12MP [--quick] [--rounds N] [--slots N]     (scripts/bench cluster calls it)

All systems are started once, each with services of its own, and take turns: a round gives each the same images, from the same
clients, and ends when all are done. A round counts only if every file of every image is there with its size. Ratios are medians of
the ratios within the rounds. Runs in the virtual environment of benches/peers/requirements.txt.
"""

import argparse
import contextlib
import hashlib
import io
import os
import statistics
import tempfile
import threading
import time

from PIL import Image

import services
from server import png
from systems import Inkpool, Links, Site

# Clients that send at once, each with connections that it keeps: two or more for each slot, so that none waits for a client.
CLIENTS = 8
# How often is asked how many wait. With rounds of several seconds it is within 2 %.
LOOK_S = 0.05
# Bound on what follows the last upload of a round.
ROUND_S = 300


class Picture:
    """What is sent, and the files that must come of it."""

    def __init__(self, title, body, content_type, count, rounds):
        self.title, self.body, self.content_type, self.count, self.rounds = title, body, content_type, count, rounds
        self.sha256 = hashlib.sha256(body).hexdigest()
        with Image.open(io.BytesIO(body)) as image:
            width, height = image.size
        side, scale = min(512, width, height), min(1, 320 / max(width, height))
        thumb = round(width * scale), round(height * scale)
        self.sizes = {"full.webp": (width, height), "crop.webp": (side, side), "thumb.webp": thumb}


class Turn:
    """What one system did with one round."""

    def __init__(self, system, way, picture):
        links, lock, self.images = Links(), threading.Lock(), []
        cpu, own, begun = services.cpu_seconds(system.roots()), time.process_time(), time.perf_counter()
        left = list(range(picture.count))
        failures = []

        def client():
            links = Links()
            while not failures:
                with lock:
                    if not left:
                        return
                    left.pop()
                try:
                    image = system.send(links, picture, way)
                except (SystemExit, OSError) as error:
                    failures.append(error)
                    return
                with lock:
                    self.images.append(image)

        threads = [threading.Thread(target=client) for _ in range(min(CLIENTS, picture.count))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise SystemExit(f"{system.name}: {failures[0]}")
        while system.unfinished(links) > 0:
            if time.perf_counter() - begun > ROUND_S:
                raise SystemExit(f"{system.name}: images wait for more than {ROUND_S} s")
            time.sleep(LOOK_S)
        lasted = time.perf_counter() - begun
        self.client = (time.process_time() - own) / lasted
        # What is acknowledged and tidied after the last result is part of the job.
        time.sleep(0.3)
        after = services.cpu_seconds(system.roots())
        self.rate = picture.count / lasted
        self.parts = {name: (after[pid] - cpu[pid]) / picture.count for pid, name in system.roots().items()}
        self.cpu = sum(self.parts.values())
        self.check(system, links, picture)

    def check(self, system, links, picture):
        """Every file of every image is a WebP of the size that it must have."""
        if len(set(self.images)) != picture.count:
            raise SystemExit(f"{system.name}: {len(set(self.images))} images of {picture.count}")
        self.lengths = {}
        for image in self.images:
            sizes = {}
            for name, content in system.files(links, image).items():
                with Image.open(io.BytesIO(content)) as file:
                    sizes[name] = file.size if file.format == "WEBP" else file.format
                self.lengths[name] = len(content)
            if sizes != picture.sizes:
                raise SystemExit(f"{system.name}: {image} has {sizes}, not {picture.sizes}")


def take_turns(systems, picture):
    """Turns of each contestant (system and way), by rounds."""
    contestants = [(system, way) for system in systems for way in system.ways]
    turns = {contestant: [] for contestant in contestants}
    for at in range(picture.rounds + 1):
        # Everyone comes first as often as the others do.
        for system, way in contestants[at % len(contestants) :] + contestants[: at % len(contestants)]:
            turn = Turn(system, way, picture)
            if at > 0:  # the first round starts what is started when it is needed
                turns[system, way].append(turn)
    return turns


def median(turns, value):
    return statistics.median(value(turn) for turn in turns)


def against(turns, others, value):
    return statistics.median(value(turn) / value(other) for turn, other in zip(turns, others))


def table(picture, turns, peer):
    print(f"{picture.title}, {picture.count} in a round, {picture.rounds} rounds, median (least – most):\n")
    print("| system | upload | jobs a second | × the site's | CPU a job | × the site's | of it | client's CPU |")
    print("|---|---|---|---|---|---|---|---|")
    others = turns[peer]
    for (system, way), mine in turns.items():
        rates, names = [turn.rate for turn in mine], mine[0].parts
        parts = ", ".join(f"{name} {1000 * statistics.median(turn.parts[name] for turn in mine):.1f}" for name in names)
        print(
            f"| {system.name} | {way} | {statistics.median(rates):.1f} ({min(rates):.1f} – {max(rates):.1f}) "
            f"| {against(mine, others, lambda turn: turn.rate):.2f} | {1000 * median(mine, lambda turn: turn.cpu):.1f} ms "
            f"| {against(mine, others, lambda turn: turn.cpu):.2f} | {parts} ms "
            f"| {100 * median(mine, lambda turn: turn.client):.0f} % of a core |"
        )
    lengths = {system.name: mine[0].lengths for (system, _), mine in turns.items()}
    told = [f"{name}: " + ", ".join(f"{file} {size}" for file, size in files.items()) for name, files in lengths.items()]
    print(f"\nBytes of the files. {'; '.join(told)}.\n", flush=True)


def main():
    parser = argparse.ArgumentParser()
    for name in ("inkpool", "s3", "nats", "photo"):
        parser.add_argument(name, type=os.path.abspath)
    parser.add_argument("--quick", action="store_true", help="a few images in one round: that everything works")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slots", type=int, default=2, help="slots of Inkpool, and processes of Celery")
    programs = parser.parse_args()
    with open(programs.photo, "rb") as file:
        photo = file.read()
    rounds = 1 if programs.quick else programs.rounds
    pictures = [
        Picture("PNG of 64 × 64", png(64, 64), "image/png", 32 if programs.quick else 120, rounds),
        Picture("JPEG of 12 megapixels", photo, "image/jpeg", 2 if programs.quick else 4, rounds),
    ]
    with tempfile.TemporaryDirectory() as directory:
        flush_ms = services.flush_ms(directory)
    print(f"A flush of 4 kB to this disk takes {flush_ms:.2f} ms, median of 50. {CLIENTS} clients, {programs.slots} slots.\n")
    with contextlib.ExitStack() as stack:
        systems = []
        for make in (
            lambda: Inkpool(programs, False),
            lambda: Inkpool(programs, True),
            lambda: Site(programs, "always"),
            lambda: Site(programs, "everysec"),
        ):
            systems.append(make())
            stack.callback(systems[-1].stop)
        # Equal durability: what was answered with 2xx is on disk.
        peer = (systems[2], "announced")
        for picture in pictures:
            turns = take_turns(systems, picture)
            table(picture, turns, peer)


if __name__ == "__main__":
    main()
