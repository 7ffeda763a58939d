"""One tab for all tests of pages, offline; what its console says fails the test."""

import pytest

from browsers import Window


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
