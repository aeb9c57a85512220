"""Graphics cards as Linux lists them below `/sys/class/drm`, and the numbers it has on them."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mlflow_sysmetrics.host.errors import Transient, Unavailable, unavailable
from mlflow_sysmetrics.host.files import find_paths
from mlflow_sysmetrics.sources import MOST, ParseError
from mlflow_sysmetrics.sources.kernel_file import read_kernel_file
from mlflow_sysmetrics.sources.plausible import is_plausible

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from mlflow_sysmetrics.host.host import Host

_CARD = re.compile(r"card[0-9]+")
_NUMBER = re.compile(r"[0-9]{1,20}")
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_PCI_ID = re.compile(r"[0-9A-F]{4}:[0-9A-F]{4}")


class PciDevice(NamedTuple):
    """What a driver has bound.

    Attributes:
        driver: `amdgpu`, say.
        pci_id: Vendor and device, `1002:744C`.
        address: Where it sits, `0000:03:00.0`.
    """

    driver: str
    pci_id: str
    address: str


@dataclass(frozen=True)
class Card:
    """One card.

    Attributes:
        directory: `/sys/class/drm/card<n>`.
        pci: What and where it is.
    """

    directory: Path
    pci: PciDevice

    @property
    def device(self) -> Path:
        """The directory of the PCI device."""
        return self.directory / "device"

    @property
    def slot(self) -> str:
        """Where it sits, less the function: `0000:03:00`."""
        return self.pci.address.rpartition(".")[0]

    @property
    def render_node(self) -> str | None:
        """The file in `/dev/dri` through which programs compute on it; None where it has none."""
        return next((path.name for path in find_paths(self.device, "drm/renderD*")), None)

    @property
    def hwmon(self) -> Path | None:
        """The directory of its sensors; None where the driver shows none."""
        return next(iter(find_paths(self.device, "hwmon/hwmon*")), None)

    def is_asleep(self) -> bool:
        """Whether the kernel has powered it down; most readings would wake it up."""
        try:
            return read_kernel_file(f"{self.device}/power/runtime_status").strip() == b"suspended"
        except OSError:
            return False


class Gauge(NamedTuple):
    """A file that holds one whole number, and the factor to the unit that is wanted."""

    path: Path
    scale: float = 1.0

    def read(self) -> float | None:
        """Its value; None where there is none, or none that may be."""
        number = read_number(self.path)
        return None if number is None else number * self.scale


def read_cards(host: Host, drivers: Collection[str]) -> tuple[Card, ...]:
    """The cards of some drivers, in the order of their PCI addresses; none outside Linux."""
    if host.system != "Linux":
        return ()
    cards = []
    for directory in find_paths(host.sysfs, "class/drm/card*"):
        if _CARD.fullmatch(directory.name) is None:  # a connector, `card1-DP-1`
            continue
        try:
            pci = parse_uevent(host.read_text(directory / "device/uevent"))
        except Transient:
            raise
        except (Unavailable, ParseError):  # not a PCI device: a partition of a card, say
            continue
        if pci.driver in drivers:
            cards.append(Card(directory, pci))
    return tuple(sorted(cards, key=lambda card: card.pci.address))


def may_use(host: Host, render_node: str | None) -> bool:
    """Whether a GPU was passed into this container, so that the variables number it."""
    return render_node is not None and host.may_use(f"dev/dri/{render_node}")


def parse_uevent(text: str) -> PciDevice:
    """A PCI device from its `uevent`.

        DRIVER=amdgpu
        PCI_CLASS=30000
        PCI_ID=1002:744C
        PCI_SLOT_NAME=0000:03:00.0

    Raises:
        ParseError: It is no PCI device, or no driver has it.
    """
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    driver, pci_id, address = (values.get(key, "") for key in ("DRIVER", "PCI_ID", "PCI_SLOT_NAME"))
    if not driver or not _PCI_ID.fullmatch(pci_id) or not _PCI_ADDRESS.fullmatch(address):
        raise ParseError("a PCI device with a driver", text)
    return PciDevice(driver, pci_id, address)


def present(gauges: Mapping[str, Gauge]) -> dict[str, Gauge]:
    """The gauges with a file; it may become readable, or unreadable, later."""
    return {name: gauge for name, gauge in gauges.items() if is_there(gauge.path)}


def is_there(path: Path) -> bool:
    """Whether there is such a file, also where it is not permitted to look: then reading fails."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def read_gauges(gauges: Mapping[str, Gauge]) -> dict[str, float]:
    """Values by name; one that cannot be read now, or is beyond all measure, is left out."""
    values: dict[str, float] = {}
    for name, gauge in gauges.items():
        with suppress(Transient):
            value = gauge.read()
            if value is not None and is_plausible(name, value):
                values[name] = value
    return values


def read_number(path: Path) -> int | None:
    """A whole number that a file holds; None where it holds none, or is not there.

    Raises:
        Transient: It cannot be read now.
    """
    try:
        return parse_number(read_kernel_file(str(path)))
    except ParseError:
        return None
    except OSError as error:
        reason = unavailable(path, error)
        if isinstance(reason, Transient):
            raise reason from error
        return None


def why_no_number(path: Path) -> str | None:
    """Why a file has no whole number, with the file's name; None where it has one."""
    try:
        parse_number(read_kernel_file(str(path)))
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    except ParseError:
        return f"{path.name}: no number"
    return None


def parse_number(content: bytes) -> int:
    r"""A whole number, as in `17163091968\n`.

    Raises:
        ParseError: It is none.
    """
    text = content.decode(errors="replace").strip()
    if _NUMBER.fullmatch(text) is None or int(text) >= MOST:
        raise ParseError("a whole number", text)
    return int(text)
