"""Which addresses are asked, and who gets to see the user's token."""

import http.client
import io
import urllib.error
import urllib.request
from typing import Any

import pytest

from samlet.errors import InputError
from samlet.store import web


@pytest.mark.parametrize(
    ("url", "after", "allowed"),
    [
        ("https://example.org/x", "", True),
        ("https://example.org/x", "https://other.org", True),
        ("http://example.org/x", "", False),
        ("http://127.0.0.1:80/x", "", True),
        ("http://localhost/x", "", True),
        ("http://[::1]/x", "", True),
        ("http://127.0.0.1/x", "https://example.org", False),
        ("http://127.0.0.1/x", "http://127.0.0.1/y", True),
        ("http://127.0.0.1.example.org/x", "", False),
        ("http://localhost.example.org/x", "", False),
        ("http://2130706433/x", "", False),
        ("https://user@example.org/x", "", False),
        ("https://example.org:99999/x", "", False),
        ("https:///x", "", False),
        ("file:///etc/passwd", "", False),
        ("data:,x", "", False),
        ("//example.org/x", "", False),
        ("https://[::1", "", False),
    ],
)
def test_addresses(url: str, after: str, allowed: bool) -> None:
    assert web.is_allowed(url, after=after) is allowed


class TestToken:
    """The user's token goes to https://huggingface.co, and nowhere else."""

    @pytest.fixture
    def sent(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
        """Stand in for the network: huggingface.co redirects to another host, which answers."""
        seen: list[tuple[str, str | None]] = []

        class Answer(http.client.HTTPResponse):
            def __init__(self) -> None:
                pass

        def opened(self: Any, request: urllib.request.Request, timeout: float) -> Any:
            seen.append((request.full_url, request.get_header("Authorization")))
            if "huggingface.co/" in request.full_url:
                headers = http.client.HTTPMessage()
                headers["Location"] = "https://cdn.example.org/x"
                raise urllib.error.HTTPError(request.full_url, 302, "Found", headers, io.BytesIO())
            return Answer()

        monkeypatch.setattr(urllib.request.OpenerDirector, "open", opened)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        return seen

    def test_it_stays_when_redirected(self, sent: list[tuple[str, str | None]]) -> None:
        web.request("https://huggingface.co/a/b/resolve/main/x", {})
        assert sent == [
            ("https://huggingface.co/a/b/resolve/main/x", "Bearer hf_secret"),
            ("https://cdn.example.org/x", None),
        ]

    @pytest.mark.parametrize(
        "url",
        [
            "https://example.org/huggingface.co",
            "https://huggingface.co.example.org/x",
            "https://huggingface.co:444/x",
        ],
    )
    def test_others_do_not_see_it(self, sent: list[tuple[str, str | None]], url: str) -> None:
        web.request(url, {})
        assert [token for _, token in sent] == [None] * len(sent)

    def test_it_is_one_word(
        self, sent: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "a\r\nHost: b")
        with pytest.raises(InputError, match="expected HF_TOKEN without spaces"):
            web.request("https://huggingface.co/x", {})
