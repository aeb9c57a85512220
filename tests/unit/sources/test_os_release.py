from __future__ import annotations

import pytest

from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.os_release import parse_os_release


def test_values_are_unquoted_as_a_shell_does() -> None:
    text = '# comment\nPRETTY_NAME="Tom\'s \\$ \\"Linux\\""\n\nID=tom\nNAME=\'A  B\'\nEMPTY=\n'

    assert parse_os_release(text) == {
        "PRETTY_NAME": 'Tom\'s \\$ "Linux"',
        "ID": "tom",
        "NAME": "A  B",
        "EMPTY": "",
    }


@pytest.mark.parametrize("text", ["no assignment", 'NAME="without end'])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="os-release"):
        parse_os_release(text)
