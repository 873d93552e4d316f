"""The library: found, chosen, downloaded, deleted."""

import io
import re
import zipfile

import pages
from conftest import until
from playwright.sync_api import expect

PAINTED = "(tile) => { const i = tile.querySelector('img'); return Boolean(i && i.complete && i.naturalWidth > 0); }"


def fill(server, page, count, prefix="page"):
    return [server.send(page.request, f"{prefix}-{index}.png", pages.png(200, 150, index)) for index in range(count)]


def tile(page, name):
    return page.locator(".tile").filter(has=page.locator(".tile-name", has_text=name))


def library(page):
    page.get_by_role("link", name="Library").first.click()
    expect(page.locator("#library")).to_be_visible()


def test_images_are_found_by_name_and_state(start, open_page, shot):
    server = start()
    page = open_page(server)
    fill(server, page, 3)
    server.send(page.request, "Письмо.png", pages.png(200, 150, 9))
    server.send(page.request, "cut.png", pages.truncated_png())
    library(page)
    expect(page.locator(".tile")).to_have_count(5)
    expect(page.locator("#library-shown")).to_have_text("5 images")
    until(lambda: tile(page, "page-1.png").evaluate(PAINTED))
    expect(tile(page, "cut.png").locator(".tile-facts")).to_have_text("Did not work")
    shot(page, "library-1280", full_page=True)
    page.get_by_label("Search by name").fill("ПИСЬ")
    expect(page.locator(".tile")).to_have_count(1)
    expect(tile(page, "Письмо.png")).to_be_visible()
    page.get_by_label("Search by name").fill("nothing")
    expect(page.locator("#library-empty")).to_have_text("Nothing goes by that name or state.")
    page.get_by_label("Search by name").fill("")
    page.get_by_label("State").select_option("failed")
    expect(page.locator(".tile-name")).to_have_text(["cut.png"])
    page.get_by_label("State").select_option("succeeded")
    expect(page.locator(".tile")).to_have_count(4)


def test_what_is_to_be_looked_at_is_found(start, open_page):
    server = start()
    page = open_page(server)
    server.send(page.request, "dots.png", pages.dotted())
    server.send(page.request, "fine.png", pages.png(200, 150))
    library(page)
    expect(tile(page, "dots.png").locator(".tile-facts")).to_have_text("Please look")
    page.get_by_label("State").select_option("review")
    expect(page.locator(".tile-name")).to_have_text(["dots.png"])


def test_chosen_images_come_as_a_zip(start, open_page):
    server = start()
    page = open_page(server)
    images = fill(server, page, 3)
    library(page)
    tile(page, "page-0.png").get_by_role("checkbox").check()
    tile(page, "page-2.png").get_by_role("checkbox").check()
    expect(page.locator("#picked-count")).to_have_text("2 images chosen")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Results as ZIP").click()
    assert saved.value.suggested_filename == "inkpool.zip"
    archive = zipfile.ZipFile(saved.value.path())
    assert archive.testzip() is None
    assert sorted(archive.namelist()) == ["page-0.clean.png", "page-2.clean.png"]
    clean = next(file for file in images[0]["files"] if file["name"] == "clean.png")
    assert archive.read("page-0.clean.png") == page.request.get(server.url + clean["url"]).body()
    with page.expect_download() as saved:
        page.get_by_role("link", name="All files as ZIP").first.click()
    with open(saved.value.path(), "rb") as file:
        names = zipfile.ZipFile(io.BytesIO(file.read())).namelist()
    assert "page-0/page-0.png" in names and "page-2/clean.webp" in names and len(names) == 10, names


def test_chosen_images_are_deleted_after_asking(start, open_page, shot):
    server = start()
    page = open_page(server)
    fill(server, page, 4)
    expect(page.locator(".card")).to_have_count(4)
    library(page)
    boxes = page.locator(".tile").get_by_role("checkbox")
    boxes.nth(0).click()
    boxes.nth(2).click(modifiers=["Shift"])
    expect(page.locator("#picked-count")).to_have_text("3 images chosen")
    shot(page, "library-chosen-1280")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("button", name="Delete 3 images for good")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".tile-name")).to_have_text(["page-0.png"])
    expect(page.locator("#picked")).to_be_hidden()
    expect(page.locator("#live")).to_contain_text("3 images were deleted.")
    page.get_by_role("link", name="Desk").click()
    expect(page.locator(".card")).to_have_count(1)


def test_the_list_goes_on_as_one_scrolls(start, open_page):
    server = start()
    page = open_page(server)
    # Their jobs are not waited for: a long list is what is wanted here.
    for index in range(130):
        answer = page.request.post(
            f"{server.url}/api/v1/images", params={"filename": f"{index:03}.png"}, data=pages.png(8, 8, index),
            headers={"content-type": "application/octet-stream"},
        )
        assert answer.status == 202
    library(page)
    expect(page.locator("#library-shown")).to_have_text(re.compile("and more below"))

    def seen():
        page.mouse.wheel(0, 4000)
        return page.locator(".tile").count() == 130

    until(seen)
    expect(page.locator("#library-shown")).to_have_text("130 images")
    names = page.locator(".tile-name").all_text_contents()
    assert names == [f"{index:03}.png" for index in reversed(range(130))]


def test_what_happens_meanwhile_shows(start, open_page):
    server = start()
    page = open_page(server)
    library(page)
    expect(page.locator("#library-empty")).to_be_visible()
    server.send(page.request, "new.png", pages.png(200, 150))
    expect(tile(page, "new.png").locator(".tile-facts")).to_contain_text("200 × 150 px")


def test_a_narrow_library(start, open_page, shot):
    server = start()
    page = open_page(server, width=390, height=844, device_scale_factor=2, has_touch=True, color_scheme="dark")
    fill(server, page, 3)
    library(page)
    tile(page, "page-1.png").get_by_role("checkbox").check()
    until(lambda: tile(page, "page-2.png").evaluate(PAINTED))
    shot(page, "library-390", full_page=True)
    tile(page, "page-1.png").get_by_role("link").click()
    expect(page.locator("#image-title")).to_have_text("page-1.png")
