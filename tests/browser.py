"""A headless Chromium that opens pages of a folder over a server of this machine."""

import contextlib
import functools
import http.server
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
REQUESTS = "return performance.getEntriesByType('resource').map(entry => entry.name)"
WIDTHS = "return [document.scrollingElement.scrollWidth, document.documentElement.clientWidth]"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128  # a search asks for thirty pages at once; five wait by default, and the rest are refused


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve the files of a folder on this machine; gives the address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with _Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Browser:
    """One window."""

    def __init__(self, driver) -> None:
        self.driver, self.home = driver, ""

    @contextlib.contextmanager
    def serving(self, folder: Path) -> Iterator["Browser"]:
        """Serve the files of a folder; `open` then takes their names."""
        with serve(folder) as self.home:
            yield self

    def look(self, width: int, scheme: str = "light") -> None:
        """A window of this width in pixels on a system that asks for light or dark."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, name: str) -> None:
        self.driver.get(self.home + name)

    def faults(self) -> list[str]:
        """What is wrong with the page that is open: errors in the console, requests elsewhere, content wider than the window."""
        found = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        found += [name for name in self.run(REQUESTS) if not name.startswith((self.home, "data:"))]
        content, window = self.run(WIDTHS)
        return found + [f"{content} pixels wide in a window of {window}"] * (content > window)

    def run(self, script: str):
        return self.driver.execute_script(script)

    def wait(self, condition: Callable[[], object], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.1)

    def paper(self) -> int:
        """Brightness of the page's background, 0 to 765."""
        colour = self.run("return getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")[:3])


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a new profile; the test is skipped where there is none."""
    programs = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    binary, driver = next(filter(None, programs), None), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no Chromium with its chromedriver here")
    webdriver = pytest.importorskip("selenium.webdriver")
    options, service = webdriver.ChromeOptions(), webdriver.ChromeService(driver)
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in [*FLAGS.split(), f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        started = webdriver.Chrome(options=options, service=service)
        try:
            yield Browser(started)
        finally:
            started.quit()
