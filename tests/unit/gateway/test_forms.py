"""A form is read as every engine reads it, or refused: nobody may name one model here and another there."""

from __future__ import annotations

import pytest

from controlplane.gateway.forms import form_fields
from controlplane.gateway.openai_errors import RequestRefused

KIND = "multipart/form-data; boundary=B"
FILE = 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\nRIFF--B\r\n'


def field(name: str, value: str, head: str = "") -> str:
    return f'{head}Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'


def form(*parts: str, end: str = "--B--\r\n") -> bytes:
    return ("".join(f"--B\r\n{part}\r\n" for part in parts) + end).encode()


MODEL = field("model", "mine")


@pytest.mark.parametrize(
    "kind", [KIND, 'multipart/form-data; boundary="B"', "multipart/form-data;boundary=B; charset=utf-8"]
)
def test_the_forms_of_usual_clients_are_read(kind: str) -> None:
    typed = field("language", "de", "Content-Type: text/plain; charset=utf-8\r\n")
    several = [field("timestamp_granularities[]", each) for each in ("word", "segment")]
    found = form_fields(form(FILE, MODEL, typed, *several), kind)
    assert found == {"model": "mine", "language": "de", "timestamp_granularities[]": "segment"}


def test_a_file_may_have_any_name_and_is_no_field() -> None:
    odd = 'Content-Disposition: form-data; name="file"; filename="a\\"; name=\\"model.wav"\r\n\r\nx'
    assert form_fields(form(odd, MODEL), KIND) == {"model": "mine"}


def test_of_a_long_field_the_beginning_is_told() -> None:
    assert len(form_fields(form(MODEL, field("prompt", "x" * 10_000)), KIND)["prompt"]) == 4096


READ_APART = {
    "twice": form(MODEL, field("model", "other")),
    "once as a file": form(MODEL, 'Content-Disposition: form-data; name="model"; filename="x"\r\n\r\nother'),
    "a name without quotes": form(MODEL, "Content-Disposition: form-data; name=model\r\n\r\nother"),
    "a name with an escape": form(MODEL, 'Content-Disposition: form-data; name="mo\\del"\r\n\r\nother'),
    "two names": form('Content-Disposition: form-data; name="x"; name="model"\r\n\r\nother', MODEL),
    "a name by RFC 5987": form(MODEL, "Content-Disposition: form-data; name*=utf-8''model\r\n\r\nother"),
    "behind a long head": form(MODEL, field("model", "other", f"X-Long: {'x' * 5000}\r\n")),
    "told twice": form(MODEL, field("model", "other", 'Content-Disposition: form-data; name="x"\r\n')),
    "a head that goes on": form(MODEL, 'Content-Disposition: form-data;\r\n name="model"\r\n\r\nother'),
    "encoded": form(field("model", "b3RoZXI=", "Content-Transfer-Encoding: base64\r\n")),
    "behind the end": form(MODEL, end="--B--\r\n") + form(field("model", "other")),
    "before the beginning": b"x" + form(MODEL),
    "no end": form(MODEL, end=""),
    "lines that end in one character": form(MODEL).replace(b"\r\n", b"\n"),
    "no head": form(MODEL, "\r\n\r\nother"),
}


@pytest.mark.parametrize("body", READ_APART.values(), ids=READ_APART)
def test_what_two_parsers_might_read_apart_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        form_fields(body, KIND)
    assert (refused.value.status, refused.value.code) == (400, "invalid_form")
    assert "other" not in refused.value.message


@pytest.mark.parametrize(
    "kind",
    [
        *(
            "",
            "application/json",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/mixed; boundary=B",
        ),
        *(f"{KIND}; boundary=A", f"{KIND}, {KIND}", "multipart/form-data; boundary*=utf-8''B"),
    ],
)
def test_a_form_with_no_one_boundary_is_refused(kind: str) -> None:
    with pytest.raises(RequestRefused, match="one boundary"):
        form_fields(form(MODEL), kind)


def test_what_looks_like_a_boundary_within_a_line_is_part_of_a_value() -> None:
    within = field("prompt", 'a--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nmine')
    assert form_fields(form(field("model", "other"), within), KIND)["model"] == "other"
