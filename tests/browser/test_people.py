"""What one may use, and what administrators do about it: users, failed jobs, dead letters. Desktop and phone, English and Russian."""

import json
import sqlite3
import time
import uuid

import pages
import pytest
from conftest import until
from playwright.sync_api import expect

from test_accounts import PASSWORD, SETTINGS, fill, register, settled
from test_axe import LOOKS, findings
from test_page import card, choose

LOCAL = "00000000-0000-0000-0000-000000000001"
BOUNDED = SETTINGS | {"INKPOOL_QUOTAS__STORED_BYTES_MAX": "1000000"}


def api(page, method, path, body=None):
    """As the page itself asks."""
    url = page.url.split("/", 3)
    headers = {"x-inkpool-csrf": "1", "content-type": "application/json"}
    answer = page.request.fetch("/".join(url[:3]) + "/api/v1" + path, method=method, headers=headers, data=body)
    assert answer.ok, answer.text()
    return answer.json() if answer.text() else None


def bury(data, name, payload):
    """A dead letter, as a producer's eighth failure writes it."""
    with sqlite3.connect(data / "inkpool.sqlite", timeout=30) as ledger:
        problem = {"type": "x", "title": "x", "status": 503, "code": "unavailable", "detail": "The bucket was away."}
        row = (uuid.uuid4().bytes, f"inkpool.submit.{LOCAL}", json.dumps(payload | {"filename": name}), 8, json.dumps(problem))
        ledger.execute("INSERT INTO dead_letters VALUES (?, ?, ?, ?, ?, ?)", (*row, int(time.time() * 1000)))
    ledger.close()


def submission(data, content):
    """A message whose bytes are there, so that a replay takes it."""
    import hashlib

    key = f"incoming/{LOCAL}/{uuid.uuid4()}.png"
    place = data / "objects" / key
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return {"schema": "inkpool.submit/1", "object_key": key, "sha256": digest, "size_bytes": len(content)}


@pytest.mark.parametrize(("width", "locale"), [(1280, "en-GB"), (390, "ru-RU")])
def test_what_one_uses_is_shown_before_and_after(start, open_page, page_file, shot, width, locale):
    page = open_page(start(**BOUNDED), width=width, locale=locale, inside=False, expect_errors=True)
    page.locator("#door-swap").click()
    page.locator("#door-form [name=username]").fill("ada")
    page.locator("#door-form [name=password]").fill(PASSWORD)
    page.locator("#door-send").click()
    settled(page)
    lines = page.locator("#quota li")
    expect(lines).to_have_count(3)
    english = locale == "en-GB"
    expect(lines.first).to_contain_text("0 bytes of 1.0 MB stored" if english else "Хранится 0 байт из 1,0 МБ")
    choose(page, page_file("scan.png"))
    expect(card(page, "scan.png")).to_have_attribute("data-state", "succeeded")
    expect(lines.first).not_to_contain_text("0 bytes of" if english else "Хранится 0 байт")
    shot(page, f"quota-desk-{width}", full_page=True)
    me = api(page, "GET", "/session")
    # The first account is the administrator's, so that it can bound itself.
    api(page, "PUT", f"/accounts/{me['id']}/quota", {"stored_bytes_max": 10})
    choose(page, page_file("more.png", seed=2))
    refused = card(page, "more.png").locator(".trouble")
    expect(refused).to_contain_text("Delete images" if english else "Места больше нет")
    shot(page, f"quota-refused-{width}", full_page=True)
    api(page, "PUT", f"/accounts/{me['id']}/quota", {"pixels_per_day_max": 1})
    choose(page, page_file("pixels.png", seed=3))
    expect(card(page, "pixels.png").locator(".trouble")).to_contain_text("in 24 hours" if english else "На сегодня хватит")
    page.locator("#account-open").click()
    expect(page.locator("#account-quota li")).to_have_count(3)
    page.wait_for_timeout(300)
    shot(page, f"quota-account-{width}")


def test_a_day_that_is_used_up_says_until_when(start, open_page, page_file):
    page = open_page(start(**SETTINGS), inside=False, expect_errors=True)
    register(page, "ada")
    settled(page)
    me = api(page, "GET", "/session")
    api(page, "PUT", f"/accounts/{me['id']}/quota", {"pixels_per_day_max": 540 * 420})
    for name, seed in [("one.png", 1), ("two.png", 2)]:
        choose(page, page_file(name, seed=seed))
    expect(page.locator(".card[data-state=succeeded]")).to_have_count(1)
    expect(page.locator(".card .trouble:visible")).to_contain_text("There is room again from")


def test_what_is_here_is_not_stored_again(start, open_page, page_file):
    server = start()
    page = open_page(server)
    choose(page, page_file("one.png", seed=4))
    expect(card(page, "one.png")).to_have_attribute("data-state", "succeeded")
    page.get_by_label("not stored again").check()
    choose(page, page_file("two.png", seed=4))
    expect(page.locator("#live")).to_contain_text("It was here already: one.png.")
    expect(page.locator(".card")).to_have_count(1)
    assert len(api(page, "GET", "/images")["items"]) == 1


@pytest.mark.parametrize(("width", "locale"), [(1280, "en-GB"), (390, "ru-RU")])
def test_users_are_looked_after(start, open_page, shot, width, locale):
    server = start(**SETTINGS)
    ada = open_page(server, inside=False, expect_errors=True)
    root = open_page(server, width=width, locale=locale, inside=False, expect_errors=True)
    for page, name in [(root, "root"), (ada, "ada")]:
        page.locator("#door-swap").click()
        page.locator("#door-form [name=username]").fill(name)
        page.locator("#door-form [name=password]").fill(PASSWORD)
        page.locator("#door-send").click()
        settled(page)
    root.locator("#nav-cluster").click()
    expect(root.locator(".person")).to_have_count(2)
    hers = root.locator(".person", has=root.get_by_role("heading", name="ada", exact=True))
    own = root.locator(".person", has=root.get_by_role("heading", name="root", exact=True))
    shot(root, f"people-{width}", full_page=True)
    # Bounds of her own.
    hers.locator(".person-bounds-label").click()
    hers.locator("[name=stored]").fill("0.5")
    hers.locator("[name=jobs]").fill("0")
    hers.locator(".person-set").click()
    expect(hers.locator(".quota li").first).to_contain_text("500")
    expect(hers.locator(".quota li").last.locator("meter")).to_have_count(0)
    shot(root, f"people-bounds-{width}", full_page=True)
    # A new password ends her session.
    hers.locator(".person-password-label").click()
    hers.locator("[name=password]").fill("nine crooked lamps")
    hers.locator(".person-reset").click()
    expect(ada.locator("#door")).to_be_visible()
    fill(ada, "ada", "nine crooked lamps")
    expect(ada.locator("#door")).to_be_hidden()
    # Disabled: asked once more, then she is out at once.
    hers.locator(".person-admit").click()
    expect(ada.locator("#door")).to_be_hidden()
    hers.locator(".person-admit").click()
    expect(hers).to_have_attribute("data-disabled", "true")
    expect(ada.locator("#door")).to_be_visible()
    fill(ada, "ada", "nine crooked lamps")
    expect(ada.locator("#door-trouble")).to_contain_text("disabled")
    shot(root, f"people-disabled-{width}", full_page=True)
    hers.locator(".person-admit").click()
    expect(hers).to_have_attribute("data-disabled", "false")
    fill(ada, "ada", "nine crooked lamps")
    expect(ada.locator("#door")).to_be_hidden()
    # The last administrator stays one.
    own.locator("select").select_option("user")
    expect(root.locator("#people-notice")).to_contain_text("administrator" if locale == "en-GB" else "администратор")
    expect(own.locator("select")).to_have_value("admin")
    hers.locator("select").select_option("admin")
    ada.reload()
    expect(ada.locator("#nav-cluster")).to_be_visible()


@pytest.mark.parametrize(("width", "locale"), [(1280, "en-GB"), (390, "ru-RU")])
def test_what_failed_is_begun_again_together(start, open_page, shot, tmp_path, width, locale):
    server = start()
    page = open_page(server, width=width, locale=locale, expect_errors=True)
    data = tmp_path / "data"
    for name in ["one.png", "two.png", "three.png"]:
        server.send(page.request, name, pages.truncated_png())
    for number in range(2):
        bury(data, f"good{number}.png", submission(data, pages.png(200, 150, number)))
    bury(data, "gone.png", {"schema": "inkpool.submit/1", "object_key": f"incoming/{LOCAL}/x", "sha256": "0" * 64, "size_bytes": 1})
    page.locator("#nav-cluster").click()
    failed, letters = page.locator("#failed-list li"), page.locator("#letters-list li")
    expect(failed).to_have_count(3)
    expect(letters).to_have_count(3)
    expect(page.locator("#people-section")).to_be_hidden()
    shot(page, f"failures-{width}", full_page=True)
    failed.filter(has_text="one.png").locator("input").check()
    failed.filter(has_text="two.png").locator("input").check()
    page.locator("#failed-retry").click()
    expect(failed).to_have_count(1)
    expect(page.locator("#live")).to_contain_text("2")
    # Two are taken; the third has no bytes, stays, and says why.
    page.locator("#letters-all").click()
    page.locator("#letters-replay").click()
    expect(letters).to_have_count(1)
    expect(letters).to_contain_text("gone.png")
    expect(page.locator("#letters-notice")).to_be_visible()
    until(lambda: len(api(page, "GET", "/images")["items"]) == 5)
    shot(page, f"failures-left-{width}", full_page=True)
    # Removed for good: asked once more.
    page.locator("#letters-remove").click()
    expect(letters).to_have_count(1)
    page.locator("#letters-remove").click()
    expect(page.locator("#letters-none")).to_be_visible()
    assert api(page, "GET", "/dead-letters")["items"] == []


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_the_cluster_has_no_serious_finding(start, open_page, shot, tmp_path, scheme, width):
    server = start(**SETTINGS)
    page = open_page(server, width=width, color_scheme=scheme, inside=False)
    register(page, "root")
    settled(page)
    server.send(page.request, "cut.png", pages.truncated_png())
    bury(tmp_path / "data", "gone.png", {"schema": "inkpool.submit/1"})
    page.locator("#nav-cluster").click()
    expect(page.locator("#letters-list li")).to_have_count(1)
    expect(page.locator("#failed-list li")).to_have_count(1)
    page.locator(".person-bounds-label").click()
    page.locator("#failed-list input").check()
    page.wait_for_timeout(300)
    shot(page, f"axe-cluster-{scheme}-{width}", full_page=True)
    assert findings(page) == []
