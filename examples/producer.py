"""A program outside that lets Inkpool process an image over NATS: puts the bytes into the object store, publishes a message,
and prints what it is told until the job has ended.

    pip install nats-py
    python examples/producer.py NATS OBJECTS OWNER FILE [PRESET]

OBJECTS is the directory `objects` of the server's data directory. Where objects are in a bucket, put the bytes there
under the same key instead (below the prefix of `blobs.url`), for example with boto3's `put_object`. OWNER is the `owner` of
GET /api/v1/session. The exit code is 1 when the image was rejected or the job failed.
"""

import asyncio
import hashlib
import json
import os
import pathlib
import sys
import uuid

import nats

# An answer comes within moments; a job may wait behind others.
PATIENCE_S = 600


def put(objects: pathlib.Path, object_key: str, data: bytes) -> None:
    """Writes the whole object under another name and renames it, so that it is never seen half."""
    target = objects / object_key
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}#0")
    with open(unfinished, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(target)


async def submit(server: str, objects: str, owner: str, path: str, preset: str = "document") -> bool:
    # 1. The bytes.
    data = pathlib.Path(path).read_bytes()
    key = str(uuid.uuid4())
    object_key = f"incoming/{owner}/{key}"
    put(pathlib.Path(objects), object_key, data)

    # 2. Whoever listens first misses nothing.
    client = await nats.connect(server)
    events = await client.subscribe(f"inkpool.events.{owner}.>")
    await client.flush()

    # 3. The message. Its acknowledgement means that it is stored; the answer is an event.
    message = {
        "schema": "inkpool.submit/1",
        "object_key": object_key,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "filename": pathlib.Path(path).name,
        "preset": preset,
        "idempotency_key": key,
    }
    await client.jetstream().publish(f"inkpool.submit.{owner}", json.dumps(message).encode())

    # 4. What becomes of it. Every event of it but `progress` carries the key.
    try:
        while True:
            event = await events.next_msg(timeout=PATIENCE_S)
            if (event.headers or {}).get("Inkpool-Idempotency-Key") != key:
                continue
            kind = event.subject.rsplit(".", 1)[1]
            print(json.dumps({"kind": kind, "body": json.loads(event.data)}), flush=True)
            if kind in ("succeeded", "rejected", "failed", "cancelled"):
                return kind == "succeeded"
    finally:
        await client.close()


if __name__ == "__main__":
    if len(sys.argv) not in (5, 6):
        sys.exit("usage: producer.py NATS OBJECTS OWNER FILE [PRESET]")
    sys.exit(0 if asyncio.run(submit(*sys.argv[1:])) else 1)
