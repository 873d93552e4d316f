"""The real program, started, killed and started again on one data directory and one address."""

import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest


class Server:
    def __init__(self, data: Path):
        self.data = data
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.api = f"http://{self.address}/api/v1"
        self.process = None

    def start(self, **settings):
        program = os.environ.get("INKPOOL_BIN", "target/debug/inkpool")
        command = [program, "serve", "--listen", self.address, "--data", str(self.data), "--slots", "1"]
        environment = {"PATH": "/usr/bin:/bin", "INKPOOL_TUS__PIECE_BYTES": "65536"} | settings
        self.log = []
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        threading.Thread(target=lambda err: self.log.extend(err), args=[self.process.stderr], daemon=True).start()
        ready = next((line for line in self.process.stdout if "http://" in line), None)
        assert ready, f"the server did not start: {''.join(self.log)}"

    def kill(self):
        self.process.kill()
        assert self.process.wait(timeout=60) == -signal.SIGKILL

    def has_died(self):
        return self.process.wait(timeout=60) == -signal.SIGKILL

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(timeout=60) == 0


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "data")
    yield server
    server.stop()
