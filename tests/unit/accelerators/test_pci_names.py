from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_sysmetrics.accelerators.pci_names import parse_amdgpu_ids, parse_pci_ids

DATA = Path(__file__).parents[2] / "data/gpus"
PCI_IDS = (DATA / "mi300x/usr/share/misc/pci.ids").read_text()
AMDGPU_IDS = (DATA / "radeon-and-apu/usr/share/libdrm/amdgpu.ids").read_text()


@pytest.mark.parametrize(
    ("vendor", "device", "name"),
    [
        ("1002", "74a1", "Instinct MI300X"),
        ("1002", "164e", "Raphael"),
        ("8086", "56a0", "Arc A770"),
        ("1002", "56a0", None),  # of another maker
        ("1002", "0e3b", None),  # no device but a board
        ("10de", "2330", None),
    ],
)
def test_a_device_is_named_as_its_maker_sells_it(
    vendor: str, device: str, name: str | None
) -> None:
    assert parse_pci_ids(PCI_IDS, vendor, device) == name


def test_a_list_without_a_last_line_break_is_read_to_its_end() -> None:
    assert parse_pci_ids("8086  Intel\n\n# so it is\n\t56a0  DG2", "8086", "56a0") == "DG2"


def test_amds_list_distinguishes_revisions() -> None:
    assert parse_amdgpu_ids(AMDGPU_IDS, "744c", "c8") == "AMD Radeon RX 7900 XTX"
    assert parse_amdgpu_ids(AMDGPU_IDS, "744c", "cc") == "AMD Radeon RX 7900 XT"
    assert parse_amdgpu_ids(AMDGPU_IDS, "744c", "00") is None
