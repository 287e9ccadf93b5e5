"""Why a flag is Fleetune's and no user's, in the words that several kinds of engine share."""

from __future__ import annotations

HALF_AN_ENGINE = "half an engine cannot be measured alone"
HTTP_ONLY = "Fleetune speaks to engines over HTTP"
UNDER_THE_ROOT = "Fleetune asks an engine under /"
