"""What administrators see of the cluster, and change."""

import pages
from playwright.sync_api import expect

from test_accounts import SETTINGS, register


def test_nodes_slots_and_the_last_hour(start, open_page, shot):
    server = start(slots=2)
    page = open_page(server)
    server.send(page.request, "scan.png", pages.png(200, 150))
    page.get_by_role("link", name="Cluster").click()
    expect(page.locator(".node")).to_have_count(1)
    expect(page.locator(".slots li")).to_have_count(2)
    expect(page.locator(".slots li").first).to_contain_text("Slot 0: ready")
    expect(page.locator("#throughput-text")).to_contain_text("1 job done")
    expect(page.locator("#throughput rect")).to_have_count(12)
    expect(page.locator(".node-isolation")).to_contain_text("system call filter")
    shot(page, "cluster-1280")
    page.get_by_label("Slots of").fill("3")
    page.get_by_role("button", name="Set").click()
    expect(page.locator(".slots li")).to_have_count(3)
    page.get_by_role("button", name="Drain").click()
    expect(page.locator(".node-facts")).to_contain_text("takes no new jobs")
    page.get_by_role("button", name="Take jobs again").click()
    expect(page.get_by_role("button", name="Drain")).to_be_visible()


def test_failed_jobs_are_tried_again_together(start, open_page):
    server = start()
    page = open_page(server)
    for name in ["one.png", "two.png"]:
        server.send(page.request, name, pages.truncated_png())
    server.send(page.request, "fine.png", pages.png(200, 150))
    page.get_by_role("link", name="Library").first.click()
    page.get_by_label("State").select_option("failed")
    expect(page.locator(".tile")).to_have_count(2)
    page.get_by_role("button", name="Choose all shown").click()
    page.get_by_role("button", name="Try 2 again").click()
    expect(page.locator("#live")).to_contain_text("2 jobs wait again.")


def test_only_administrators_see_it(start, open_page):
    server = start(**SETTINGS)
    root, ada = open_page(server, inside=False), open_page(server, inside=False)
    register(root, "root")
    register(ada, "ada")
    expect(root.locator("#nav-cluster")).to_be_visible()
    expect(ada.locator("#nav-cluster")).to_be_hidden()
