"""MLflow's UI in a headless Chromium, for the pictures and for the browser test.

It needs Selenium, and on the machine Chromium or Chrome with its driver (Debian: chromium,
chromium-driver).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from typing import TYPE_CHECKING

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Callable

    from selenium.webdriver.remote.webelement import WebElement
    from typing_extensions import Self

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which root, in a container, cannot have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)

_WAIT_S = 90.0  # the charts' code alone is several MB, and a busy machine is slow

_ASIDE = (
    "mlflow.assistant.chat_panel.close",
    "mlflow_header.toggle_sidebar_button",
)
"""Buttons of newer versions that give the page the whole window."""


class MlflowUi:
    """A browser window on one MLflow server.

    Args:
        address: The server's, such as `http://127.0.0.1:5000`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._aside = list(_ASIDE)
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        options = webdriver.ChromeOptions()
        for flag in (*_FLAGS, f"--user-data-dir={self._profile}"):
            options.add_argument(flag)
        # Else where Selenium looks.
        options.binary_location = shutil.which("google-chrome") or shutil.which("chromium") or ""
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self._browser = webdriver.Chrome(options, service)
        self.resize(1400, 1100)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._browser.quit()
        shutil.rmtree(self._profile, ignore_errors=True)

    def resize(self, width: int, height: int) -> None:
        """Give the window a size, in pixels."""
        self._browser.set_window_size(width, height)

    def open(self, path: str, text: str) -> None:
        """Go to a page of the UI and wait until it shows a text.

        Raises:
            TimeoutException: It does not.
        """
        self._browser.get(f"{self._address}/#/{path}")
        self._wait(lambda: self._has_room() and text in self.text, f"the page shows no {text!r}")

    @property
    def text(self) -> str:
        """All text on the page."""
        return str(self._browser.find_element(By.TAG_NAME, "body").text)

    @property
    def charts(self) -> int:
        """How many charts on the page have a line."""
        return len(self._all(".js-plotly-plot .scatterlayer .js-line"))

    def wait_for_charts(self, number: int) -> None:
        """Wait until some charts are drawn.

        Raises:
            TimeoutException: They are not.
        """
        self._wait(lambda: self.charts >= number, f"there are no {number} charts")

    def search_charts(self, pattern: str) -> None:
        """Show only the charts whose keys match a regular expression."""
        box = self._browser.find_element(
            By.CSS_SELECTOR, 'input[placeholder="Search metric charts"]'
        )
        box.send_keys(pattern)

    def show_columns(self, *names: str) -> None:
        """Let the table of runs show these columns and no others but the run's name."""
        self._click("//button[normalize-space()='Columns']")
        shown = "//*[@role='dialog']//span[contains(@class, 'checkbox-checked')]"
        while boxes := self._browser.find_elements(By.XPATH, shown):
            boxes[0].click()
        for name in names:
            box = self._browser.find_element(By.CSS_SELECTOR, 'input[placeholder="Search columns"]')
            box.send_keys(Keys.CONTROL, "a")
            box.send_keys(name)
            self._click(f"//*[@role='dialog']//*[normalize-space(text())='{name}']")
        self._click("//button[normalize-space()='Columns']")
        for handle in self._all(".ag-header-cell-resize"):
            if handle.is_displayed():  # a double click fits the column to what is in it
                ActionChains(self._browser).double_click(handle).perform()

    def picture(self) -> bytes:
        """The window as PNG, when nothing moves in it any more."""
        # Plotly's buttons show while the mouse is over a chart, and always where there is no mouse.
        self._browser.execute_script(
            "const style = document.createElement('style');"
            "style.textContent = '.modebar { display: none !important }';"
            "document.head.append(style);"
        )
        before, picture = b"", bytes(self._browser.get_screenshot_as_png())
        while picture != before:
            time.sleep(2)
            before, picture = picture, bytes(self._browser.get_screenshot_as_png())
        return picture

    def _has_room(self) -> bool:
        """Put aside what is not the page; where it is narrow, the UI leaves out parts of it."""
        for component in tuple(self._aside):
            for button in self._all(f'button[data-component-id="{component}"]'):
                button.click()
                self._aside.remove(component)
        return True

    def _click(self, xpath: str) -> None:
        self._wait(lambda: self._browser.find_elements(By.XPATH, xpath), f"there is no {xpath}")
        self._browser.find_element(By.XPATH, xpath).click()

    def _all(self, selector: str) -> list[WebElement]:
        return list(self._browser.find_elements(By.CSS_SELECTOR, selector))

    def _wait(self, is_there: Callable[[], object], complaint: str) -> None:
        waiting = WebDriverWait(self._browser, _WAIT_S, ignored_exceptions=[WebDriverException])
        waiting.until(lambda _: is_there(), complaint)
