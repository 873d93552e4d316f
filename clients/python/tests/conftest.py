"""A real server for each test."""

import os
import subprocess
import threading
from pathlib import Path

import pytest


class Server:
    """The program on a free port with a data directory of its own."""

    def __init__(self, data: Path, settings: dict[str, str], listen: str = "127.0.0.1:0"):
        self.program = os.environ.get("INKPOOL_BIN", "target/debug/inkpool")
        self.data = data
        command = [self.program, "serve", "--listen", listen, "--data", str(data), "--slots", "2"]
        # INKPOOL_BIN and the like are ours; settings have a section.
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("INKPOOL_") or "__" in k} | settings
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment
        )
        self.log: list[str] = []
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()
        self.url = next((line.split()[-1] for line in self.process.stdout if "http://" in line), None)
        assert self.url, f"the server did not start: {''.join(self.log)}"

    def admin(self, *arguments: str) -> str:
        command = [self.program, "admin", "--data", str(self.data), *arguments]
        return subprocess.run(command, env=self.environment, check=True, text=True, capture_output=True).stdout.strip()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=60)


@pytest.fixture
def start(tmp_path):
    """Starts servers on the test's data directory; all of them end with the test."""
    started = []

    def begin(listen="127.0.0.1:0", **settings):
        started.append(Server(tmp_path / "data", settings, listen))
        return started[-1]

    yield begin
    for server in started:
        server.stop()
