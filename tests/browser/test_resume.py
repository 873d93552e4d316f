"""Uploads that go on: the server killed in the middle, the network gone, the page closed and opened again."""

import json

import pages
import pytest
from conftest import until
from playwright.sync_api import expect

from test_page import card, choose

WORDS = {
    "en-GB": {"waiting": "Waiting for the network", "sending": "Sending", "done": "Done in", "resumed": "goes on where it was"},
    "ru-RU": {"waiting": "Ждёт сети", "sending": "Отправка", "done": "Готово за", "resumed": "отправляется дальше"},
}
# What the browser itself writes when a connection fails, which a killed server makes it do.
NETWORK_ERRORS = ("net::ERR_", "Failed to load resource")
BYTES_PER_S = 1_500_000


@pytest.fixture
def scan(tmp_path):
    """A file on disk of about 6 MB: the browser knows it again by its name, length and time."""
    file = tmp_path / "scan.png"
    file.write_bytes(pages.noise(2400, 2500))
    return file


@pytest.fixture
def watched(open_page):
    """Opens the page; after the test the console holds nothing but what a lost connection writes there."""
    said = []

    def begin(server, **options):
        page = open_page(server, expect_errors=True, **options)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.get_by_role("radio").nth(1).check()
        return page

    yield begin
    unexpected = [text for text in said if not any(known in text for known in NETWORK_ERRORS)]
    assert unexpected == []


def slow_down(page, bytes_per_s=BYTES_PER_S):
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_s}
    session.send("Network.emulateNetworkConditions", limits)
    return session


def in_pieces(server):
    """Bytes of the unfinished upload that are durable, as the store has them."""
    return sum(piece.stat().st_size for piece in (server.data / "objects" / "piece").rglob("*") if piece.is_file())


def wait_for_pieces(server, at_least):
    until(lambda: in_pieces(server) >= at_least)


def start_small(start, **options):
    return start(INKPOOL_TUS__PIECE_BYTES="262144", **options)


def assert_one_image(page, server, file):
    images = page.request.get(f"{server.url}/api/v1/images").json()["items"]
    assert [(image["filename"], image["size_bytes"]) for image in images] == [(file.name, file.stat().st_size)]


@pytest.mark.parametrize("locale", WORDS)
@pytest.mark.parametrize("width", [1280, 390])
def test_a_killed_server_in_the_middle_of_an_upload(start, watched, scan, shot, locale, width):
    words = WORDS[locale]
    server = start_small(start)
    page = watched(server, locale=locale, width=width)
    offsets = []
    page.on("request", lambda request: offsets.append(int(request.headers["upload-offset"])) if request.method == "PATCH" else None)
    slow_down(page)
    choose(page, scan)
    sheet = card(page, scan.name)
    expect(sheet.locator(".state")).to_contain_text(words["sending"])
    wait_for_pieces(server, 1_500_000)
    server.kill()
    expect(sheet).to_have_attribute("data-state", "offline")
    expect(sheet.locator(".state")).to_have_text(words["waiting"])
    expect(page.locator("#link")).to_have_attribute("data-state", "lost")
    shot(page, f"offline-{locale}-{width}", full_page=True)
    there = in_pieces(server)
    server = start_small(start, listen=server.url.removeprefix("http://"))
    expect(sheet).to_have_attribute("data-state", "succeeded")
    expect(sheet.locator(".state")).to_contain_text(words["done"])
    # What was there was not sent again; a piece may have been stored that was not acknowledged yet.
    assert max(offsets) > 0 and any(there - 262_144 <= offset <= there for offset in offsets), (there, offsets)
    assert_one_image(page, server, scan)


@pytest.mark.parametrize("locale", WORDS)
def test_a_killed_server_in_the_middle_of_a_job(start, watched, page_file, locale):
    server = start(slots=1)
    page = watched(server, locale=locale)
    page.get_by_role("radio").first.check()
    choose(page, page_file("slow.png", 2000, 2400))
    slow = card(page, "slow.png")
    expect(slow).to_have_attribute("data-state", "running")
    # Only now: sent together, the short one can be done before the long one has come.
    choose(page, page_file("next.png", 500, 400))
    expect(card(page, "next.png")).to_have_attribute("data-state", "queued")
    server.kill()
    expect(page.locator("#link")).to_have_attribute("data-state", "lost")
    start(slots=1, listen=server.url.removeprefix("http://"))
    for name in ["slow.png", "next.png"]:
        expect(card(page, name)).to_have_attribute("data-state", "succeeded")
        expect(card(page, name).locator(".state")).to_contain_text(WORDS[locale]["done"])
    expect(page.locator(".card")).to_have_count(2)


def test_a_network_that_goes_away_and_comes_back(start, watched, scan):
    server = start_small(start)
    page = watched(server)
    session = slow_down(page)
    choose(page, scan)
    sheet = card(page, scan.name)
    wait_for_pieces(server, 1_000_000)
    # By the session that slows it down: of two that have a say, the first would win.
    there_is_none = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    session.send("Network.emulateNetworkConditions", there_is_none)
    expect(sheet).to_have_attribute("data-state", "offline")
    share = sheet.locator(".bar").evaluate("(bar) => bar.value")
    assert 0 < share < 1, share
    session.send("Network.emulateNetworkConditions", {**there_is_none, "offline": False, "downloadThroughput": -1, "uploadThroughput": -1})
    expect(sheet).to_have_attribute("data-state", "succeeded")
    assert_one_image(page, server, scan)


@pytest.mark.parametrize("locale", WORDS)
def test_the_same_file_on_a_page_that_was_closed(start, watched, scan, locale):
    server = start_small(start)
    page = watched(server, locale=locale)
    slow_down(page)
    choose(page, scan)
    wait_for_pieces(server, 1_500_000)
    context = page.context
    page.close()
    page = context.new_page()
    offsets = []
    page.on("request", lambda request: offsets.append(int(request.headers["upload-offset"])) if request.method == "PATCH" else None)
    page.goto(server.url)
    page.wait_for_selector("#link[data-state=live]")
    page.get_by_role("radio").nth(1).check()
    choose(page, scan)
    sheet = card(page, scan.name)
    expect(page.locator("#live")).to_contain_text(WORDS[locale]["resumed"])
    expect(sheet).to_have_attribute("data-state", "succeeded")
    assert offsets[0] >= 1_500_000, offsets
    assert_one_image(page, server, scan)
    # Its memory is empty now: given once more, the file is an upload of its own.
    assert json.loads(page.evaluate("localStorage.getItem('inkpool.uploads')")) == {}
    choose(page, scan)
    expect(page.locator(".card[data-state=succeeded]")).to_have_count(2)


def test_a_file_given_twice_at_once_is_two_images(start, watched, scan):
    server = start_small(start)
    page = watched(server)
    choose(page, scan)
    choose(page, scan)
    expect(page.locator(".card[data-state=succeeded]")).to_have_count(2)
    assert len(page.request.get(f"{server.url}/api/v1/images").json()["items"]) == 2


def test_a_cancelled_upload_leaves_nothing(start, watched, scan):
    server = start_small(start)
    page = watched(server)
    slow_down(page)
    choose(page, scan)
    wait_for_pieces(server, 500_000)
    card(page, scan.name).get_by_role("button", name="Cancel").click()
    expect(card(page, scan.name)).to_have_attribute("data-state", "stopped")
    until(lambda: in_pieces(server) == 0)
    assert page.request.get(f"{server.url}/api/v1/images").json()["items"] == []
    assert json.loads(page.evaluate("localStorage.getItem('inkpool.uploads')")) == {}


def test_what_is_no_image_is_refused_with_its_first_bytes(start, watched, tmp_path):
    server = start_small(start)
    page = watched(server)
    film = tmp_path / "film.png"
    film.write_bytes(b"only words in here " * 200_000)
    choose(page, film)
    expect(card(page, "film.png")).to_have_attribute("data-state", "failed")
    expect(card(page, "film.png").locator(".what")).to_have_text("This is text.")
    assert in_pieces(server) == 0
