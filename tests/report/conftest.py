"""One browser for all tests of pages, offline; what its console says fails the test."""

import shutil

import pytest

from browsers import Window

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser():
    if BROWSER is None:
        pytest.skip("no chromium or google-chrome on PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def context(browser):
    return browser.new_context(offline=True)


@pytest.fixture(scope="session")
def tab(context):
    return context.new_page()


@pytest.fixture
def window(tab):
    """Opens pages, one after the other; at the end each must have kept silent and asked for nothing but itself."""
    opened = []

    def open_(path, **options):
        for one in opened[-1:]:
            one.leave()
        tab.bring_to_front()
        opened.append(Window(tab, path, **options))
        return opened[-1]

    yield open_
    opened[-1].leave()
    for one in opened:
        one.check()
