"""Every view, in both themes and on both widths, without a serious finding of axe-core; and with the keyboard alone."""

import importlib.resources

import pages
import pytest
from conftest import until
from playwright.sync_api import expect

from test_accounts import SETTINGS, register

AXE = (importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text()
LOOKS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 390)]


def findings(page):
    """What axe calls serious or critical. Evaluated by the browser's debugger, which the page's policy does not bind."""
    page.evaluate(AXE)
    violations = page.evaluate("axe.run().then((found) => found.violations)")
    return [
        (one["id"], one["impact"], [node["target"] for node in one["nodes"]][:5])
        for one in violations
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_no_view_has_a_serious_finding(start, open_page, shot, scheme, width):
    server = start()
    page = open_page(server, width=width, color_scheme=scheme)
    shown = server.send(page.request, "scan.png", pages.png(540, 420))
    dotted = server.send(page.request, "dots.png", pages.dotted())
    cut = server.send(page.request, "cut.png", pages.truncated_png())
    chapter = server.send(page.request, "chapter.tif", pages.tiff(300, 240, 3))
    views = {"desk": "/", "library": "/library"}
    views |= {image["filename"].partition(".")[0]: f"/images/{image['id']}" for image in (shown, dotted, cut, chapter)}
    for name, path in views.items():
        page.goto(server.url + path)
        page.wait_for_selector("#link[data-state=live]")
        until(lambda: page.locator(".card, .tile:visible, #history li").count() > 0)
        page.wait_for_timeout(300)
        if name == "library":
            page.locator(".tile input").first.check()
        shot(page, f"axe-{name}-{scheme}-{width}", full_page=True)
        assert findings(page) == [], name


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_the_way_in_and_the_account_have_no_serious_finding(start, open_page, scheme, width):
    page = open_page(start(**SETTINGS), width=width, color_scheme=scheme, inside=False)
    expect(page.locator("#door")).to_be_visible()
    assert findings(page) == []
    register(page, "ada")
    page.locator("#account-open").click()
    expect(page.locator("#sessions li")).to_have_count(1)
    assert findings(page) == []


def test_a_walk_by_keyboard(start, open_page):
    """From the top of the page to a comparison, with Tab, Enter, Space and arrows."""
    server = start()
    page = open_page(server)
    server.send(page.request, "scan.png", pages.png(540, 420))

    def tab_to(what, presses=60):
        for _ in range(presses):
            page.keyboard.press("Tab")
            if page.evaluate("(selector) => document.activeElement.matches(selector)", what):
                ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                return ring
        raise AssertionError(f"{what} is not reached")

    page.evaluate("document.activeElement.blur()")
    assert tab_to(".nav [data-for=library]") != "none"
    page.keyboard.press("Enter")
    expect(page.locator("#library")).to_be_focused()
    tab_to("#finder [name=q]")
    page.keyboard.type("scan")
    assert tab_to(".tile-open") != "none"
    assert tab_to(".tile input") != "none"
    page.keyboard.press("Space")
    expect(page.locator("#picked-count")).to_have_text("1 image chosen")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#image-title")).to_have_text("scan.png")
    assert tab_to("#stage") != "none"
    page.keyboard.press("+")
    tab_to("#divider")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#divider")).to_have_attribute("aria-valuenow", "48")
    tab_to("#again button")
    page.keyboard.press("Enter")
    expect(page.locator("#history li")).to_have_count(2)
    expect(page.locator("#history li").first).to_have_attribute("data-state", "succeeded")
    tab_to("#image-end button")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("#library-empty")).to_be_visible()
