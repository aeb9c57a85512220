from __future__ import annotations

import importlib
import platform
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.distributed import domain
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _real() -> None:
    """The function itself, which is another one in all other tests."""
    importlib.reload(domain)


def domain_of(root: Path, boot: str = "b", name: str = "n", pid: str = "1", net: str = "2") -> str:
    for path in (root / "proc/sys/kernel/random", root / "proc/self/ns"):
        path.mkdir(parents=True, exist_ok=True)
    (root / "proc/sys/kernel/random/boot_id").write_text(boot)
    for namespace, number in (("pid", pid), ("net", net)):
        link = root / "proc/self/ns" / namespace
        link.unlink(missing_ok=True)
        link.symlink_to(f"{namespace}:[{number}]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(platform, "node", lambda: name)
        return domain.sampling_domain(Host(root))


def test_two_processes_of_a_host_or_container_have_one_domain(tmp_path: Path) -> None:
    assert domain_of(tmp_path) == domain_of(tmp_path)


@pytest.mark.parametrize("differs", ["boot", "name", "pid", "net"])
def test_other_hosts_and_containers_have_others(tmp_path: Path, differs: str) -> None:
    assert domain_of(tmp_path) != domain_of(tmp_path, **{differs: "9"})


def test_a_host_has_a_name_that_can_stand_in_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "näme of/node-7.example")

    assert domain.name_of_host(Host(), may_be_named=True).startswith("nmeofnode-7.example-")


def test_a_host_name_that_is_excluded_stands_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "secret")

    assert "secret" not in domain.name_of_host(Host(), may_be_named=False)
