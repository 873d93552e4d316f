"""One image: compared, judged, leafed through, processed again."""

import re

import pages
from conftest import until
from playwright.sync_api import expect

PAINTED = "[...document.querySelectorAll('.layer img')].every((i) => i.complete && i.naturalWidth > 0)"
BOX = "(element) => { const {x, y, width, height} = element.getBoundingClientRect(); return [x, y, width, height]; }"


def visit(page, server, image):
    page.goto(f"{server.url}/images/{image['id']}")
    expect(page.locator("#image-body")).to_be_visible()


def opened(start, open_page, content=None, name="scan.png", **options):
    server = start()
    page = open_page(server, **options)
    image = server.send(page.request, name, content or pages.png(540, 420))
    visit(page, server, image)
    return server, page, image


def box(page, selector):
    return page.locator(selector).evaluate(BOX)


def near(one, other, slack=1.0):
    return all(abs(a - b) <= slack for a, b in zip(one, other, strict=True))


def test_before_and_after_lie_on_each_other_and_move_together(start, open_page, shot):
    _, page, _ = opened(start, open_page)
    until(lambda: page.evaluate(PAINTED))
    same = lambda: near(box(page, "#stage-before"), box(page, "#stage-after"), 0.01)  # noqa: E731
    assert same()
    shot(page, "image-1280", full_page=True)
    stage = box(page, "#stage")
    whole = box(page, "#stage-after")
    middle = (stage[0] + stage[2] / 3, stage[1] + stage[3] / 3)
    page.mouse.move(*middle)
    page.mouse.wheel(0, -600)
    until(lambda: box(page, "#stage-after")[2] > whole[2] * 1.5)
    assert same()
    # What was under the pointer is there still.
    grown = box(page, "#stage-after")
    share = (middle[0] - whole[0]) / whole[2]
    assert abs(grown[0] + share * grown[2] - middle[0]) < 2
    page.mouse.down()
    page.mouse.move(middle[0] + 80, middle[1] + 50)
    page.mouse.up()
    moved = box(page, "#stage-after")
    assert near(moved, [grown[0] + 80, grown[1] + 50, *grown[2:]])
    assert same()
    page.get_by_role("button", name="Whole page").click()
    assert near(box(page, "#stage-after"), whole)
    page.get_by_role("button", name="Full size").click()
    assert abs(box(page, "#stage-after")[2] - 540) < 1
    expect(page.locator("#zoom-value")).to_have_text("100%")


def test_the_border_is_dragged_and_moved_by_keys(start, open_page):
    _, page, _ = opened(start, open_page)
    divider = page.get_by_role("slider", name="Border between before and after")
    expect(divider).to_have_attribute("aria-valuenow", "50")
    stage = box(page, "#stage")
    page.mouse.move(stage[0] + stage[2] / 2, stage[1] + 200)
    page.mouse.down()
    page.mouse.move(stage[0] + stage[2] / 4, stage[1] + 200, steps=4)
    page.mouse.up()
    expect(divider).to_have_attribute("aria-valuenow", "25")
    clip = page.locator("#layer-before").evaluate("(layer) => getComputedStyle(layer).clipPath")
    assert abs(float(re.search(r"inset\(0px ([\d.]+)px", clip)[1]) - stage[2] * 0.75) < 2, clip
    divider.focus()
    page.keyboard.press("ArrowRight")
    expect(divider).to_have_attribute("aria-valuenow", "27")
    page.keyboard.press("End")
    expect(divider).to_have_attribute("aria-valuetext", "100% before")


def test_keys_alone_do_everything_on_the_stage(start, open_page):
    _, page, _ = opened(start, open_page)
    page.locator("#stage").focus()
    whole = box(page, "#stage-after")
    for _ in range(6):
        page.keyboard.press("+")
    grown = box(page, "#stage-after")
    assert grown[2] > whole[2] * 3
    page.keyboard.press("ArrowRight")
    assert near(box(page, "#stage-after"), [grown[0] - 60, *grown[1:]])
    page.keyboard.press("0")
    assert near(box(page, "#stage-after"), whole)
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="After", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#layer-before")).to_be_hidden()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Before", exact=True)).to_have_attribute("aria-pressed", "true")


def test_two_fingers_zoom(start, open_page):
    _, page, _ = opened(start, open_page, width=390, height=844, has_touch=True)
    whole = box(page, "#stage-after")
    stage = box(page, "#stage")
    x, y = stage[0] + stage[2] / 2, stage[1] + stage[3] / 2
    touch = page.context.new_cdp_session(page)
    fingers = lambda apart: [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]  # noqa: E731
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": fingers(30)})
    for apart in (40, 55, 70, 90):
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": fingers(apart)})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    until(lambda: box(page, "#stage-after")[2] > whole[2] * 2)
    assert near(box(page, "#stage-before"), box(page, "#stage-after"), 0.01)


def test_what_differs_is_ink_and_what_is_the_same_is_white(start, open_page, shot):
    _, page, _ = opened(start, open_page)
    until(lambda: page.evaluate(PAINTED))
    page.get_by_role("button", name="Difference").click()
    mode = page.locator("#layer-before").evaluate("(layer) => getComputedStyle(layer).mixBlendMode")
    inverted = page.locator("#layers").evaluate("(layers) => getComputedStyle(layers).filter")
    assert (mode, inverted) == ("difference", "invert(1)")
    expect(page.locator("#divider")).to_be_hidden()
    shot(page, "difference-1280")


def test_the_gates_places_are_framed(start, open_page, shot):
    server, page, image = opened(start, open_page, pages.dotted(), "dots.png")
    job = page.request.get(f"{server.url}/api/v1/jobs/{image['job_ids'][-1]}").json()
    regions = job["gate"]["regions"]
    assert job["gate"]["verdict"] == "review" and len(regions) >= 2, job["gate"]
    expect(page.locator("#verdict-text")).to_contain_text("Please look at the result")
    expect(page.locator("#places button")).to_have_count(len(regions))
    until(lambda: page.evaluate(PAINTED))
    shot(page, "gate-1280")

    def assert_framed():
        picture = box(page, "#stage-after")
        scale = picture[2] / image["width_px"]
        frames = page.locator(".place")
        expect(frames).to_have_count(len(regions))
        for index, region in enumerate(regions):
            wanted = [
                picture[0] + region["left_px"] * scale,
                picture[1] + region["top_px"] * scale,
                region["width_px"] * scale,
                region["height_px"] * scale,
            ]
            assert near(frames.nth(index).evaluate(BOX), wanted), (index, wanted)

    assert_framed()
    page.locator("#stage").focus()
    page.keyboard.press("+")
    assert_framed()
    page.locator("#places button").nth(1).click()
    assert_framed()
    stage, frame = box(page, "#stage"), page.locator(".place").nth(1).evaluate(BOX)
    assert stage[0] <= frame[0] and frame[0] + frame[2] <= stage[0] + stage[2], "it is in sight"
    page.get_by_role("button", name="Places").click()
    expect(page.locator(".place")).to_have_count(0)


def test_a_file_of_many_pages(start, open_page, shot):
    _, page, _ = opened(start, open_page, pages.tiff(300, 240, 3), "chapter.tif")
    expect(page.locator("#stage-none")).to_be_hidden()
    expect(page.get_by_role("button", name="Slider")).to_be_enabled()
    expect(page.locator("#stage-before")).to_have_attribute("src", re.compile(r"/files/before\.webp\?"))
    until(lambda: page.evaluate(PAINTED))
    assert near(box(page, "#stage-before"), box(page, "#stage-after"), 0.01)
    expect(page.locator("#page-count")).to_have_text("of 3")
    page.get_by_role("button", name="Next page").click()
    expect(page.locator("#stage-after")).to_have_attribute("src", re.compile(r"/p0002/clean\.webp\?"))
    expect(page.locator("#stage-before")).to_have_attribute("src", re.compile(r"/p0002/before\.webp\?"))
    page.get_by_label("Page", exact=True).locator("select").or_(page.locator("#page-number")).first.select_option("3")
    expect(page.locator("#stage-after")).to_have_attribute("src", re.compile(r"/p0003/clean\.webp\?"))
    expect(page.get_by_role("button", name="Next page")).to_be_disabled()
    page.locator("#stage").focus()
    page.keyboard.press("PageUp")
    expect(page.locator("#page-number")).to_have_value("2")
    rows = page.locator("#image-files li")
    # The original, four files of each page, the PDF and the account of it all.
    expect(rows).to_have_count(1 + 3 * 4 + 2)
    expect(rows.filter(has_text="clean.pdf")).to_contain_text("kB")
    with page.expect_download() as saved:
        page.get_by_role("link", name="clean.pdf").click()
    assert saved.value.suggested_filename == "chapter.clean.pdf"
    assert saved.value.path().read_bytes().startswith(b"%PDF-")
    shot(page, "chapter-1280")


def test_files_are_listed_with_their_sizes_and_saved(start, open_page):
    _, page, image = opened(start, open_page)
    rows = page.locator("#image-files li")
    expect(rows).to_have_count(len(image["files"]))
    expect(rows.filter(has_text="thumb.webp")).to_contain_text("320 ×")
    with page.expect_download() as saved:
        page.get_by_role("link", name="clean.png").click()
    assert saved.value.suggested_filename == "scan.clean.png"
    with page.expect_download() as saved:
        page.locator("#image-zip").click()
    assert saved.value.suggested_filename == "scan.zip"


def test_it_is_processed_again_with_another_preset(start, open_page):
    _, page, _ = opened(start, open_page)
    page.get_by_label("What to make").last.select_option("photo")
    page.get_by_role("button", name="Process again").click()
    history = page.locator("#history li")
    expect(history).to_have_count(2)
    expect(history.first).to_have_attribute("data-state", "succeeded")
    expect(history.first).to_contain_text("Full set of a photo")
    expect(page.locator("#image-files")).to_contain_text("full.webp")
    expect(page.locator("#stage-after")).to_have_attribute("src", re.compile(r"/full\.webp\?"))
    expect(page.locator("#verdict-text")).to_have_text("Nothing was cleaned, so there is nothing to judge.")


def test_what_failed_says_why_and_is_tried_again(start, open_page, shot):
    _, page, _ = opened(start, open_page, pages.truncated_png(), "cut.png")
    entry = page.locator("#history li").first
    expect(entry).to_have_attribute("data-state", "failed")
    expect(entry.locator(".what")).not_to_be_empty()
    expect(entry).to_contain_text("malformed")
    shot(page, "failed-1280", full_page=True)
    entry.get_by_role("button", name="Try again").click()
    expect(page.locator("#history li").first.locator(".state")).to_have_text("Did not work")
    expect(page.locator("#history li")).to_have_count(1)


def test_a_job_is_cancelled(start, open_page):
    server = start(slots=1)
    page = open_page(server)
    answer = page.request.post(
        f"{server.url}/api/v1/images", params={"filename": "slow.png"}, data=pages.png(3000, 3600),
        headers={"content-type": "application/octet-stream"},
    )
    visit(page, server, answer.json()["items"][0]["image"])
    page.locator("#history").get_by_role("button", name="Cancel").click()
    expect(page.locator("#history li").first).to_have_attribute("data-state", "cancelled")
    expect(page.locator("#history").get_by_role("button", name="Try again")).to_be_visible()


def test_it_is_deleted_after_asking(start, open_page):
    # The browser writes a line about the 404 of the address that is gone.
    server, page, image = opened(start, open_page, expect_errors=True)
    page.get_by_role("button", name="Delete this image").click()
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("button", name="Delete this image").click()
    expect(page.get_by_role("button", name="Delete for good")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#library-empty")).to_be_visible()
    page.goto(f"{server.url}/images/{image['id']}")
    expect(page.locator("#image-notice")).to_contain_text("There is no such image.")


def test_ways_between_the_views(start, open_page, page_file):
    server, page, _ = opened(start, open_page)
    expect(page).to_have_title("scan.png · Inkpool")
    page.get_by_role("link", name="Library").first.click()
    expect(page).to_have_url(f"{server.url}/library")
    expect(page.locator("#library")).to_be_focused()
    page.go_back()
    expect(page.locator("#image-title")).to_have_text("scan.png")
    page.get_by_role("link", name="Desk").click()
    expect(page).to_have_title("Inkpool")
    page.locator(".card .after .frame").click()
    expect(page.locator("#image-title")).to_have_text("scan.png")
    # What is pasted anywhere goes to the desk.
    page.set_input_files("#files", [page_file("more.png", seed=4)])
    expect(page.locator("#desk")).to_be_visible()
    expect(page.locator(".card")).to_have_count(2)


def test_a_narrow_image(start, open_page, shot):
    _, page, _ = opened(start, open_page, pages.dotted(), "dots.png", width=390, height=844, device_scale_factor=2, has_touch=True)
    until(lambda: page.evaluate(PAINTED))
    shot(page, "image-390", full_page=True)
