"""A browser that opens pages of ours, and what can be asked of a page: requests, errors, images, links, contrast, headings."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.support.ui import WebDriverWait

OPTIONS = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")
OPTIONS += ("disable-component-update", "disable-sync", "disable-dev-shm-usage", "hide-scrollbars")
# What a page may ask for: itself, and what is in it.
OWN = ("file:", "data:", "blob:", "about:")
LEAST_CONTRAST = 4.5

# Every element with a text of its own, its colour on the nearest ground that is not transparent; ratios by WCAG 2.
CONTRAST = """
const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const channel = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const opaque = (c) => c.length === 3 || c[3] === 1;
const ground = (e) => {
  for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (opaque(c)) return c; }
  return matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18] : [255, 255, 255];
};
const found = {};
for (const e of document.body.querySelectorAll('*')) {
  if (['SCRIPT', 'STYLE'].includes(e.tagName)) continue;
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
  const style = getComputedStyle(e);
  const [a, b] = [light(parse(style.color)), light(ground(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < arguments[0]) found[e.tagName + '.' + e.className] = [ratio, style.color, e.textContent.slice(0, 40)];
}
return found;
"""
LINKS = """
return [...document.querySelectorAll('a[href]')].map((a) => a.getAttribute('href')).filter((href) =>
  href.startsWith('#') ? !document.getElementById(decodeURIComponent(href.slice(1))) : !href.startsWith('data:'));
"""
LOADED = "return location.href === arguments[0] && document.readyState === 'complete';"
IMAGES = """
return [...document.images].map((i) => ({alt: i.alt, width: i.naturalWidth, complete: i.complete, name: i.src.slice(0, 60)}));
"""
HEADINGS = (
    "return [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map((h) => [Number(h.tagName[1]), h.textContent.trim()]);"
)
UNFOLD = "for (const part of document.querySelectorAll('details')) part.open = arguments[0];"
WIDTH = "return Math.max(document.documentElement.scrollWidth, document.body.scrollWidth);"


class Browser:
    """Chromium without a window. script: runs JavaScript in the page that is open and gives what it returns."""

    def __init__(self, driver):
        self.driver, self.script = driver, driver.execute_script

    def open(self, page: Path, width: int = 1400, height: int = 900, scheme: str = "light") -> None:
        """Open a page in a window of this many pixels, by somebody who prefers `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get("about:blank")
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        address = page.resolve().as_uri()
        self.driver.get(address)
        # On a busy machine the driver can return while the page that was there before is still the one it sees, or half a page.
        WebDriverWait(self.driver, 60).until(lambda _: self.script(LOADED, address))

    def console(self) -> list[str]:
        """What the page wrote to the console since it was opened, or this was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that the page asked for since it was opened, or this was last asked."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def requests_elsewhere(self) -> list[str]:
        """Those of `requests` that leave the page."""
        return [address for address in self.requests() if not address.startswith(OWN)]

    def unfold(self, opened: bool = True) -> None:
        """Unfold, or fold, every part of the page that can be."""
        self.script(UNFOLD, opened)

    def images(self) -> list[dict]:
        """alt, natural width and whether it is loaded, of every image."""
        return self.script(IMAGES)

    def dead_links(self) -> list[str]:
        """Targets of links that lead neither to a place in the page nor to data inside it."""
        return self.script(LINKS)

    def low_contrast(self, least: float = LEAST_CONTRAST) -> dict:
        """Kinds of elements whose text stands out less than that from what is behind it."""
        return self.script(CONTRAST, least)

    def headings(self) -> list[tuple[int, str]]:
        """Level and text of every heading, in order."""
        return [tuple(heading) for heading in self.script(HEADINGS)]

    def page_width(self) -> int:
        """Pixels that the page takes; more than the window's are a horizontal scroll bar."""
        return self.script(WIDTH)


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    """Debian's Chromium. Without it a test is skipped, and fails where CI=true, because there it can be installed."""
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not chromium or not driver:
        end = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        end("no chromium and chromedriver: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for name in (*OPTIONS, f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{name}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running = webdriver.Chrome(options=options, service=Service(driver))
    running.set_page_load_timeout(60)
    yield Browser(running)
    running.quit()
