"""The web page in a browser; skips where gradio, selenium or Chromium is missing."""

import importlib.util
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.synthetic import synthetic_scene, write_scenes
from tests.commands import own_words, run_module, run_train
from tests.web.running_server import MAX_MEGABYTES, Server, wait_for

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
CHROMEDRIVER = shutil.which("chromedriver")

needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="gradio is not installed"
)
needs_browser = pytest.mark.skipif(
    importlib.util.find_spec("selenium") is None or CHROMIUM is None or CHROMEDRIVER is None,
    reason="selenium, chromium or chromedriver is not installed",
)


@pytest.mark.skipif(importlib.util.find_spec("gradio") is not None, reason="gradio is installed")
def test_without_gradio_the_extra_is_named(tmp_path):
    (tmp_path / "config.json").touch()
    finished = run_module("app", "--workdir", tmp_path)
    assert finished.returncode == 1
    assert "pip install 'sempart_jax[app]'" in finished.stderr
    assert "Traceback" not in finished.stderr


@needs_gradio
def test_a_missing_run_is_told_in_a_line(tmp_path):
    finished = run_module("app", "--workdir", tmp_path / "nothing", "--port", 0)
    assert finished.returncode == 1
    assert own_words(finished.stderr).startswith("error: ")
    assert "Traceback" not in finished.stderr


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    write_scenes(folder / "scenes", 8, 40, seed=0)
    finished = run_train(folder / "run", folder / "scenes/images", steps=1, config="baseline")
    assert finished.returncode == 0, finished.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def server(workdir, tmp_path_factory):
    running = Server(workdir, tmp_path_factory.mktemp("server"))
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "my scene_1.png"
    Image.fromarray(synthetic_scene(np.random.default_rng(5), 72)[0][:, :64]).save(path)
    return path


class Browser:
    """Chromium on the page."""

    def __init__(self, server, folder):
        from selenium import webdriver

        self.downloads = folder / "downloads"
        self.downloads.mkdir()
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,1400",
            f"--user-data-dir={folder / 'profile'}",
        ):
            options.add_argument(flag)
        options.add_experimental_option(
            "prefs", {"download.default_directory": str(self.downloads)}
        )
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        self.driver = webdriver.Chrome(
            options=options, service=webdriver.ChromeService(CHROMEDRIVER)
        )
        self.server = server

    def open(self):
        self.driver.get(self.server.address)
        self.find("#upload input[type=file]")
        return self

    def find(self, selector):
        return wait_for(lambda: self.driver.find_elements("css selector", selector))[0]

    def ask(self, selector, expression):
        """Return what JavaScript says of each element ``e`` at once: the page replaces them."""
        script = f"return [...document.querySelectorAll(arguments[0])].map(e => {expression})"
        return self.driver.execute_script(script, selector)

    def shows(self, selector):
        return any(self.ask(selector, "e.offsetParent !== null"))

    def drop(self, path):
        self.find("#upload input[type=file]").send_keys(str(path))

    def picture(self, panel):
        return wait_for(lambda: self.ask(f"#{panel} img", "e.src"))[0]

    @property
    def status(self):
        return wait_for(lambda: self.ask("#status", "e.innerText"))[0]

    @property
    def page(self):
        return self.driver.find_element("css selector", "body").text

    def slide(self, name, key):
        from selenium.webdriver.common.keys import Keys

        self.find(f"#{name} input[type=range]").send_keys(getattr(Keys, key))

    def requested(self):
        """Return what pages of the server have asked for since the last call."""
        events = [
            json.loads(line["message"])["message"] for line in self.driver.get_log("performance")
        ]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
            # What the browser's own start page asks for is none of ours.
            and event["params"]["documentURL"].startswith(self.server.address)
        ]


@pytest.fixture
def browser(server, tmp_path):
    opened = Browser(server, tmp_path)
    yield opened.open()
    opened.driver.quit()


def pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


@needs_gradio
@needs_browser
@pytest.mark.slow
def test_a_picture_is_cut_out_and_refined_without_asking_the_network_again(browser, scene):
    server = browser.server
    before = server.network_calls
    browser.drop(scene)
    wait_for(lambda: "64 × 72 pixels" in browser.status)
    first = {panel: browser.picture(panel) for panel in ("picture", "soft", "refined", "cutout")}
    assert len(set(first.values())) == 4
    assert server.network_calls == before + 1

    for _ in range(6):
        browser.slide("radius", "ARROW_RIGHT")
    wait_for(lambda: browser.picture("refined") != first["refined"])
    refined = browser.picture("refined")
    browser.slide("eps", "HOME")
    wait_for(lambda: browser.picture("refined") != refined)
    cutout = browser.picture("cutout")
    browser.slide("threshold", "HOME")
    wait_for(lambda: browser.picture("cutout") != cutout)
    browser.find("#invert input[value=always]").click()
    wait_for(lambda: browser.picture("soft") != first["soft"])
    assert browser.picture("picture") == first["picture"]
    assert server.network_calls == before + 1

    browser.find("#edges input[value=soft]").click()
    browser.find("#refine input[value=none]").click()
    wait_for(lambda: not browser.shows("#radius"))
    wait_for(lambda: not browser.shows("#threshold"))
    wait_for(lambda: browser.picture("refined") == browser.picture("soft"))
    browser.find("#save_cutout").click()
    path = browser.downloads / "my scene_1_cutout.png"
    wait_for(path.exists)
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGBA", (64, 72))
        cut = np.asarray(image)
    browser.find("#save_mask").click()
    path = browser.downloads / "my scene_1_mask.png"
    wait_for(path.exists)
    mask = pixels(path.read_bytes())
    np.testing.assert_array_equal(cut[..., 3], mask)
    opaque = cut[..., 3] > 0
    assert opaque.any()
    np.testing.assert_array_equal(cut[..., :3][opaque], pixels(scene.read_bytes())[opaque])
    assert server.network_calls == before + 1
    assert "Traceback" not in server.text


@needs_gradio
@needs_browser
@pytest.mark.slow
def test_problems_are_told_and_the_page_goes_on(browser, scene, tmp_path):
    server = browser.server
    letter = tmp_path / "letter <b>.png"
    letter.write_text("dear reader")
    browser.drop(letter)
    wait_for(lambda: "is no picture that can be read" in browser.status)
    assert "letter" in browser.status
    assert not browser.driver.find_elements("css selector", "#status b")
    assert str(tmp_path) not in browser.page
    assert str(server.temporary) not in browser.page

    large = tmp_path / "large.png"
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(large)
    assert large.stat().st_size > MAX_MEGABYTES * 2**20
    browser.open().drop(large)
    wait_for(lambda: "exceed the maximum allowed size of 204.8 Kb" in browser.page)

    many = tmp_path / "many.png"
    Image.new("1", (30_000, 30_000)).save(many)
    assert many.stat().st_size < MAX_MEGABYTES * 2**20
    browser.open().drop(many)
    wait_for(lambda: "limit" in browser.status)

    calls = server.network_calls
    browser.open().drop(scene)
    wait_for(lambda: "my scene_1.png" in browser.status)
    assert server.network_calls == calls + 1
    browser.find("#upload button[aria-label=Clear]").click()
    wait_for(lambda: "No picture is kept" in browser.status)
    for word in ("Traceback", "Error"):
        assert word not in server.text
        assert word not in browser.page


@needs_gradio
@needs_browser
@pytest.mark.slow
def test_examples_need_no_file_and_nothing_is_asked_of_other_machines(browser):
    browser.requested()
    browser.open()
    browser.find("#examples button:nth-of-type(1)").click()
    wait_for(lambda: "scene_1.png" in browser.status)
    requested = browser.requested()
    assert any("queue/join" in url for url in requested)
    own = (browser.server.address + "/", "data:", "blob:")
    assert [url for url in requested if not url.startswith(own)] == []
    assert browser.server.outside.requests == []


@needs_gradio
@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_screen(browser, scene, width, scheme):
    cdp = browser.driver.execute_cdp_cmd
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    cdp("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    cdp("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.open().drop(scene)
    wait_for(lambda: "my scene_1.png" in browser.status)
    run = browser.driver.execute_script
    assert run("return document.documentElement.scrollWidth") <= width
    boxes = [browser.find(f"#{panel}").rect for panel in ("picture", "soft", "refined", "cutout")]
    rows = len({round(box["y"]) for box in boxes})
    assert rows == (4 if width == 360 else 2)
    for box in boxes:
        assert box["width"] >= 260
        assert box["x"] + box["width"] <= width
    color = run("return getComputedStyle(document.body).backgroundColor")
    lightness = np.mean([float(part) for part in color.strip("rgba()").split(",")[:3]])
    assert (lightness > 128) == (scheme == "light")
