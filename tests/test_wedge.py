"""A reader that types: digits and Enter, in the kernel's key codes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.door.wedge import MAX_KEYS, Typed, Typing
from edge.door.wiegand import Refused

CODES = dict(zip("1234567890", range(2, 12), strict=True)) | {"A": 30, "F": 33, "\n": 28, "Z": 44}
EV_SYN, EV_KEY, EV_MSC = 0, 1, 4


def type_(text: str, start: float = 0.0, apart: float = 0.005, typing: Typing | None = None):
    """Press and release each key; everything completed."""
    typing, done = typing or Typing(), []
    for i, char in enumerate(text):
        at = start + i * apart
        for kind, code, value in (
            (EV_MSC, 4, 0x7001E),
            (EV_KEY, CODES[char], 1),
            (EV_SYN, 0, 0),
            (EV_KEY, CODES[char], 2),
            (EV_KEY, CODES[char], 0),
        ):
            typing, completed = typing.key(at, kind, code, value)
            done += [completed] if completed else []
    return typing, done


def test_digits_and_enter_are_a_card():
    assert type_("0012345678\n")[1] == [Typed("0012345678")]
    assert type_("0A1F\n0012\n")[1] == [Typed("0A1F"), Typed("0012")]


def test_the_keypads_keys_are_the_same_digits():
    typing, done = Typing(), None
    for code in (79, 80, 81, 75, 76, 77, 71, 72, 73, 82, 96):
        typing, done = typing.key(0.0, EV_KEY, code, 1)
    assert done == Typed("1234567890")


def test_shift_before_a_letter_is_no_key():
    typing, _ = Typing().key(0.0, EV_KEY, 42, 1)
    typing, _ = typing.key(0.0, EV_KEY, 30, 1)
    assert typing.key(0.0, EV_KEY, 28, 1)[1] == Typed("A")


def test_enter_alone_is_nothing():
    assert type_("\n\n")[1] == []


def test_a_number_without_enter_is_refused_when_the_next_begins():
    typing, done = type_("00123")
    assert done == []
    typing, done = type_("0099\n", start=3.0, typing=typing)
    assert done == [Refused("expected Enter after a number, got a pause"), Typed("0099")]


def test_an_enter_that_comes_late_is_no_end_of_a_number():
    typing, _ = type_("00123")
    assert typing.key(3.0, EV_KEY, 28, 1) == (
        Typing(),
        Refused("expected Enter after a number, got a pause"),
    )


def test_another_key_spoils_the_number():
    typing, _ = type_("12")
    typing, _ = typing.key(0.02, EV_KEY, 57, 1)  # space
    _, done = type_("34\n", start=0.03, typing=typing)
    assert done == [Refused("expected 0-9 and A-Z, got key 57")]


def test_a_number_that_is_too_long_is_refused_and_not_kept():
    typing, done = type_("1" * 1000 + "\n", apart=0.0001)
    assert done == [Refused(f"expected at most {MAX_KEYS} keys")]
    assert typing == Typing()


@given(
    st.lists(
        st.tuples(st.floats(allow_nan=True), st.integers(0, 5), st.integers(0, 767), st.integers(0, 2)),
        max_size=100,
    )
)
def test_whatever_is_typed_is_short_digits_and_letters_or_refused(events):
    typing = Typing()
    for event in events:
        typing, done = typing.key(*event)
        if isinstance(done, Typed):
            assert 0 < len(done.text) <= MAX_KEYS
            assert done.text.isascii()
            assert done.text.isalnum()
