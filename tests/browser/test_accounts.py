"""What a person does with an account, on the real program."""

import pytest
from playwright.sync_api import expect

from test_page import card, choose

PASSWORD = "seven crooked lamps"
SETTINGS = {"INKPOOL_AUTH__MODE": "accounts", "INKPOOL_AUTH__ARGON2_MEMORY_KIB": "64"}


def fill(page, username, password=PASSWORD):
    page.get_by_label("Name").first.fill(username)
    page.get_by_label("Password").first.fill(password)
    page.locator("#door-send").click()


def register(page, username):
    page.get_by_role("button", name="Make an account").click()
    fill(page, username)
    expect(page.locator("#link")).to_have_attribute("data-state", "live")


def settled(page):
    """Everything that is painted at the start is there."""
    page.wait_for_selector("#presets input")


def test_from_registration_to_the_next_login(start, open_page, page_file, shot):
    # Being told that a password is wrong is a line in the browser's console.
    page = open_page(start(**SETTINGS), inside=False, expect_errors=True)
    expect(page.locator("#door-title")).to_have_text("Log in")
    expect(page.locator("main")).to_be_hidden()
    shot(page, "login-1280", full_page=True)
    register(page, "ada")
    expect(page.locator("#account-open")).to_have_text("ada")
    choose(page, page_file("scan.png"))
    expect(card(page, "scan.png")).to_have_attribute("data-state", "succeeded")
    shot(page, "inside-1280", full_page=True)
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("#door")).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)
    fill(page, "ada", "not the password")
    expect(page.locator("#door-trouble")).to_contain_text("The name or the password is not right.")
    shot(page, "wrong-1280", full_page=True)
    fill(page, "ADA")
    expect(card(page, "scan.png")).to_have_attribute("data-state", "succeeded")
    page.reload()
    expect(card(page, "scan.png")).to_have_attribute("data-state", "succeeded")


def test_nothing_is_wrong_on_the_way_in(start, open_page):
    page = open_page(start(**SETTINGS), inside=False)
    register(page, "ada")
    settled(page)
    page.reload()
    settled(page)


def test_two_people_see_their_own(start, open_page, page_file):
    server = start(**SETTINGS)
    ada, bob = open_page(server, inside=False), open_page(server, inside=False)
    register(ada, "ada")
    register(bob, "bob")
    choose(ada, page_file("adas.png"))
    choose(bob, page_file("bobs.png"))
    for page, name in [(ada, "adas.png"), (bob, "bobs.png")]:
        expect(card(page, name)).to_have_attribute("data-state", "succeeded")
        expect(page.locator(".card")).to_have_count(1)


def test_what_is_refused_is_said(start, open_page, shot):
    page = open_page(start(**SETTINGS), inside=False, expect_errors=True)
    page.get_by_role("button", name="Make an account").click()
    fill(page, "ada", "password1")
    expect(page.locator("#door-trouble")).to_contain_text("too easy to guess")
    shot(page, "refused-1280", full_page=True)
    fill(page, "a b")
    expect(page.locator("#door-trouble")).to_contain_text("A name has")
    expect(page.locator("#door")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_account(start, open_page, shot, width):
    page = open_page(start(**SETTINGS), width=width, inside=False)
    register(page, "ada")
    settled(page)
    page.locator("#account-open").focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#account")
    expect(dialog.locator("#sessions li")).to_have_count(1)
    expect(dialog.locator("#sessions")).to_contain_text("this browser")
    expect(dialog.locator("#account-role")).to_have_text("Administrator")
    dialog.locator("#token-form").get_by_label("Name").fill("scanner in the hall")
    dialog.get_by_role("button", name="Make a token").click()
    secret = dialog.locator("#token-secret code")
    expect(secret).to_contain_text("inkpool_")
    answer = page.request.get(
        f"{page.url}api/v1/images", headers={"authorization": f"Bearer {secret.inner_text()}", "cookie": ""}
    )
    assert answer.status == 200
    shot(page, f"account-{width}")
    dialog.get_by_role("button", name="Invite somebody").click()
    expect(dialog.locator("#invitation-list li")).to_have_count(1)
    dialog.get_by_role("button", name="Revoke: scanner in the hall").click()
    expect(dialog.locator("#tokens li")).to_have_count(0)
    dialog.get_by_label("Now").fill(PASSWORD)
    dialog.get_by_label("New").fill("eight crooked lamps")
    dialog.get_by_role("button", name="Change the password").click()
    expect(dialog.locator("#account-said")).to_contain_text("The password was changed")
    shot(page, f"account-end-{width}")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(secret).to_have_text("")
    page.get_by_role("button", name="Log out").click()
    fill(page, "ada", "eight crooked lamps")
    expect(page.locator("#account-open")).to_have_text("ada")


def test_a_session_that_was_ended_asks_to_log_in_again(start, open_page, page_file):
    server = start(**SETTINGS)
    phone, desk = open_page(server, inside=False, expect_errors=True), open_page(server, inside=False)
    register(phone, "ada")
    choose(phone, page_file("scan.png"))
    expect(card(phone, "scan.png")).to_have_attribute("data-state", "succeeded")
    fill(desk, "ada")
    desk.locator("#account-open").click()
    desk.locator("#sessions").get_by_role("button", name="End").click()
    expect(phone.locator("#door")).to_be_visible()
    fill(phone, "ada")
    expect(phone.locator("#door")).to_be_hidden()
    expect(card(phone, "scan.png")).to_be_visible()


def test_the_way_in_on_a_phone(start, open_page, shot):
    page = open_page(start(**SETTINGS), width=390, height=844, inside=False, color_scheme="dark")
    expect(page.locator("#door")).to_be_visible()
    shot(page, "login-390", full_page=True)
    register(page, "ada")
    settled(page)
    shot(page, "inside-390", full_page=True)
