"""What a person does with the page, on the real program."""

import base64
import re

import pages
from conftest import until
from playwright.sync_api import expect

GIVE = """async ({how, files}) => {
  const carrier = new DataTransfer();
  for (const {name, type, content} of files) {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    carrier.items.add(new File([bytes], name, {type}));
  }
  if (how === "paste") {
    document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: carrier, bubbles: true}));
    return;
  }
  for (const step of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(step, {dataTransfer: carrier, bubbles: true, cancelable: true}));
  }
}"""


def give(page, how, *files):
    told = [
        {"name": file["name"], "type": file["mimeType"], "content": base64.b64encode(file["buffer"]).decode()}
        for file in files
    ]
    page.evaluate(GIVE, {"how": how, "files": told})


def card(page, name):
    return page.locator(".card").filter(has=page.locator(".name", has_text=name))


def choose(page, *files):
    page.set_input_files("#files", list(files))


ALL_PAINTED = "[...document.querySelectorAll('.frame img')].every((image) => image.complete && image.naturalWidth > 0)"


def is_painted(locator):
    """Whether the picture in it was loaded and decoded."""
    return locator.evaluate("(frame) => { const i = frame.querySelector('img'); return i && i.complete && i.naturalWidth > 0; }")


def test_a_chosen_page_is_cleaned_and_shown_before_and_after(start, open_page, page_file, shot):
    page = open_page(start())
    expect(page.locator("#empty")).to_be_visible()
    shot(page, "empty-1280", full_page=True)
    choose(page, page_file("scan.png"))
    scan = card(page, "scan.png")
    expect(scan).to_have_attribute("data-state", "succeeded")
    expect(scan.locator(".state")).to_contain_text("Done in")
    expect(scan.locator(".facts")).to_contain_text("540 × 420 px")
    for side in ["before", "after"]:
        until(lambda: is_painted(scan.locator(f".{side} .frame")))
    expect(page.locator("#live")).to_contain_text("scan.png is done.")
    expect(page.locator("#empty")).to_be_hidden()
    shot(page, "done-1280", full_page=True)


def test_pages_can_be_dropped_and_pasted(start, open_page, page_file):
    page = open_page(start())
    give(page, "drop", page_file("one.png", seed=1), page_file("two.png", seed=2))
    give(page, "paste", page_file("three.png", seed=3))
    for name in ["one.png", "two.png", "three.png"]:
        expect(card(page, name)).to_have_attribute("data-state", "succeeded")
    expect(page.locator(".card")).to_have_count(3)
    expect(page.locator("#veil")).to_be_hidden()
    expect(page.locator("#summary")).to_have_text("3 done")


def test_a_folder_and_the_camera_are_other_ways_in(start, open_page, page_file, tmp_path):
    folder = tmp_path / "scans"
    (folder / "more").mkdir(parents=True)
    (folder / "one.png").write_bytes(pages.png(200, 150, 1))
    (folder / "more" / "two.png").write_bytes(pages.png(200, 150, 2))
    page = open_page(start(), has_touch=True)
    page.set_input_files("#folder", folder)
    page.set_input_files("#camera", [page_file("shot.png", 200, 150, 3)])
    for name in ["one.png", "two.png", "shot.png"]:
        expect(card(page, name)).to_have_attribute("data-state", "succeeded")


def test_the_veil_shows_where_to_let_go(start, open_page, shot):
    page = open_page(start())
    over = "(step) => { const t = new DataTransfer(); t.items.add(new File(['x'], 'x')); document.body.dispatchEvent(new DragEvent(step, {dataTransfer: t, bubbles: true, cancelable: true})); }"
    page.evaluate(over, "dragenter")
    expect(page.locator("#veil")).to_be_visible()
    shot(page, "veil-1280")
    page.evaluate(over, "dragleave")
    expect(page.locator("#veil")).to_be_hidden()


def test_the_preset_decides_what_is_made(start, open_page, page_file):
    page = open_page(start())
    page.get_by_role("radio", name="Full set of a photo").check()
    choose(page, page_file("photo.png", 640, 480))
    photo = card(page, "photo.png")
    expect(photo).to_have_attribute("data-state", "succeeded")
    expect(photo.locator("summary")).to_have_text("Download (5 files)")
    photo.locator("summary").click()
    names = set(photo.locator(".downloads a").all_inner_texts())
    assert names == {"original", "full.webp", "crop.webp", "thumb.webp", "manifest.json"}


def test_files_are_saved_under_their_names(start, open_page, page_file):
    page = open_page(start())
    choose(page, page_file("scan.png"))
    scan = card(page, "scan.png")
    expect(scan).to_have_attribute("data-state", "succeeded")
    scan.locator("summary").click()
    with page.expect_download() as saved:
        scan.get_by_role("link", name="clean.png").click()
    assert saved.value.suggested_filename == "scan.clean.png"
    with open(saved.value.path(), "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_what_is_no_image_is_said_in_plain_words(start, open_page, page_file, shot):
    # The browser itself writes a line about every answer of 4xx.
    page = open_page(start(), expect_errors=True)
    choose(page, page_file("notes.txt", content=b"only words in here"), page_file("cut.png", content=pages.truncated_png()))
    notes, cut = card(page, "notes.txt"), card(page, "cut.png")
    expect(notes).to_have_attribute("data-state", "failed")
    expect(notes.locator(".what")).to_have_text("This is text.")
    expect(notes.locator(".remedy")).to_contain_text("Supported are JPEG, PNG")
    expect(cut).to_have_attribute("data-state", "failed")
    expect(cut.locator(".trouble")).to_be_visible()
    expect(cut.get_by_role("button", name="Try again")).to_be_visible()
    shot(page, "trouble-1280", full_page=True)
    notes.get_by_role("button", name="Dismiss").click()
    expect(notes).to_have_count(0)


def test_a_file_that_is_too_large_is_not_sent(start, open_page, page_file):
    page = open_page(start(INKPOOL_HTTP__BODY_BYTES_MAX="2000"))
    choose(page, page_file("large.png"))
    large = card(page, "large.png")
    expect(large).to_have_attribute("data-state", "failed")
    expect(large.locator(".what")).to_contain_text("Allowed: 2.0 kB")


def test_a_waiting_job_is_cancelled_and_tried_again(start, open_page, page_file, shot):
    page = open_page(start(slots=1))
    choose(page, *[page_file(f"large{index}.png", 1000, 1300, index) for index in range(4)])
    last = card(page, "large3.png")
    expect(last).to_have_attribute("data-state", "queued")
    shot(page, "working-1280", full_page=True)
    last.get_by_role("button", name="Cancel").click()
    expect(last).to_have_attribute("data-state", "cancelled")
    shot(page, "cancelled-1280", full_page=True)
    last.get_by_role("button", name="Try again").click()
    expect(last).to_have_attribute("data-state", "succeeded")


def test_a_running_job_is_cancelled(start, open_page, page_file):
    page = open_page(start(slots=1))
    choose(page, page_file("slow.png", 3000, 3600))
    slow = card(page, "slow.png")
    expect(slow).to_have_attribute("data-state", "running")
    slow.get_by_role("button", name="Cancel").click()
    expect(slow).to_have_attribute("data-state", "cancelled")


def test_an_answer_that_an_event_overtook_changes_nothing(start, open_page, page_file):
    page = open_page(start(slots=1))
    held = []
    page.route("**/cancel", lambda route: held.append((route, route.fetch())))
    choose(page, page_file("slow.png", 3000, 3600))
    slow = card(page, "slow.png")
    expect(slow).to_have_attribute("data-state", "running")
    slow.get_by_role("button", name="Cancel").click()
    expect(slow).to_have_attribute("data-state", "cancelled")
    [(route, answer)] = held
    assert answer.json()["state"] == "running"
    route.fulfill(response=answer)
    expect(slow.get_by_role("button", name="Try again")).to_be_enabled()
    expect(slow).to_have_attribute("data-state", "cancelled")


def test_progress_is_shown_while_a_job_runs(start, open_page, page_file):
    page = open_page(start(slots=1))
    page.evaluate("""() => {
      window.seen = {shares: new Set(), words: new Set()};
      new MutationObserver(() => {
        for (const card of document.querySelectorAll(".card[data-state=running]")) {
          window.seen.shares.add(card.querySelector(".bar").value);
          window.seen.words.add(card.querySelector(".state").textContent);
        }
      }).observe(document.getElementById("cards"), {subtree: true, childList: true, attributes: true, characterData: true});
    }""")
    choose(page, page_file("slow.png", 2000, 2400))
    expect(card(page, "slow.png")).to_have_attribute("data-state", "succeeded")
    shares, said = page.evaluate("[[...window.seen.shares], [...window.seen.words]]")
    assert len(shares) >= 3 and max(shares) <= 1, shares
    assert "Cleaning the page" in said, said


def test_an_image_is_deleted_after_asking(start, open_page, page_file):
    page = open_page(start())
    choose(page, page_file("scan.png"))
    scan = card(page, "scan.png")
    expect(scan).to_have_attribute("data-state", "succeeded")
    scan.get_by_role("button", name="Delete", exact=False).click()
    scan.get_by_role("button", name="Keep").click()
    scan.get_by_role("button", name="Delete", exact=False).click()
    scan.get_by_role("button", name="Delete for good").click()
    expect(scan).to_have_count(0)
    expect(page.locator("#empty")).to_be_visible()
    page.reload()
    expect(page.locator("#empty")).to_be_visible()


def test_a_reload_shows_what_there_is(start, open_page, page_file):
    page = open_page(start(slots=1))
    choose(page, *[page_file(f"page{index}.png", 900, 1200, index) for index in range(3)])
    expect(page.locator(".card:not([data-state=sending]):not([data-state=waiting])")).to_have_count(3)
    page.reload()
    for index in range(3):
        expect(card(page, f"page{index}.png")).to_have_attribute("data-state", "succeeded")
    expect(page.locator(".card")).to_have_count(3)


def test_the_page_finds_its_server_again(start, open_page, page_file, tmp_path):
    server = start()
    address = server.url.removeprefix("http://")
    page = open_page(server, expect_errors=True)
    choose(page, page_file("scan.png"))
    expect(card(page, "scan.png")).to_have_attribute("data-state", "succeeded")
    server.stop()
    expect(page.locator("#link")).to_have_attribute("data-state", "lost")
    start(listen=address)
    expect(page.locator("#link")).to_have_attribute("data-state", "live")
    expect(card(page, "scan.png")).to_have_attribute("data-state", "succeeded")
    choose(page, page_file("more.png", seed=5))
    expect(card(page, "more.png")).to_have_attribute("data-state", "succeeded")


def test_what_others_send_shows_up(start, open_page):
    server = start()
    page = open_page(server)
    page.request.post(f"{server.url}/api/v1/images?filename=other.png", data=pages.png(300, 200))
    expect(card(page, "other.png")).to_have_attribute("data-state", "succeeded")


def test_what_has_been_sent_is_shown(start, open_page, page_file):
    page = open_page(start())
    slow = page.context.new_cdp_session(page)
    slow.send("Network.enable")
    kilobytes = 40 * 1024
    slow.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": kilobytes},
    )
    choose(page, page_file("scan.png", content=pages.png(1400, 1000)))
    scan = card(page, "scan.png")
    expect(scan).to_have_attribute("data-state", "sending")
    expect(scan.locator(".state")).to_have_text(re.compile(r"Sending, [1-9]\d* kB of \d+ kB"))
    assert 0 < scan.locator(".bar").evaluate("(bar) => bar.value") < 1
    scan.get_by_role("button", name="Cancel").click()
    expect(scan).to_have_attribute("data-state", "stopped")
    scan.get_by_role("button", name="Dismiss").click()
    expect(page.locator("#empty")).to_be_visible()
    assert page.request.get(page.url + "api/v1/images").json()["items"] == []


def test_everything_is_reached_by_keyboard(start, open_page, page_file):
    page = open_page(start())
    choose(page, page_file("scan.png"))
    expect(card(page, "scan.png")).to_have_attribute("data-state", "succeeded")
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.name || document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim()"))
    wanted = {"Skip to the content", "files", "preset", "Show the original, large", "Show the result, large", "Download (5 files)", "Delete: scan.png"}
    assert wanted <= reached, wanted - reached


def test_a_narrow_screen(start, open_page, page_file, shot):
    page = open_page(start(), width=390, height=844, device_scale_factor=2, has_touch=True)
    shot(page, "empty-390", full_page=True)
    name = "a-very-long-name-without-any-place-to-break-it-at-all-" * 3 + ".png"
    choose(page, page_file("scan.png"), page_file(name, seed=2))
    expect(card(page, "scan.png")).to_have_attribute("data-state", "succeeded")
    expect(card(page, "a-very-long")).to_have_attribute("data-state", "succeeded")
    until(lambda: page.evaluate(ALL_PAINTED))
    card(page, "scan.png").locator("summary").click()
    shot(page, "done-390", full_page=True)


def test_a_wide_screen_and_the_dark(start, open_page, page_file, shot):
    page = open_page(start(), width=1920, height=1080, color_scheme="dark")
    choose(page, *[page_file(f"page{index}.png", seed=index) for index in range(4)])
    for index in range(4):
        expect(card(page, f"page{index}.png")).to_have_attribute("data-state", "succeeded")
    until(lambda: page.evaluate(ALL_PAINTED))
    shot(page, "dark-1920", full_page=True)
