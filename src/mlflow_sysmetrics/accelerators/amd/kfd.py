"""AMD's GPUs and who uses them, by what the kernel's compute driver (KFD) shows.

ROCm computes through it; what only draws (OpenGL, Vulkan) is not there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from mlflow_sysmetrics.accelerators.drm import parse_number
from mlflow_sysmetrics.host.errors import Transient, Unavailable, unavailable
from mlflow_sysmetrics.host.files import find_paths
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.kernel_file import read_kernel_file

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlflow_sysmetrics.host.host import Host

_KFD = "class/kfd/kfd"
_PROPERTY = re.compile(
    r"^(domain|location_id|drm_render_minor|unique_id) ([0-9]{1,20})$", re.MULTILINE
)
_NO_GPU = "0"


class Node(NamedTuple):
    """A GPU, or a part of one that is partitioned: what ROCm counts as a device.

    Attributes:
        kfd_id: What KFD calls it.
        slot: Where it is on the PCI bus, `0000:05:00`; the parts of a GPU have the same.
        render_node: Its file in `/dev/dri`; None where it has none.
        unique_id: Its id as ROCm's variables spell it, `GPU-` and 16 digits; None where it has
            none.
    """

    kfd_id: str
    slot: str
    render_node: str | None
    unique_id: str | None


def read_nodes(host: Host) -> tuple[Node, ...]:
    """The GPUs, in ROCm's order, that this process's control group lets it use; none without KFD.

    Of another GPU the kernel shows the process nothing here.
    """
    folders = find_paths(host.sysfs, f"{_KFD}/topology/nodes/*")
    nodes = []
    for folder in sorted(
        (folder for folder in folders if folder.name.isdecimal()),
        key=lambda folder: int(folder.name),
    ):
        try:
            kfd_id = host.read_text(folder / "gpu_id").strip()
            if kfd_id != _NO_GPU:
                nodes.append(parse_node(kfd_id, host.read_text(folder / "properties")))
        except Transient:
            raise
        except (Unavailable, ParseError):  # may not be used by this process
            continue
    return tuple(nodes)


def parse_node(kfd_id: str, properties: str) -> Node:
    """A GPU from the properties of its node.

        simd_count 1216
        location_id 1280
        domain 0
        drm_render_minor 128
        unique_id 5359051430092119651

    Where a GPU has several parts, `location_id` also has the part's number: above the 16 bits of
    its place, or with older drivers in the last three, which are the PCI function's.

    Raises:
        ParseError: They do not say where it is.
    """
    values = {name: int(number) for name, number in _PROPERTY.findall(properties)}
    if "location_id" not in values:
        raise ParseError("the properties of a KFD node", properties)
    bus, device = divmod(values["location_id"] & 0xFFFF, 256)
    minor, unique_id = values.get("drm_render_minor"), values.get("unique_id")
    return Node(
        kfd_id,
        slot=f"{values.get('domain', 0):04x}:{bus:02x}:{device >> 3:02x}",
        render_node=f"renderD{minor}" if minor else None,
        unique_id=f"GPU-{unique_id:016x}" if unique_id else None,
    )


def read_memory_by_pid(host: Host, kfd_ids: Collection[str]) -> dict[int, int]:
    """Bytes of a GPU's memory that each process has, by process ids of the host's namespace.

    Raises:
        Unavailable: That of one process cannot be read, so that a sum would be too small.
        ParseError: It is not as expected.
    """
    used: dict[int, int] = {}
    for kfd_id in kfd_ids:
        for path in find_paths(host.sysfs, f"{_KFD}/proc/*/vram_{kfd_id}"):
            if not path.parent.name.isdecimal():
                continue
            try:
                used_bytes = parse_number(read_kernel_file(str(path)))
            except (FileNotFoundError, ProcessLookupError):  # it has ended
                continue
            except OSError as error:
                raise unavailable(path, error) from error
            pid = int(path.parent.name)
            used[pid] = used.get(pid, 0) + used_bytes
    return used
