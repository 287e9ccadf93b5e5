"""Drills of alerts in virtual time: load on emulated engines, what is told of it, and what follows from that."""
