"""The page to draw on and the API's: all of it is ours, and described."""

import re

import pytest
from fastapi.testclient import TestClient

from serving.access import HEADERS


def test_docs_describe_the_api_without_anything_from_elsewhere(web: TestClient) -> None:
    docs = web.get("/docs").text
    described = web.get("/openapi.json").json()["paths"]
    assert sorted(described) == sorted(re.findall(r"<h2>\w+ (.*)</h2>", docs))
    for path in ("/predict", "/feedback", "/ready"):
        for status in described[path].get("post", described[path].get("get"))["responses"]:
            assert status == "200" or f"{status} " in docs
    assert not re.findall("(?:href|src)=.(?:http|/)", docs)


def test_the_page_serves_its_own_parts_and_nothing_from_elsewhere(web: TestClient) -> None:
    page = web.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http" not in page.text
    for part in ("page.css", "page.js"):
        assert part in page.text
        assert web.get(f"/{part}").status_code == 200
    assert web.head("/").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("HEAD", "/model", 405),
        ("POST", "/predict/", 405),  # no redirect, whose address would be the one that the client named
        ("POST", "/", 405),
        ("GET", "/nothing", 404),
        ("GET", "/..%2fapp.py", 404),
        ("GET", "/%2e%2e/app.py", 404),
        ("GET", "/%00", 404),
        ("GET", "/" + "a" * 5000, 404),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_wrong_method_or_path_is_refused_with_the_security_headers(
    web: TestClient, method: str, path: str, status: int
) -> None:
    answer = web.request(method, path)
    assert answer.status_code == status
    assert answer.headers.items() >= {name.lower(): value for name, value in HEADERS.items()}.items()
