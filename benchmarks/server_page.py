"""The server's page in a browser: the time to its first paint, while the server is idle and while it is under load.

Each visit has a browser context of its own, without a cache. ``--images FOLDER`` draws the pictures of docs/server.md
instead. Playwright is in none of the extras: ``make test-browser`` puts it into build/browser, and this script is run
as ``PYTHONPATH=build/browser .venv/bin/python benchmarks/server_page.py``. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import _common
from _served import Served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MAX_PAINT_MS = 300.0
CONNECTIONS = 8
NAME = "all-MiniLM-L6-v2"
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
_SETTINGS = """
[[models]]
model = "{model}"
name = "{name}"
precision = "int8"

[[models]]
model = "{model}"
name = "{name}-fp32"
precision = "fp32"

[[aliases]]
name = "text-embedding-3-small"
model = "{name}"
"""


def main() -> int:
    parser = _common.parser(__doc__)
    parser.add_argument("--images", type=Path, help="where to draw the pictures, and measure nothing")
    options = parser.parse_args()
    sys.path.insert(0, str(_common.ROOT))
    from tests.support.browser import chromium

    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        settings = Path(folder) / "server.toml"
        model = shutil.copytree(options.model, Path(folder) / NAME) if options.images else options.model
        settings.write_text(_SETTINGS.format(model=model, name=NAME))
        with Served(f"--config={settings}") as server:
            if options.images:
                draw(browser, server, options.images)
                return 0
            record = measured(browser, server, 5 if options.quick else 30)
    for name, times in record["first_paint_ms"].items():
        print(f"{name:<12} first paint p50 {median(times):.0f} ms, slowest {max(times):.0f} ms of {len(times)} visits")
    gates = {
        f"first paint p50 below {MAX_PAINT_MS:.0f} ms, {name}": median(times) < MAX_PAINT_MS
        for name, times in record["first_paint_ms"].items()
    }
    return _common.finish(options, "server_page", record, gates)


def measured(browser: Browser, server: Served, visits: int) -> dict[str, Any]:
    conditions = _common.conditions(browser=browser.version, visits=visits, connections=CONNECTIONS)
    idle = [paint(browser, server) for _ in range(visits)]
    stop = threading.Event()
    caller = threading.Thread(target=keep_busy, args=(server, stop))
    caller.start()
    try:
        busy = [paint(browser, server) for _ in range(visits)]
    finally:
        stop.set()
        caller.join()
    return {"conditions": conditions, "first_paint_ms": {"idle": idle, "under load": busy}}


def paint(browser: Browser, server: Served) -> float:
    """Milliseconds from the start of the navigation to the first contentful paint."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/ui")
    page.locator(".chart svg text").first.wait_for()
    found = float(page.wait_for_function(_PAINT).json_value())
    context.close()
    return found


def keep_busy(server: Served, stop: threading.Event) -> None:
    bodies = [{"model": NAME, "input": f"{text} {n}"} for n in range(8) for text in _common.questions()]
    while not stop.is_set():
        server.load(CONNECTIONS, 2.0, bodies)


def draw(browser: Browser, server: Served, folder: Path) -> None:
    """A minute of traffic that comes and goes, then the pictures."""
    callers = [threading.Thread(target=come_and_go, args=(server, seed, 62.0)) for seed in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    folder.mkdir(parents=True, exist_ok=True)
    wide = {"viewport": {"width": 1200, "height": 960}}
    phone = {"viewport": {"width": 390, "height": 780}, "device_scale_factor": 1.5, "is_mobile": True}
    page = opened(browser, server, **wide, color_scheme="light")
    page.screenshot(path=folder / "ui-light.png")
    page = opened(browser, server, **wide, color_scheme="dark")
    asked(page, "similarity", ".heat")
    page.screenshot(path=folder / "ui-dark.png")
    page = opened(browser, server, **phone, color_scheme="light")
    asked(page, "ranking", ".ranks")
    page.locator("#said").evaluate("(element) => element.scrollIntoView()")
    page.screenshot(path=folder / "ui-phone.png")


def come_and_go(server: Served, seed: int, seconds: float) -> None:
    """Requests of a few texts, some of which were asked before, now more and now fewer of them."""
    rng, texts, end = random.Random(seed), _common.questions(), time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        asked = [f"{rng.choice(texts)} {rng.randrange(30)}" for _ in range(rng.choice([1, 1, 1, 4]))]
        server.post({"model": rng.choice([NAME, NAME, f"{NAME}-fp32"]), "input": asked})
        time.sleep(rng.random() * (0.02 if int(left) % 16 < 9 else 0.15))


def opened(browser: Browser, server: Served, **context: Any) -> Page:  # noqa: ANN401
    page = browser.new_context(**context).new_page()
    page.goto(f"http://127.0.0.1:{server.port}/ui")
    page.locator(".chart path").first.wait_for()
    return page


def asked(page: Page, task: str, outcome: str) -> None:
    page.locator("#tab-playground").click()
    page.locator(f"input[value={task}]").check(force=True)
    page.locator("#run").click()
    page.locator(outcome).first.wait_for()
    page.locator("#run:enabled").wait_for()


if __name__ == "__main__":
    sys.exit(main())
