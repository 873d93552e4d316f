"""Language and theme: as the browser asks, or as chosen."""

import pages
from playwright.sync_api import expect

from test_page import card, choose

BACKGROUND = "getComputedStyle(document.body).backgroundColor"
LIGHT, DARK = "rgb(236, 229, 216)", "rgb(20, 23, 28)"


def test_the_browsers_language_is_spoken(start, open_page, page_file, shot):
    server = start()
    page = open_page(server, locale="ru-RU")
    expect(page.locator("html")).to_have_attribute("lang", "ru")
    expect(page.get_by_role("link", name="Библиотека")).to_be_visible()
    choose(page, page_file("лист.png"))
    expect(card(page, "лист.png")).to_have_attribute("data-state", "succeeded")
    expect(card(page, "лист.png").locator(".state")).to_contain_text("Готово за")
    expect(card(page, "лист.png").locator("summary")).to_have_text("Скачать (5 файлов)")
    expect(page.locator("#live")).to_contain_text("Готово: лист.png.")
    shot(page, "russian-1280", full_page=True)
    page.get_by_role("link", name="Библиотека").click()
    expect(page.locator("#library-shown")).to_have_text("1 картинка")
    expect(page).to_have_title("Библиотека · Inkpool")


def test_what_the_server_says_is_said_in_russian(start, open_page, page_file):
    page = open_page(start(), locale="ru-RU", expect_errors=True)
    choose(page, page_file("notes.txt", content=b"only words in here"), page_file("cut.png", content=pages.truncated_png()))
    expect(card(page, "notes.txt").locator(".what")).to_contain_text("Это не картинка поддерживаемого вида")
    expect(card(page, "cut.png").locator(".what")).to_contain_text("Картинка повреждена")


def test_another_language_is_chosen_and_remembered(start, open_page):
    page = open_page(start())
    expect(page.locator("#tray-title")).to_contain_text("Drop images anywhere")
    page.get_by_role("button", name="Русский").click()
    expect(page.locator("#tray-title")).to_contain_text("Бросьте картинки")
    page.reload()
    expect(page.locator("#tray-title")).to_contain_text("Бросьте картинки")
    page.get_by_role("button", name="English").click()
    expect(page.locator("#tray-title")).to_contain_text("Drop images anywhere")


def test_the_theme_follows_the_system_or_the_choice(start, open_page):
    server = start()
    page = open_page(server, color_scheme="dark")
    assert page.evaluate(BACKGROUND) == DARK
    theme = page.locator("#look-theme")
    expect(theme).to_have_accessible_name("Light or dark: as the system")
    theme.click()
    expect(theme).to_have_accessible_name("Light or dark: light")
    assert page.evaluate(BACKGROUND) == LIGHT
    page.reload()
    assert page.evaluate(BACKGROUND) == LIGHT
    theme.click()
    page.emulate_media(color_scheme="light")
    assert page.evaluate(BACKGROUND) == DARK
    theme.click()
    assert page.evaluate(BACKGROUND) == LIGHT
