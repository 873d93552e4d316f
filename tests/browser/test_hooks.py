"""Webhooks on the page: made, tried, looked at, sent again; in both languages, on desktop and phone."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pages
import pytest
from conftest import until
from playwright.sync_api import expect

from test_accounts import SETTINGS, register
from test_axe import LOOKS, findings

HOOKS = {
    "INKPOOL_WEBHOOKS__ALLOW_HTTP": "true",
    "INKPOOL_WEBHOOKS__ALLOW_PRIVATE": "true",
    "INKPOOL_WEBHOOKS__PORTS": "[]",
    "INKPOOL_WEBHOOKS__ATTEMPTS_MAX": "1",
}


class Receiver:
    """Answers with a status that can be changed, and keeps what came."""

    def __init__(self):
        self.status = 204
        self.ids = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                receiver.ids.append(self.headers["webhook-id"])
                body = b"" if receiver.status == 204 else b"<b>no room</b> for this"
                self.send_response(receiver.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.server.shutdown()


def open_hooks(page):
    page.locator(".foot").get_by_role("link", name="Webhooks").click()
    expect(page.locator("#hooks")).to_be_visible()


def add(page, url, name=""):
    page.locator("#hook-form [name=url]").fill(url)
    page.locator("#hook-form [name=name]").fill(name)
    page.locator("#hook-form button").click()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_webhook_from_its_making_to_its_end(start, open_page, receiver, shot, width):
    server = start(**HOOKS)
    page = open_page(server, width=width)
    open_hooks(page)
    expect(page.locator("#hooks-none")).to_have_text("Nobody is told yet.")
    shot(page, f"hooks-empty-{width}", full_page=True)
    add(page, receiver.url, "archive")
    expect(page.locator("#hooks-secret code")).to_contain_text("whsec_")
    expect(page.locator("#hooks-secret-for")).to_contain_text("The secret of archive.")
    expect(page.locator(".hook-state")).to_have_text("on")
    page.get_by_role("button", name="Test: archive").click()
    line = page.locator(".hook-deliveries > ol > li")
    expect(line.locator(".delivery-state")).to_have_text("arrived")
    expect(line.locator(".delivery-kind")).to_have_text("test")
    receiver.status = 507
    server.send(page.request, "scan.png", pages.png(200, 150))
    expect(line).to_have_count(2)
    expect(line.first.locator(".delivery-state")).to_have_text("given up")
    expect(page.locator(".hook-word")).to_contain_text("1 attempt has failed since")
    line.first.locator("summary").click()
    expect(line.first.locator(".tries li")).to_contain_text("answered 507")
    expect(line.first.locator(".tries pre")).to_have_text("<b>no room</b> for this")
    shot(page, f"hooks-log-{width}", full_page=True)
    receiver.status = 204
    line.first.get_by_role("button", name="Send again").click()
    expect(line.first.locator(".delivery-state")).to_have_text("arrived")
    expect(line.first.locator(".tries li")).to_have_count(2)
    until(lambda: len(receiver.ids) == 3)
    assert receiver.ids[1] == receiver.ids[2]
    expect(page.locator(".hook-word")).to_be_hidden()
    page.get_by_role("button", name="New secret: archive").click()
    expect(page.locator("#hooks-secret-for")).to_contain_text("the one before signs as well")
    page.get_by_role("button", name="Switch off: archive").click()
    expect(page.locator(".hook-state")).to_have_text("off")
    expect(page.get_by_role("button", name="Test: archive")).to_be_disabled()
    page.get_by_role("button", name="Switch on: archive").click()
    expect(page.locator(".hook-state")).to_have_text("on")
    page.reload()
    expect(page.locator(".hook")).to_have_count(1)
    expect(page.locator("#hooks-secret")).to_be_hidden()
    page.locator(".hook-delete").click()
    page.locator(".hook-delete").click()
    expect(page.locator(".hook")).to_have_count(0)
    expect(page.locator("#hooks-said")).to_have_text("archive was deleted.")


@pytest.mark.parametrize("width", [1280, 390])
def test_what_a_webhook_is_told_and_where_can_be_changed(start, open_page, receiver, shot, width):
    server = start(**HOOKS)
    # A refusal is a line in the browser's console.
    page = open_page(server, width=width, expect_errors=True)
    open_hooks(page)
    add(page, "http://127.0.0.1:9/old", "archive")
    page.get_by_role("button", name="Change: archive").click()
    form = page.locator(".hook-change")
    expect(form.locator("[name=url]")).to_have_value("http://127.0.0.1:9/old")
    expect(form.locator("[name=url]")).to_be_focused()
    ticked = [box.input_value() for box in form.locator("[name=event]:checked").all()]
    assert ticked == ["succeeded", "failed", "cancelled"]
    shot(page, f"hooks-change-{width}", full_page=True)
    # What is refused is said, and what was written stays, whatever the page asks for meanwhile.
    form.locator("[name=url]").fill("http://169.254.169.254/")
    form.get_by_role("button", name="Save").click()
    expect(page.locator("#hooks-notice")).to_contain_text("its address is one that webhooks may not have here")
    with page.expect_response(lambda answer: answer.url.endswith("/webhooks")):
        pass
    expect(form.locator("[name=url]")).to_have_value("http://169.254.169.254/")
    form.locator("[name=url]").fill(receiver.url)
    form.locator("[name=name]").fill("office")
    form.get_by_label("did not work").uncheck()
    form.get_by_label("at work").check()
    form.get_by_role("button", name="Save").click()
    expect(page.locator("#hooks-said")).to_have_text("office was changed.")
    expect(form).to_be_hidden()
    expect(page.locator("#hooks-notice")).to_be_hidden()
    expect(page.locator(".hook-url")).to_have_text(receiver.url)
    expect(page.locator(".hook-events")).to_have_text("at work, done, cancelled")
    server.send(page.request, "scan.png", pages.png(200, 150))
    until(lambda: len(receiver.ids) == 2)
    # Without saving nothing changes.
    page.get_by_role("button", name="Change: office").click()
    form.locator("[name=name]").fill("elsewhere")
    form.get_by_role("button", name="Leave it as it is").click()
    expect(page.get_by_role("button", name="Change: office")).to_be_focused()
    page.reload()
    expect(page.locator(".hook-name")).to_have_text("office")
    expect(page.locator(".hook-url")).to_have_text(receiver.url)


def test_one_that_was_switched_off_says_why(start, open_page, receiver, shot):
    server = start(**HOOKS)
    page = open_page(server)
    open_hooks(page)
    receiver.status = 410
    add(page, receiver.url)
    page.locator(".hook-ping").click()
    expect(page.locator(".hook-word")).to_contain_text("the receiver said that it wants no more (410)")
    shot(page, "hooks-off-1280", full_page=True)
    receiver.status = 204
    page.locator(".hook-switch").click()
    expect(page.locator(".hook-word")).to_be_hidden()


def test_what_is_refused_is_said(start, open_page):
    # A refusal is a line in the browser's console.
    page = open_page(start(), expect_errors=True)
    open_hooks(page)
    for url, words in [
        ("http://example.org/", "This is refused: the URL begins with https://."),
        ("https://127.0.0.1/", "its address is one that webhooks may not have here"),
        ("https://no-such-name.invalid/", "the name could not be resolved"),
    ]:
        add(page, url)
        expect(page.locator("#hooks-notice")).to_contain_text(words)
    expect(page.locator(".hook")).to_have_count(0)


def test_in_russian(start, open_page, receiver, shot):
    server = start(**HOOKS)
    page = open_page(server, width=390, locale="ru-RU")
    page.goto(server.url + "/webhooks")
    expect(page.locator("#hooks-title")).to_have_text("Вебхуки")
    receiver.status = 500
    add(page, receiver.url)
    page.locator(".hook-ping").click()
    expect(page.locator(".delivery-state")).to_have_text("не дошло")
    page.locator(".hook-deliveries summary").click()
    expect(page.locator(".tries li")).to_contain_text("ответ 500")
    expect(page.locator(".hook-word")).to_contain_text("1 неудачная попытка подряд")
    shot(page, "hooks-ru-390", full_page=True)


def test_the_account_leads_there(start, open_page):
    page = open_page(start(**SETTINGS), inside=False)
    register(page, "ada")
    page.wait_for_selector("#presets input")
    page.locator("#account-open").click()
    page.locator("#account").get_by_role("link", name="To the webhooks").click()
    expect(page.locator("#account")).to_be_hidden()
    expect(page.locator("#hooks")).to_be_visible()


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_it_has_no_serious_finding(start, open_page, receiver, shot, scheme, width):
    server = start(**HOOKS)
    page = open_page(server, width=width, color_scheme=scheme)
    open_hooks(page)
    receiver.status = 500
    add(page, receiver.url, "archive")
    page.locator(".hook-ping").click()
    expect(page.locator(".delivery-state")).to_have_text("given up")
    page.locator(".hook-deliveries summary").click()
    page.locator(".hook-edit").click()
    shot(page, f"axe-hooks-{scheme}-{width}", full_page=True)
    assert findings(page) == []
