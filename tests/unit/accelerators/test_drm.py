from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_sysmetrics.accelerators.amd.driver import unique_id
from mlflow_sysmetrics.accelerators.drm import PciDevice, parse_number, parse_uevent, read_cards
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources import ParseError

MI300X = Path(__file__).parents[2] / "data/gpus/mi300x"


def test_a_uevent_reports_what_and_where_a_card_is() -> None:
    text = "DRIVER=xe\nPCI_CLASS=30000\nPCI_ID=8086:56A0\nPCI_SLOT_NAME=0000:03:00.0\n"

    assert parse_uevent(text) == PciDevice("xe", "8086:56A0", "0000:03:00.0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DRIVER=amdgpu_xcp\nMODALIAS=platform:amdgpu_xcp\n",
        "PCI_ID=8086:56A0\nPCI_SLOT_NAME=0000:03:00.0\n",
    ],
)
def test_what_is_no_bound_pci_device_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_uevent(text)


@pytest.mark.parametrize(
    "content", [b"", b"-1\n", b"12 kB\n", b"1" * 21, b"\xff\n", "٣\n".encode()]
)
def test_what_is_no_whole_number_is_refused(content: bytes) -> None:
    with pytest.raises(ParseError):
        parse_number(content)


def test_connectors_partitions_and_other_drivers_are_no_cards() -> None:
    cards = read_cards(Host(root=MI300X, system="Linux"), ("amdgpu",))

    assert [card.directory.name for card in cards] == ["card1", "card9"]


def test_cards_are_in_the_order_of_their_places_on_the_bus(tmp_path: Path) -> None:
    for name, address in (("card0", "0001:03:00.0"), ("card1", "0000:83:00.0")):
        device = tmp_path / "sys/class/drm" / name / "device"
        device.mkdir(parents=True)
        (device / "uevent").write_text(f"DRIVER=xe\nPCI_ID=8086:0BD5\nPCI_SLOT_NAME={address}\n")

    cards = read_cards(Host(root=tmp_path, system="Linux"), ("xe",))

    assert [card.directory.name for card in cards] == ["card1", "card0"]


def test_an_id_has_sixteen_digits(tmp_path: Path) -> None:
    (card, _) = read_cards(Host(root=MI300X, system="Linux"), ("amdgpu",))
    assert unique_id(card) == "GPU-4a5f2ce1d7b09e63"
