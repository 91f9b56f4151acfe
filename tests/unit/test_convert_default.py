"""What a site's own default becomes where the type of its column changes."""

from __future__ import annotations

import pytest
from scannerdb.connection import text_of
from scannerdb.contract.retypable import BOOLEAN, TIMESTAMP, TIMESTAMPTZ
from scannerdb.fixes.convert_default import default_kept


@pytest.mark.parametrize(
    ("expression", "have", "want", "kept"),
    [
        ("0", "integer", BOOLEAN, "false"),
        ("'1'::smallint", "smallint", BOOLEAN, "true"),
        ("(now())::text", "text", TIMESTAMPTZ, "now()"),
        ("CURRENT_TIMESTAMP", TIMESTAMP, TIMESTAMPTZ, "now()"),
        ("timezone('utc'::text, now())", TIMESTAMP, TIMESTAMPTZ, "now()"),
        ("(timezone('UTC'::text, now()))::text", "text", TIMESTAMPTZ, "now()"),
    ],
)
def test_what_is_known_stays(expression: str, have: str, want: str, kept: str) -> None:
    found = default_kept(expression, have, want, "Etc/UTC")
    assert found is not None and text_of(found) == kept


@pytest.mark.parametrize("expression", [None, "NULL::text", "NULL::character varying"])
def test_none_stays_none(expression: str | None) -> None:
    assert default_kept(expression, "text", TIMESTAMPTZ, "Etc/UTC") is None


@pytest.mark.parametrize(
    ("expression", "have", "want"),
    [
        ("'2020-01-01'::text", "text", TIMESTAMPTZ),
        ("2", "integer", BOOLEAN),
        ("to_char(now(), 'YYYY-MM-DD'::text)", "text", TIMESTAMPTZ),
        ("timezone('Asia/Tokyo'::text, now())", TIMESTAMP, TIMESTAMPTZ),
    ],
)
def test_what_is_not_known_is_not_guessed(expression: str, have: str, want: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        default_kept(expression, have, want, "Europe/Berlin")
