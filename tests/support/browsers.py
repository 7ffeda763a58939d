"""A page of a report in a window of a browser: what one can do there, and what it shows."""

import contextlib
import shutil
import time

import pytest

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextlib.contextmanager
def chromium():
    """Starts the machine's browser. Skips the test where there is none."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium or google-chrome on PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Window:
    """A page of a report in a tab of a browser, and what it said and asked for."""

    def __init__(self, tab, path, width=1400, scheme="light"):
        self.page, self.said, self.asked = tab, [], []
        self.listeners = {
            "console": lambda message: self.said.append(message.text),
            "pageerror": lambda error: self.said.append(str(error)),
            "dialog": lambda dialog: (self.said.append("a dialog"), dialog.dismiss()),
            "request": lambda request: self.asked.append(request.url),
        }
        tab.set_default_timeout(60_000)  # a limit for a machine that others keep busy
        tab.set_viewport_size({"width": width, "height": 1000})
        tab.emulate_media(color_scheme=scheme, media="screen")
        for event, listener in self.listeners.items():
            tab.on(event, listener)
        tab.goto(path.as_uri())

    def leave(self):
        """Stops listening."""
        for event, listener in self.listeners.items():
            self.page.remove_listener(event, listener)

    def run(self, script, argument=None):
        return self.page.evaluate(script, argument)

    def settle(self):
        """Waits until what was chosen last is drawn, which the next frame does before it calls this."""
        self.run("() => new Promise(done => requestAnimationFrame(done))")

    def until(self, script, seconds=60.0):
        """Waits until an expression holds. Playwright's own way to wait needs eval, which the page forbids."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, script
            self.page.wait_for_timeout(20)

    def choose(self, **choice):
        self.run("choice => glasscell.choice.set(choice)", choice)
        self.settle()

    def press(self, *keys):
        self.page.focus("#glass")
        for key in keys:
            self.page.keyboard.press(key)
            self.settle()

    def select(self, name, value):
        self.page.select_option(f'[data-choice="{name}"]', value)
        self.settle()

    def now(self):
        return self.run("() => glasscell.choice.now")

    def numbers(self, within="body"):
        """Every number that is shown there, as {name: value}; NaN where it was never computed."""
        found = self.run(
            "place => [...document.querySelectorAll(place + ' .number')].map(n => [n.dataset.name, n.dataset.value])",
            within,
        )
        return {name: float(value.replace("Infinity", "inf")) for name, value in found}

    def text(self, place):
        return self.page.inner_text(place)

    def start(self):
        """Chooses anew what was chosen at first. A tab behind others would draw seldom."""
        self.page.bring_to_front()
        if not hasattr(self, "first"):
            self.first = self.now()
        self.run("choice => glasscell.choice.set(choice)", self.first)
        self.settle()

    def check(self):
        """It kept silent, and asked for nothing but itself."""
        assert self.said == []
        assert [url for url in self.asked if not url.startswith(("file:", "data:"))] == []
