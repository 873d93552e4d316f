"""Every view on a screen of 2560 px: nothing scrolls sideways, lines stay short enough to be read, pictures for those who look."""

import pages
import pytest
from conftest import until
from playwright.sync_api import expect

from test_page import ALL_PAINTED, card, choose

WIDE = {"width": 2560, "height": 1440}
LOOKS = [("en-GB", "light"), ("ru-RU", "dark")]
# A line of prose that is longer makes people lose the next one; about 100 letters.
PROSE_PX_MAX = 1100
PROSE = "[...document.querySelectorAll('p, .notice')].filter((p) => p.offsetParent && p.textContent.length > 120).map((p) => p.getBoundingClientRect().width)"


def assert_readable(page):
    widths = page.evaluate(PROSE)
    assert max(widths, default=0) <= PROSE_PX_MAX, widths


@pytest.mark.parametrize(("locale", "scheme"), LOOKS)
def test_every_view_on_a_wide_screen(start, open_page, page_file, shot, locale, scheme):
    server = start(slots=2)
    page = open_page(server, locale=locale, color_scheme=scheme, **WIDE)
    look = f"wide-{locale[:2]}-{scheme}"
    shot(page, f"{look}-empty")
    choose(page, *[page_file(f"page{index}.png", seed=index) for index in range(7)])
    for index in range(7):
        expect(card(page, f"page{index}.png")).to_have_attribute("data-state", "succeeded")
    until(lambda: page.evaluate(ALL_PAINTED))
    assert_readable(page)
    shot(page, f"{look}-desk")

    image = server.send(page.request, "doubt.png", pages.dotted())
    for index in range(16):
        server.send(page.request, f"more{index}.png", pages.png(200, 260, index), "photo")
    page.goto(f"{server.url}/library")
    expect(page.locator(".tile").first).to_be_visible()
    until(lambda: page.evaluate("[...document.querySelectorAll('.tile img')].every((i) => i.complete && i.naturalWidth)"))
    assert_readable(page)
    shot(page, f"{look}-library")

    page.goto(f"{server.url}/images/{image['id']}")
    until(lambda: page.locator("#stage canvas, #stage img").count() > 0)
    page.wait_for_timeout(500)
    assert_readable(page)
    shot(page, f"{look}-image")

    page.goto(f"{server.url}/cluster")
    expect(page.locator(".slots li").first).to_be_visible()
    assert_readable(page)
    shot(page, f"{look}-cluster")

    page.goto(f"{server.url}/api/docs")
    page.wait_for_timeout(1000)
    shot(page, f"{look}-docs")


@pytest.mark.parametrize(("locale", "scheme"), LOOKS)
def test_the_way_in_and_the_account_on_a_wide_screen(start, open_page, shot, locale, scheme):
    server = start(INKPOOL_AUTH__MODE="accounts", INKPOOL_AUTH__ARGON2_MEMORY_KIB="64")
    page = open_page(server, inside=False, locale=locale, color_scheme=scheme, **WIDE)
    look = f"wide-{locale[:2]}-{scheme}"
    expect(page.locator("#door-form")).to_be_visible()
    shot(page, f"{look}-door")
    page.locator("#door-swap").click()
    page.locator("input[name=username]").fill("ada")
    page.locator("input[name=password]").first.fill("seven lamps in the harbour")
    page.locator("#door-send").click()
    page.wait_for_selector("#link[data-state=live]")
    page.locator("#account-open").click()
    expect(page.locator("dialog[open]")).to_be_visible()
    page.wait_for_timeout(300)
    shot(page, f"{look}-account")
