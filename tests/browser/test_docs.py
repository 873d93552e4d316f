"""The page that shows the API."""

import pytest
from playwright.sync_api import expect


@pytest.mark.parametrize("width", [390, 1280])
def test_the_api_is_shown(start, open_page, width):
    server = start(slots=1)
    page = open_page(server, width=width)
    description = page.request.get(f"{server.url}/api/openapi.json").json()
    count = sum(len(item) for item in description["paths"].values())
    page.goto(f"{server.url}/api/docs#upload_images")
    expect(page.locator("details.operation")).to_have_count(count)
    upload = page.locator("#upload_images")
    expect(upload).to_have_attribute("open", "")
    expect(upload.locator(".path")).to_have_text("/api/v1/images")
    expect(upload).to_contain_text("idempotency_key_reused")
    page.get_by_role("navigation").get_by_role("link", name="Cancels a job").click()
    expect(page.locator("#cancel_job")).to_have_attribute("open", "")
