"""Texts with what is to be found in them, marked `⟦kind:…⟧`, and texts in which there is nothing, though it looks so.

All made up: card numbers are the test numbers of the card companies, IBANs the examples of the banks' registry.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MARK = re.compile(r"⟦(\w+):([^⟧]*)⟧", re.DOTALL)


class Labelled(NamedTuple):
    text: str
    wanted: tuple[tuple[str, str], ...]  # kind, what it says


def read(marked: str) -> Labelled:
    return Labelled(MARK.sub(r"\2", marked), tuple((m[1], m[2]) for m in MARK.finditer(marked)))


_PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6\n-----END RSA PRIVATE KEY-----"
_JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"

WITH = [
    read(each)
    for each in (
        "Write to ⟦email:alice@example.com⟧ please.",
        "⟦email:bob.smith+news@mail.example.co.uk⟧, or call.",
        "Mail: <⟦email:x_y-z@sub.example-site.org⟧>",
        "Contact ⟦email:ALICE@EXAMPLE.COM⟧.",
        "mailto:⟦email:carol@example.net⟧?subject=hi",
        "[⟦email:dave@example.io⟧](mailto:⟦email:dave@example.io⟧)",
        "Both ⟦email:a@b.de⟧ and ⟦email:c@d.fr⟧;",
        "see/⟦email:erin@example.com⟧ or \n⟦email:frank@example.com⟧",
        "Call ⟦phone:+49 171 1234567⟧ now.",
        "Call ⟦phone:+1-202-555-0143⟧ now.",
        "Tel.: ⟦phone:+44 20 7946 0958⟧, London",
        "phone=⟦phone:+4915112345678⟧",
        "Dial ⟦phone:0049 30 901820⟧ from abroad",
        "Berlin ⟦phone:030 901820⟧ is the number",
        "⟦phone:(202) 555-0143⟧ in the US",
        "⟦phone:202-555-0143⟧ again",
        "⟦phone:202.555.0143⟧ again",
        "⟦phone:0171/1234567⟧ again",
        "Paris: ⟦phone:+33 1 23 45 67 89⟧.",
        "Her number, ⟦phone:+41 44 668 18 00⟧, is old.",
        "Number ⟦phone:+49 171 1234567⟧ 2024 was dialled",
        "Card ⟦card:4111 1111 1111 1111⟧ expires soon",
        "Card ⟦card:4111111111111111⟧ expires soon",
        "Card ⟦card:5555-5555-5555-4444⟧.",
        "AmEx ⟦card:3782 822463 10005⟧.",
        "AmEx ⟦card:371449635398431⟧!",
        "Discover ⟦card:6011111111111117⟧",
        "JCB ⟦card:3530111333300000⟧",
        "Visa ⟦card:4012888888881881⟧, MC ⟦card:5105105105105100⟧",
        "2-series ⟦card:2223003122003222⟧",
        "IBAN ⟦iban:DE89 3704 0044 0532 0130 00⟧ of the shop",
        "IBAN ⟦iban:DE89370400440532013000⟧ of the shop",
        "IBAN ⟦iban:GB82 WEST 1234 5698 7654 32⟧ THE BANK",
        "IBAN ⟦iban:FR1420041010050500013M02606⟧",
        "IBAN ⟦iban:NL91ABNA0417164300⟧.",
        "IBAN ⟦iban:NO9386011117947⟧",
        "IBAN ⟦iban:CH9300762011623852957⟧",
        "IBAN ⟦iban:MT84MALT011000012345MTLCAST001S⟧",
        "key ⟦key:sk-abcdefghijklmnopqrstuvwx⟧",
        "OPENAI_API_KEY=⟦key:sk-proj-abc_DEF-0123456789abcdef⟧",
        "token ⟦key:ghp_abcdefghijklmnopqrstuvwxyz0123456789⟧ leaked",
        "aws ⟦key:AKIAIOSFODNN7EXAMPLE⟧ leaked",
        "maps ⟦key:AIzaSyA-0123456789abcdefghijklmnopqrstu⟧ leaked",
        "slack ⟦key:xoxb-123456789012-abcdefABCDEF⟧ leaked",
        "hub ⟦key:hf_abcdefghijklmnopqrstuvwxyzABCDEFGH⟧ leaked",
        "stripe ⟦key:sk_live_abcdefghijklmnop1234⟧ leaked",
        f"Bearer ⟦key:{_JWT}⟧ leaked",
        f"Here it is:\n⟦key:{_PEM}⟧\nKeep it.",
        "Ask Zoë: ⟦email:zoe@example.com⟧, 電話 ⟦phone:+81 3-1234-5678⟧。",
        "é⟦email:alice@example.com⟧",
    )
]

WITHOUT = [
    "The meeting is on 05-12-2024 at 10:30.",
    "Between 1000-2000 people came, 3 456 789 in all.",
    "Version 3.11.4, build 20241012.1",
    "Order 1234 5678 9012 3456 was sent.",
    "Order 4111 1111 1111 1112 was sent.",
    "GB82 WEST 1234 5698 7654 33 is wrong.",
    "HELLO WORLD THIS IS LOUD 5 TIMES",
    "ISBN 978-3-16-148410-0",
    "pi is 3.14159265358979323846",
    "An @mention and a @handle, user@localhost",
    "at 192.168.100.200 or 10.0.0.1:8080",
    "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "uuid 550e8400-e29b-41d4-a716-446655440000",
    "sk-short, ghp_short, AKIA, eyJ",
    "The task-force risk-averse desk-bound people",
    "x = a@b + c  # matrix product",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    "2024-10-12T10:30:00+02:00",
    "1,234,567.89 EUR and 1.234.567,89 EUR",
    "42 + 17 = 59; 6*7=42; +5 points",
    "Room 0815, seat 12-14",
    "1600 Pennsylvania Avenue NW, 20500",
    "The year 2000 and 2001-2002",
    "int x = 0xDEADBEEF;",
    "GET /v1/models HTTP/1.1",
    "electron mass 9.1093837015e-31 kg",
    "\n\n  \t indented text\r\n",
    "日本語の文章です。数字は一二三。",
    "",
]
