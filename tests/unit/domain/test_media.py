"""Where engines may be sent for pictures: a URL that two readers may take apart differently is none."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.domain.door.media import may_be_fetched, media_of

PUBLIC = [
    "https://example.com/a.png",
    "http://example.com:8080?x=1",
    "https://EXAMPLE.com./a b.png#ü",
    "https://8.8.8.8/a",
    "https://[2606:4700::1111]/a",
    "https://xn--bcher-kva.xn--vermgensberatung-pwb/a.png",
    "https://pictures.s3.eu-central-1.amazonaws.com/a.png",
    "https://a.dev/b",
    "data:image/png;base64,AAAA",
    "DATA:,x",
]
OWN = [
    "http://127.0.0.1:8000/metrics",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://api.localhost/",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.1.2.3/",
    "http://192.168.0.1/",
    "http://0.0.0.0/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1%25eth0]/",
    "http://[fd00::1]/",
    "http://224.0.0.1/",
    "http://redis:6379/",
    "http://metadata.google.internal/",
    "http://chat.inference.svc.cluster.local/",
    "http://printer.local/",
    "http://redis.databases/",  # in a pod: redis.databases.svc.cluster.local
    "http://chat-0.chat.inference:8000/metrics",
    "http://fleetune.default.svc/",
    "http://router.home/",
    "http://host.docker.internal/",
    "http://a.test/",
    "http://1.0.0.127.in-addr.arpa/",
    "http://168.63.129.16/machine",  # Azure's
    "http://192.0.0.192/opc/v2/",  # Oracle's
    "http://100.100.100.200/latest/meta-data/",  # Alibaba's
    "http://[fd00:ec2::254]/latest/meta-data/",  # Amazon's
    "http://[fec0::1]/",
    "http://[5f00::1]/",
    "http://[100::1]/",
    "http://[2001:0:7f00:1::]/",
    "http://[::127.0.0.1]/",
    "http://017700000001/",
    "http://127.0.0.1./",
]
ODD = [
    "http://example.com\\@127.0.0.1/",
    "http://127.0.0.1\\.example.com/",
    "http://user@127.0.0.1/",
    "http://example.com@127.0.0.1/",
    "http://example.com:80@127.0.0.1/",
    "http:/127.0.0.1/",
    "http:127.0.0.1",
    "//127.0.0.1/",
    " http://example.com/",
    "http://exa\tmple.com/",
    "http://ex\u3002com/",
    "http://①②⑦.0.0.1/",
    "http://%31%32%37.0.0.1/",
    "file:///etc/passwd",
    "/etc/passwd",
    "ftp://example.com/",
    "gopher://example.com/",
    "",
]


@pytest.mark.parametrize("url", PUBLIC)
def test_public_hosts_and_data_may_be_fetched(url: str) -> None:
    assert may_be_fetched(url, None)


@pytest.mark.parametrize("url", [*OWN, *ODD])
def test_own_networks_and_odd_urls_may_not(url: str) -> None:
    assert not may_be_fetched(url, None)


@pytest.mark.parametrize(
    ("url", "hosts", "may"),
    [
        ("http://minio:9000/a.png", ["minio"], True),
        ("http://10.0.0.5/a.png", ["10.0.0.5"], True),
        ("http://10.0.0.6/a.png", ["10.0.0.5"], False),
        ("https://cdn.Example.com/a", ["*.example.com"], True),
        ("https://example.com/a", ["*.example.com"], False),
        ("https://evilexample.com/a", ["*.example.com"], False),
        ("https://example.com/a", [], False),
        ("data:,x", [], True),
        ("https://example.com\\@cdn.example.com/a", ["*.example.com"], False),
        ("http://127.0.0.1/", ["*"], True),
    ],
)
def test_where_hosts_are_named_those_alone_may(url: str, hosts: list[str], may: bool) -> None:
    assert may_be_fetched(url, hosts) is may


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "U"}}]}]},
        {"messages": [{"role": "user", "content": [{"image_url": "U"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": "U"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "U"}}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "U"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "U"}]}]},
        {"messages": [{"content": [{"type": "image", "source": {"type": "url", "url": "U"}}]}]},
        {"messages": [{"content": [{"type": "tool_result", "content": [{"source": {"url": "U"}}]}]}]},
        {"documents": {"content": [{"type": "image_url", "image_url": {"url": "U"}}]}},
        {"data_1": [{"content": [{"type": "image_url", "image_url": {"url": "U"}}]}]},
        {"messages": [{"content": [{"type": "image_url", "image_url": ["U"]}]}]},
        {"data": {"data": "U", "data_format": "url", "out_data_format": "b64_json"}},
        {"data": {"data": "U", "data_format": "path"}},
    ],
)
def test_it_is_found_wherever_engines_look_for_it(fields: dict[str, Any]) -> None:
    assert [media.url for media in media_of(fields)] == ["U"]


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": 'see http://127.0.0.1 and "image_url"'}]},
        {"tools": [{"function": {"parameters": {"properties": {"image_url": {"type": "string", "url": "U"}}}}}]},
        {"messages": [{"content": [{"type": "tool_use", "input": {"image_url": "U", "url": "U"}}]}]},
        {"messages": [{"content": [{"type": "image", "source": {"type": "base64", "data": "AA"}}]}]},
        {"metadata": {"image_url": "U"}},
        {"data": {"data": "U", "data_format": "b64_json"}},
    ],
)
def test_what_no_engine_fetches_is_not_looked_at(fields: dict[str, Any]) -> None:
    assert list(media_of(fields)) == []
