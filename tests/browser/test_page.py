"""The server's page in a real browser (make test-browser)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.support.browser import Visit, chromium, run
from tests.support.cross_encoders import write_cross_encoder
from tests.support.servers import Held, Listening

from nimbed import quantize
from nimbed.server import Access, Alias, Limits, ModelSettings, ServerSettings, create_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

KEY = "k3y-of-sixteen-characters"
MARKUP = '<img src="x" onerror="window.hit = 1"><script>window.hit = 1</script>'
MINUS = "\N{MINUS SIGN}"
NASTY = ['it\'s "quoted" `$HOME` \\ ${x}', "猫坐在垫子上 🐈", MARKUP, "</script><!--", "100 % of {it}"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def models(
    native: None, browser: Browser, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ModelSettings]:
    folder = tmp_path_factory.mktemp("page")
    built = quantize(tiny_folder, folder / "tiny-int8", backend="native", progress=False)
    judge = write_cross_encoder(folder / "judge")
    return {
        "int8": ModelSettings(model=str(built.folder), name="tiny", precision="int8"),
        "fp32": ModelSettings(model=str(tiny_folder), name="tiny-fp32", precision="fp32"),
        "judge": ModelSettings(model=str(judge), name="judge", precision="fp32"),
    }


@contextmanager
def serving(*models: ModelSettings, **settings: Any) -> Iterator[str]:
    with Listening(create_app(ServerSettings(models=models, port=0, **settings))) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def url(models: dict[str, ModelSettings]) -> Iterator[str]:
    with serving(*models.values(), aliases=[Alias(name=MARKUP, model="tiny")]) as one:
        yield one


@contextmanager
def visiting(browser: Browser, url: str, **context: Any) -> Iterator[Visit]:
    visit = Visit(browser, url, **context)
    visit.page.set_default_timeout(60_000)  # a machine may be busy
    yield visit
    visit.close()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with visiting(browser, url) as visit:
        yield visit.open()


def test_a_browser_that_opens_the_server_sees_what_is_loaded_and_why(browser, url):
    with visiting(browser, url) as visit:
        page = visit.open("/")
        page.locator("#overview").wait_for()
        assert page.url.startswith(f"{url}/ui")
        for model in httpx.get(f"{url}/ui/status").json()["models"]:
            card = page.locator("article", has=page.get_by_role("heading", name=model["id"], exact=True))
            text = card.inner_text()
            info = model["info"]
            for part in (info["fingerprint"], info["backend"], info["precision"], *info["reasons"].values()):
                assert part in text
        assert page.locator(".quality tbody tr").count() >= 3
        assert MARKUP in page.locator("article").first.inner_text()


def test_charts_have_axes_units_and_a_line(page, url):
    for at in range(3):
        httpx.post(f"{url}/v1/embeddings", json={"model": "tiny", "input": [f"text {at}", "the same"]})
    page.locator(".chart path").first.wait_for(state="attached")
    page.wait_for_function("document.querySelectorAll('.chart path').length >= 5")
    charts = page.locator(".chart svg")
    assert charts.count() == 5
    units = {"ms", "texts / s", "tokens / s", "requests", "% of texts"}
    for at in range(5):
        labels = charts.nth(at).locator("text").all_text_contents()
        assert units & set(labels)
        assert {"60 s ago", "now", "0"} <= set(labels)
        assert "over the last minute" in charts.nth(at).get_attribute("aria-label")
    page.locator("#scope").select_option("judge")
    page.get_by_text("nothing in this minute").first.wait_for()


def test_similarity_of_int8_beside_fp32(page, url):
    page.locator("#tab-playground").click()
    page.locator("#texts").fill("\n".join(NASTY))
    said = run(page)
    assert "int8 and fp32 differ by" in said
    assert page.locator(".heat").count() == 2
    assert "of 5 texts they put the others in the same order" in said
    shown = page.locator(".heat").first.locator("td").all_inner_texts()
    data = httpx.post(f"{url}/v1/embeddings", json={"model": "tiny", "input": NASTY}).json()["data"]
    rows = [one["embedding"] for one in data]
    norms = [sum(value * value for value in row) ** 0.5 for row in rows]
    cosines = [
        sum(x * y for x, y in zip(a, b, strict=True)) / (norms[i] * norms[j])
        for i, a in enumerate(rows)
        for j, b in enumerate(rows)
    ]
    assert [float(one.replace(MINUS, "-")) for one in shown] == pytest.approx(cosines, abs=0.0051)
    page.locator("#both").uncheck()
    assert "are nearest" in run(page)
    assert page.locator(".heat").count() == 1


def ranks_of(page: Page, column: int) -> list[int]:
    return [int(one) for one in page.locator(f".ranks tbody tr td:nth-child({column})").all_inner_texts()]


def test_ranking_by_vectors_shows_who_moved(page):
    page.locator("#tab-playground").click()
    page.locator("input[value=ranking]").check(force=True)
    page.locator("#model").select_option("tiny")
    said = run(page, "ranking")
    first, second = ranks_of(page, 1), ranks_of(page, 5)
    assert first == sorted(first) == sorted(second)
    moved = page.locator(".ranks tbody tr td:nth-child(7)").all_inner_texts()
    changed = sum(a != b for a, b in zip(first, second, strict=True))
    assert said.startswith("No passage" if not changed else f"{changed} passage")
    for one, a, b in zip(moved, first, second, strict=True):
        assert one == ("same" if a == b else f"{'▲' if b < a else '▼'} {abs(a - b)}")


def test_ranking_by_a_reranker(page, url):
    page.locator("#tab-playground").click()
    page.locator("input[value=ranking]").check(force=True)
    assert page.locator("#model").input_value() == "judge"
    assert page.locator("#beside").is_hidden()
    page.locator("#query").fill("where is the cat")
    documents = ["prices rose in may", "the cat sat on a mat", MARKUP]
    page.locator("#passages").fill("\n".join(documents))
    assert "3 passages, best first" in run(page, "ranking")
    answer = httpx.post(
        f"{url}/v1/rerank", json={"model": "judge", "query": "where is the cat", "documents": documents}
    )
    wanted = [documents[one["index"]] for one in answer.json()["results"]]
    assert page.locator(".ranks tbody .text").all_inner_texts() == wanted


def test_texts_are_never_markup(page):
    page.locator("#tab-playground").click()
    page.locator("#texts").fill("\n".join([MARKUP, "<b>bold</b>", "plain"]))
    run(page)
    assert MARKUP in page.locator(".legend").inner_text()
    page.locator("#query").evaluate("(element, text) => { element.value = text; }", MARKUP)
    page.locator("#passages").evaluate("(element, text) => { element.value = text; }", MARKUP + "\n<b>bold</b>")
    run(page, "ranking")
    for language in ("curl", "python", "javascript"):
        page.locator(f"#tab-{language}").click()
        assert "onerror" in page.locator("#snippet").inner_text()
    assert page.evaluate("window.hit") is None
    assert page.locator("main img, main script, main b:has-text('bold')").count() == 0


def test_the_keyboard_is_enough(page):
    page.locator("#overview").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    focused = "getComputedStyle(document.activeElement)"
    assert page.evaluate(f"{focused}.outlineStyle") == "solid"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "tab-overview"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-playground"
    assert page.locator("#playground").is_visible()
    assert page.locator("#overview").is_hidden()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.value") == "similarity"
    page.keyboard.press("ArrowRight")
    assert page.locator("#query").is_visible()
    for name in ("model", "query"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == name
        assert page.evaluate(f"{focused}.outlineStyle") == "solid"
    page.keyboard.press("Control+a")
    page.keyboard.type("where is the cat")
    page.keyboard.press("Control+Enter")
    page.locator(".ranks").wait_for()
    for _ in range(4):  # passages, the button, the table, the copy button
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "copy"
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    assert page.locator("#tab-javascript").get_attribute("aria-selected") == "true"
    assert "await fetch" in page.locator("#snippet").inner_text()


def test_what_assistive_technology_is_told(page):
    page.locator("#overview").wait_for()
    page.get_by_role("tab", name="Playground").click()
    assert page.get_by_role("tab", name="Playground").get_attribute("aria-controls") == "playground"
    assert page.get_by_role("tabpanel", name="Playground").is_visible()
    for label in ("Model", "The texts are", "Texts, one a line, 40 at most"):
        assert page.get_by_label(label, exact=True).is_visible()
    assert page.locator("#said").get_attribute("aria-live") == "polite"
    assert page.locator("#trouble").get_attribute("role") == "alert"
    run(page)
    assert page.get_by_role("columnheader", name="1").count() >= 1
    unnamed = "[...document.querySelectorAll('button, input, select, textarea')].filter((one) => !one.hidden &&"
    assert page.evaluate(f"{unnamed} !(one.labels?.length || one.textContent.trim())).length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_scrolling_to_the_side(browser, url, scheme):
    phone = {"viewport": {"width": 320, "height": 640}, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    with visiting(browser, url, **phone) as visit:
        page = visit.open()
        page.locator(".chart svg text").first.wait_for()
        wide = "document.documentElement.scrollWidth"
        assert page.evaluate(wide) == 320
        page.locator("#tab-playground").click()
        page.locator("#texts").fill("\n".join(["x" * 300, *[f"text number {n}" for n in range(20)]]))
        run(page)
        assert page.evaluate(wide) == 320
        run(page, "ranking")
        assert page.evaluate(wide) == 320


CONTRAST = """(selectors) => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const { backgroundColor } = getComputedStyle(one);
      if (!/, 0\\)$|transparent/.test(backgroundColor)) return backgroundColor;
    }
    return "rgb(255, 255, 255)";
  };
  return selectors.map((selector) => {
    const element = document.querySelector(selector);
    const pair = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    return [selector, (pair[0] + 0.05) / (pair[1] + 0.05)];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_in_light_and_in_dark(browser, url, scheme):
    with visiting(browser, url, color_scheme=scheme) as visit:
        page = visit.open()
        page.locator("article").first.wait_for()
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 23)"
        assert dark is (scheme == "dark")
        words = ["h2", "#state", "#uptime", "#traffic", ".tag", ".tag.strong", ".facts dt", ".figures span", "#run",
                 "#tab-playground", "#said", "label", "#theme"]  # fmt: skip
        assert {word: ratio for word, ratio in page.evaluate(CONTRAST, words) if ratio < 4.5} == {}
        page.locator("#theme").click()
        page.locator("#theme").click()
        assert page.locator("#theme").inner_text() == "Theme: dark"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 23)"


def test_the_key_is_asked_for_and_kept_in_memory_alone(browser, models):
    with serving(models["int8"], access=Access(keys=[KEY])) as url, visiting(browser, url) as visit:
        visit.expected.append("401")
        page = visit.open()
        page.locator("#door").wait_for()
        assert page.locator("#overview, #playground").first.is_hidden()
        page.locator("#key").fill("wrong-key-of-sixteen")
        page.keyboard.press("Enter")
        page.get_by_text("This is not a key of this server.").wait_for()
        page.locator("#key").fill(KEY)
        page.keyboard.press("Enter")
        page.locator("#overview").wait_for()
        run(page)
        assert "$NIMBED_API_KEY" in page.locator("#snippet").inner_text()
        values = "[...document.querySelectorAll('input')].map((one) => one.value).join()"
        for place in (page.content(), page.url, page.evaluate(values), *visit.requested):
            assert KEY not in place
        page.reload()
        page.locator("#door").wait_for()
        page.locator("#key").fill(KEY)
        page.keyboard.press("Enter")
        page.locator("#forget").click()
        page.locator("#door").wait_for()


def test_a_server_of_rerankers_only_ranks(browser, models):
    with serving(models["judge"]) as url, visiting(browser, url) as visit:
        page = visit.open("/ui#playground")
        page.get_by_text("No embedding model is served").wait_for()
        assert page.locator("input[value=similarity]").is_disabled()
        page.locator("#run").click()
        page.locator(".ranks").wait_for()


def test_a_server_of_one_embedder_has_nothing_to_put_beside_it(browser, models):
    with serving(models["fp32"]) as url, visiting(browser, url) as visit:
        page = visit.open()
        page.get_by_text("This is fp32: nothing was quantized.").wait_for()
        run(page)
        assert page.locator("#beside").is_hidden()
        assert page.locator(".heat").count() == 1


def test_errors_say_what_to_do(browser, models):
    with serving(models["int8"], limits=Limits(text_characters=50)) as url, visiting(browser, url) as visit:
        visit.expected += ["413", "ERR_FAILED"]
        page = visit.open("/ui#playground")
        page.locator("#texts").fill("only one")
        page.locator("#run").click()
        page.get_by_text("Write at least two texts, one a line.").wait_for()
        assert page.evaluate("document.activeElement.id") == "texts"
        page.locator("#texts").fill("\n".join(map(str, range(41))))
        page.locator("#run").click()
        page.get_by_text("40 lines at most fit here; these are 41.").wait_for()
        assert page.locator(".heat").count() == 0
        page.locator("#texts").fill("x" * 60 + "\nshort")
        page.locator("#run").click()
        page.get_by_text("(status 413)").wait_for()
        assert page.locator(".heat").count() == 0
        page.route("**/ui/status", lambda route: route.abort())
        page.get_by_text("The server does not answer.").wait_for()
        page.unroute("**/ui/status")
        page.locator("#trouble").wait_for(state="hidden")


def test_a_model_that_is_gone_is_told(browser, url):
    with visiting(browser, url) as visit:
        visit.expected.append("404")
        page = visit.open("/ui#playground")
        gone = {"status": 404, "json": {"error": {"message": "there is no such model here"}}}
        page.route("**/v1/embeddings", lambda route: route.fulfill(**gone))
        page.locator("#run").click()
        page.get_by_text("there is no such model here (status 404)").wait_for()


def test_what_was_done_can_be_done_from_elsewhere(page):
    page.locator("#tab-playground").click()
    page.locator("#both").uncheck()
    page.locator("#texts").fill("\n".join(NASTY))
    run(page)
    snippets = {}
    for language in ("curl", "python", "javascript"):
        page.locator(f"#tab-{language}").click()
        snippets[language] = page.locator("#snippet").text_content()
    python = f"{snippets['python']}\nimport json\nprint(json.dumps(answer.json()))"
    script = snippets["javascript"].replace(
        "console.log(await answer.json())", "return JSON.stringify(await answer.json())"
    )
    said = [
        subprocess.check_output(["bash", "-c", f"{snippets['curl']} -s"], text=True),
        subprocess.check_output([sys.executable, "-c", python], text=True).splitlines()[-1],
        page.evaluate(f"(async () => {{ {script} }})()"),
    ]
    answers = [json.loads(one)["data"] for one in said]
    assert len(answers[0]) == len(NASTY)
    assert answers[0] == answers[1] == answers[2]


def test_snippets_are_copied(browser, url):
    with visiting(browser, url, permissions=["clipboard-read", "clipboard-write"]) as visit:
        page = visit.open()
        page.locator("#overview").wait_for()
        run(page)
        page.locator("#copy").click()
        page.get_by_role("button", name="Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == page.locator("#snippet").text_content()


class Mounted:
    """An application that has the server below a prefix."""

    def __init__(self, app: Any) -> None:
        self.app, self.settings, self.load, self.close = app, app.settings, app.load, app.close

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert scope["path"].startswith("/models/")
        await self.app({**scope, "root_path": "/models"}, receive, send)


def test_below_a_prefix(browser, models):
    app = create_app(ServerSettings(models=[models["int8"], models["judge"]], port=0))
    with Listening(Mounted(app)) as server, visiting(browser, f"http://127.0.0.1:{server.port}") as visit:
        page = visit.open("/models/")
        page.locator("#overview").wait_for()
        run(page)
        run(page, "ranking")
        assert "/models/v1/rerank" in page.locator("#snippet").inner_text()
        assert all("/models/" in one for one in visit.requested)


def test_the_page_works_while_the_server_is_under_load(browser, url):
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                client.post(f"{url}/v1/embeddings", json={"model": "tiny-fp32", "input": ["some words " * 20] * 64})

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for one in callers:
        one.start()
    try:
        with visiting(browser, url) as visit:
            page = visit.open()
            page.locator(".chart path").first.wait_for(state="attached")
            assert "differ by" in run(page)
            assert "passages, best first" in run(page, "ranking")
    finally:
        stop.set()
        for one in callers:
            one.join()


def test_a_full_queue_leaves_the_overview_and_is_told(browser, models):
    app = create_app(ServerSettings(models=[models["int8"]], limits=Limits(queue=1), port=0))
    with Listening(app) as server, visiting(browser, f"http://127.0.0.1:{server.port}") as visit:
        visit.expected.append("429")
        page = visit.open("/ui#playground")
        page.locator("#run").wait_for()
        held = Held(SimpleNamespace(catalog=app.catalog))
        body = {"input": ["waits for the engine"]}
        caller = threading.Thread(target=httpx.post, args=(f"{visit.url}/v1/embeddings",), kwargs={"json": body})
        caller.start()
        held.reached.wait(20)
        page.locator("#run").click()
        page.get_by_text("the queue is full (1 requests) (status 429). Try again in a moment.").wait_for()
        page.locator("#tab-overview").click()
        page.get_by_text("of 1 request taken").wait_for()
        held.go_on.set()
        caller.join()
