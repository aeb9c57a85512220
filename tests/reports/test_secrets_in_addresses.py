"""Passwords and tokens in the address of a store stand in no message and no file."""

from __future__ import annotations

import pytest
import requests
import sqlalchemy
from hypothesis import assume, given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request
from sqlalchemy.engine import make_url

from mlflow_sysmetrics.delivery.run_address import portable_uri
from mlflow_sysmetrics.log.addresses import hide, shown_address, shown_text

SECRET = "hunter2-Z9"  # noqa: S105 - nobody's
PASSWORDS = [SECRET, *(f"{SECRET[:4]}{each}{SECRET[4:]}" for each in "/#?:@&=;[% '\"")]
SCHEMES = ["postgresql", "mysql+pymysql", "mssql+pyodbc", "http", "https", "somewhere-else"]


def is_in(secret: str, text: str) -> bool:
    """Whether a text has a secret, or what is left of it where it is cut at a special character."""
    return any(each in text for each in (secret, SECRET[:4], SECRET[4:]))


# Addresses


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("end", ["host", "host:5432/db", "host/db?sslmode=require", "host/d@b?a=1"])
def test_a_password_is_not_shown_whatever_is_in_it(scheme: str, password: str, end: str) -> None:
    shown = shown_address(f"{scheme}://me:{password}@{end}")

    assert not is_in(password, shown)
    assert shown.startswith(f"{scheme}://")


@pytest.mark.parametrize("special", "/#?:@")
def test_a_database_is_still_told_by_its_user_host_and_name(special: str) -> None:
    uri = f"postgresql://me:pass{special}word@host:5432/db?sslmode=require"

    assert shown_address(uri) == "postgresql://me@host:5432/db?sslmode=require"


@pytest.mark.parametrize(
    "key",
    [
        *("token", "access_token", "ssl_key_password", "private_key_passphrase", "sslpassword"),
        *("PWD", "pass%77ord", "api_key", "client_secret", "sig", "authenticator", "x"),
    ],
)
@pytest.mark.parametrize("uri", ["postgresql://me@host/db", "sqlite:////db", "https://host/x"])
def test_a_key_that_is_not_known_to_be_harmless_is_not_shown(uri: str, key: str) -> None:
    assert shown_address(f"{uri}?{key}={SECRET}") == uri
    assert shown_address(f"{uri}?host=other&{key}={SECRET}&mode=ro") == f"{uri}?host=other&mode=ro"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (f"postgresql://me:p@x/y?{SECRET}@host/db", "postgresql://"),
        (f"postgresql://host:5432/db?password=a@{SECRET}", "postgresql://"),
        (f"postgresql://me:{SECRET}", "postgresql://me"),
        (f"postgresql://a/b:{SECRET}@host/db", "postgresql://host"),
        (f"mssql://host;user=me;password={SECRET}", "mssql://host"),
        (f"postgresql://host/db&password={SECRET}", "postgresql://host"),
        (f"mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3D{SECRET}", "mssql+pyodbc:///"),
        (f"postgresql://host/db?host=a;password={SECRET}", "postgresql://host/db"),
        (f"https://{SECRET}@host", "https://host"),
        (f"https://me:{SECRET}/x@host:5000/path", "https://host"),
        (f"https://host/path#access_token={SECRET}", "https://host/path"),
        (f"uc:https://{SECRET}@host", "uc:https://host"),
        (f"databricks://token:{SECRET}@host", "databricks://host"),
        (f"sqlite+pysqlcipher://:{SECRET}@/runs.db?cipher=aes", "sqlite+pysqlcipher:///runs.db"),
        (f"me:{SECRET}@host/db", "me:"),
    ],
)
def test_what_can_be_read_in_two_ways_shows_scheme_and_host_at_most(uri: str, shown: str) -> None:
    assert shown_address(uri) == shown
    assert not is_in(SECRET, portable_uri(uri))


secrets = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20).map(
    lambda text: f"Qq{text}qQ"
)
words = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="Qq"))


@given(st.sampled_from(SCHEMES), words, secrets, words, secrets)
def test_no_address_shows_its_secrets(
    scheme: str, user: str, password: str, key: str, value: str
) -> None:
    assume(key.lower() not in {"host", "port", "user", "mode", "driver"})
    uri = f"{scheme}://{user}:{password}@host/db?{key}={value}"
    shown = shown_address(uri)

    assert "Qq" not in shown
    assert "qQ" not in shown
    assert "Qq" not in portable_uri(uri)
    assert shown_address(shown) == shown


@given(st.text(), st.text(), st.sampled_from(["postgresql", "mysql+pymysql", "mssql+pyodbc"]))
def test_an_address_that_sqlalchemy_makes_shows_where_it_is(
    user: str, password: str, scheme: str
) -> None:
    url = sqlalchemy.URL.create(scheme, user, f"Qq{password}qQ", "host", 5432, "db")
    shown = make_url(shown_address(url.render_as_string(hide_password=False)))

    assert shown.password is None
    assert (shown.drivername, shown.host, shown.port, shown.database) == (
        *(scheme, "host", 5432, "db"),
    )


@given(st.text())
def test_anything_can_be_shown(text: str) -> None:
    assert isinstance(shown_address(text), str)
    assert isinstance(portable_uri(text or "x"), str)
    assert len(shown_text(text, text)) <= 500


# Messages of others


def message_of_sqlalchemy(uri: str) -> str:
    with pytest.raises((sqlalchemy.exc.SQLAlchemyError, ValueError)) as raised:
        sqlalchemy.create_engine(uri).connect()
    return str(raised.value)


def message_of_requests(uri: str) -> str:
    with pytest.raises(requests.RequestException) as raised:
        requests.get(uri, timeout=5)
    return str(raised.value)


def message_of_mlflow(uri: str) -> str:
    with pytest.raises(MlflowException) as raised:
        http_request(MlflowHostCreds(uri), "/api", "GET", max_retries=0, timeout=5)
    return str(raised.value)


@pytest.mark.parametrize("password", PASSWORDS)
def test_messages_of_libraries_are_shown_without_the_password(password: str) -> None:
    database = f"postgresql+psycopg2://me:{password}@127.0.0.1:1/db"
    server = f"http://me:{password}@127.0.0.1:1/x"

    for message, uri in (
        (message_of_sqlalchemy(database), database),
        (message_of_sqlalchemy(database.replace("://", "//")), database.replace("://", "//")),
        (message_of_requests(server), server),
        (message_of_mlflow(server), server),
    ):
        assert not is_in(password, shown_text(message, uri))


@pytest.mark.parametrize("password", [each for each in PASSWORDS if each.split() == [each]])
def test_an_address_in_a_text_is_shown_without_its_password_although_nobody_knows_it(
    password: str,
) -> None:
    text = f"cannot connect to postgresql://me:{password}@host/db (is it there?)"

    assert not is_in(password, shown_text(text))
    assert "(is it there?)" in shown_text(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"host=h user=me password={SECRET} dbname=db", "host=h user=me password=*** dbname=db"),
        (f"password='{SECRET} x' dbname=db", "password=*** dbname=db"),
        (f'{{"token": "{SECRET}", "a": 1}}', '{"token": ***, "a": 1}'),
        (f"Authorization: Bearer {SECRET}", "Authorization: ***"),
        (f"bad Bearer {SECRET}, sorry", "bad Bearer ***, sorry"),
        ("the page_token: is not valid", "the page_token: is not valid"),
        ("a\x1b[31mred\x1b[0m\r\n\x00  word\u202e", "ared word"),
        ("x" * 1000, "x" * 499 + "…"),
    ],
)
def test_a_text_is_one_clean_line(text: str, shown: str) -> None:
    assert shown_text(text) == shown


def test_a_secret_that_is_known_is_hidden_however_it_is_written() -> None:
    assert hide("p/w a%2Fb p%2Fw 'x'", "p/w", None, "") == "*** a%2Fb *** 'x'"
