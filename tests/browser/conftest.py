"""A real server and a real browser for each test."""

import os
import subprocess
import threading
import time
from pathlib import Path

import pages
import pytest
from playwright.sync_api import expect, sync_playwright

# Bound on every wait; it only ends tests that have failed.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def until(holds):
    """Waits until it holds. Playwright's own way evaluates strings in the page, which its policy forbids."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.05)


class Server:
    """The program on a free port with a data directory of its own."""

    def __init__(self, data: Path, slots: int, listen: str, settings: dict[str, str]):
        program = os.environ.get("INKPOOL_BIN", "target/debug/inkpool")
        command = [program, "serve", "--listen", listen, "--data", str(data), "--slots", str(slots)]
        # INKPOOL_BIN and the like are ours; settings have a section.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("INKPOOL_") or "__" in k}
        environment = inherited | settings
        self.data = data
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.log: list[str] = []
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()
        self.url = next((line.split()[-1] for line in self.process.stdout if "http://" in line), None)
        assert self.url, f"the server did not start: {''.join(self.log)}"

    def send(self, request, name, content, preset="document"):
        """Uploads as a program does, and waits for the job; the image."""
        url = f"{self.url}/api/v1"
        query = {"filename": name, "preset": preset}
        headers = {"content-type": "application/octet-stream"}
        answer = request.post(f"{url}/images", params=query, data=content, headers=headers)
        assert answer.status == 202, answer.text()
        item = answer.json()["items"][0]
        ended = ("succeeded", "failed", "cancelled")
        until(lambda: request.get(f"{url}/jobs/{item['job']['id']}").json()["state"] in ended)
        return request.get(f"{url}/images/{item['image']['id']}").json()

    def kill(self):
        """As a power cut does."""
        self.process.kill()
        self.process.wait(timeout=60)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=60)


@pytest.fixture
def start(tmp_path):
    """Starts servers on the test's data directory; all of them end with the test."""
    started = []

    def begin(slots=2, listen="127.0.0.1:0", **settings):
        started.append(Server(tmp_path / "data", slots, listen, settings))
        return started[-1]

    yield begin
    for server in started:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="session")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("INKPOOL_CHROMIUM", "/usr/bin/chromium"), args=FLAGS
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, tmp_path):
    """Opens the page at a width. After the test the console must be empty and nothing may scroll sideways."""
    contexts = []
    said = []

    def begin(server, width=1280, height=900, expect_errors=False, inside=True, **options):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", accept_downloads=True, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        if not expect_errors:
            page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(server.url)
        if inside:
            page.wait_for_selector("#link[data-state=live]")
            page.wait_for_selector("#presets input")
        return page

    yield begin
    for context in contexts:
        for page in context.pages:
            overhang = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overhang == 0, f"the page is {overhang} px too wide"
        context.close()
    assert said == []


@pytest.fixture
def shot(tmp_path):
    """Keeps a picture of a page; INKPOOL_SCREENSHOTS names the folder to look into."""
    folder = Path(os.environ.get("INKPOOL_SCREENSHOTS", tmp_path))

    def take(page, name, **options):
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{name}.png", **options)

    return take


@pytest.fixture
def page_file():
    """A file to choose, drop or paste: Playwright's form of it."""

    def make(name="scan.png", width=540, height=420, seed=0, content=None):
        return {"name": name, "mimeType": "image/png", "buffer": content or pages.png(width, height, seed)}

    return make
