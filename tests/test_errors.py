"""Messages for users: secrets are masked, however long the text."""

from __future__ import annotations

import time

import pytest

from dia_repro.errors import displayed_text, reason_of


@pytest.mark.parametrize(
    "text",
    [
        "A" * 200_000,
        "a:/" * 60_000,
        "s3://" * 20_000 + "@:",
        "s3://b:" * 20_000,
        "s3://b:@h" + "?pass" * 40_000,
        "s3://b:@h" + "?" * 200_000,
        "s3://b:@h" + "&pass;" * 40_000,
    ],
    ids=lambda text: text[:15],
)
def test_long_texts_are_shown_at_once(text: str) -> None:
    begun = time.process_time()
    displayed_text(f"no {text} here")
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no x://a:cret@h/d nor\ny://b:cret@h", "no x://a:***@h/d nor\ny://b:***@h"),
        ("at --db=x://a:c:r@e@t@h/d?a=b", "at --db=x://a:***@h/d?a=b"),
        ("x://h:y@z:w/d?a=1;my?token=cret;b&c=2", "x://h:***@z:w/d?a=1;my?token=***&c=2"),
        ("x://h:y@z:w/d?a=?pass=cret", "x://h:***@z:w/d?a=?pass=***"),
        ("://b:cret@h?keyword=1&key=cret", "://b:***@h?keyword=1&key=***"),
        ("://b:cret@h/pass=1", "://b:***@h/pass=1"),
    ],
)
def test_secrets_in_a_text_are_masked(text: str, shown: str) -> None:
    assert displayed_text(text) == shown


def test_a_reason_is_one_line_with_more_than_a_heading() -> None:
    error = RuntimeError("Error(s) in loading state_dict for Network:\n\tsize mismatch for a.b")
    assert reason_of(error) == (
        "RuntimeError: Error(s) in loading state_dict for Network: size mismatch for a.b"
    )
    assert len(reason_of(ValueError("word " * 1000))) <= 300
