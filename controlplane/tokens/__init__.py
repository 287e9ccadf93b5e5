"""Tokens of trusted issuers: their keys, and whom a token speaks for. The one door to PyJWT.

Used by the gateway and by the API. What claims mean is said in `domain.door.issuer`; nothing here knows HTTP servers.
"""
