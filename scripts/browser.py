"""A headless Chromium that looks at a real Airflow, for the browser tests and the screenshots."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

T = TypeVar("T")
#: Seconds; a wait ends as soon as what it waits for is there.
LONG = 240.0
_LOOK_SECONDS = 0.2
_OPTIONS = ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server")


class Browser:
    """One browser window on one Airflow.

    :param url: Airflow's address.
    :param width: of the window, in pixels.
    :param height: of the window, in pixels.
    :param dark: what the system says it prefers.
    """

    def __init__(self, url: str, *, width: int = 1400, height: int = 900, dark: bool = False) -> None:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if chromium is None or driver is None:
            raise RuntimeError("chromium and chromedriver are needed: run tests/engines/browser_install.sh as root")
        options = Options()
        options.binary_location = chromium
        for option in (*_OPTIONS, f"--window-size={width},{height}"):
            options.add_argument(option)
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")  # Chromium's sandbox refuses root
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.url = url
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.theme(dark)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()

    def theme(self, dark: bool) -> None:
        """Say what the system prefers; a page that is open follows."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def open(self, path: str) -> None:
        """Load a page of this Airflow."""
        self.driver.get(f"{self.url}{path}")

    def login(self, username: str, password: str) -> None:
        """Log in through the form of Airflow's simple auth manager."""
        self.open("/auth/login")
        self.find("input[name=username]").send_keys(username)
        self.find("input[name=password]").send_keys(password)
        self.find("button[type=submit]").click()
        self.wait(lambda: "/auth/login" not in self.driver.current_url, "the login")

    def js(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page, or in the frame that is entered."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, look: Callable[[], T | None], what: str, seconds: float = LONG) -> T:
        """Call ``look`` until it gives something true; an element that was drawn anew counts as "not yet"."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := look():
                    return found
            except (StaleElementReferenceException, IndexError):
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come at {self.driver.current_url}; console: {self.console()}")
            time.sleep(_LOOK_SECONDS)

    def find(self, css: str) -> WebElement:
        """Return the first element, as soon as it is shown."""
        return self.wait(lambda: next((e for e in self._all(css) if e.is_displayed()), None), css)

    def button(self, text: str, last: bool = False) -> WebElement:
        """Return the first (or last) button with this text, as soon as it is there."""

        def look() -> WebElement | None:
            found = [e for e in self._all("button, [role=tab], a") if e.text.strip() == text and e.is_displayed()]
            return found[-1 if last else 0] if found else None

        return self.wait(look, f"the button {text!r}")

    def _all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    @contextmanager
    def frame(self, css: str = "iframe") -> Iterator[None]:
        """Work within a frame of the page."""
        self.driver.switch_to.frame(self.find(css))
        try:
            yield
        finally:
            self.driver.switch_to.default_content()

    def console(self) -> list[str]:
        """Return what the page has complained about since the last call."""
        try:
            entries = self.driver.get_log("browser")
        except WebDriverException:
            return []
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]
