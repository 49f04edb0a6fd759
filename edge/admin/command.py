"""Orders to doors: signed, sent, and what each door answered."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import msgspec
from securesystemslib.signer import Signer

from edge.admin.conversation import Conversation, Heard
from edge.admin.model import Door, Ordered
from edge.admin.records import Records
from edge.admin.reports import door_of, key_of, read_reports
from edge.errors import AdminError, PayloadError
from edge.link import dsse, orders, wire
from edge.link.orders import Do, Order, Reply
from edge.log_view import printable

VALID_S = 20.0  # of the 30 that a door allows: the clocks may differ by 10 s forward, 20 s back
ANSWER_S = 5.0
MAX_FREE_S = 24 * 3600.0  # a door ends free access then at the latest

Outcome: TypeAlias = Literal["done", "refused", "restarted", "no answer", "no report"]


class Answer(msgspec.Struct, frozen=True):
    """What became of an order at one door."""

    door: str
    outcome: Outcome
    detail: str = ""
    took_ms: float | None = None  # from sending to the answer
    forged: int = 0  # answers that the door did not sign


def send(
    talk: Conversation,
    records: Records,
    signer: Signer,
    doors: Sequence[str],
    do: Do,
    now_utc: Callable[[], datetime],
    until: datetime | None = None,
    answer_s: float = ANSWER_S,
) -> list[Answer]:
    """Order doors to do something, and wait for what they answer.

    Args:
        talk: a connection to the broker.
        records: of the site; the key's counter is stored there before anything is sent.
        signer: a key of `commands/keys`.
        doors: ids; to each one the order is the same.
        do: what.
        now_utc: aware; the doors compare their clocks with it.
        until: the end of free-access, aware.
        answer_s: how long to wait for all answers together.

    Raises:
        AdminError: an unknown or retired door, or an end that no door would take.
        LinkError: the broker; what was sent may have been obeyed.
    """
    keyid = signer.public_key.keyid

    def next_counter(now: datetime) -> int:
        """Above all that the key had, also when this clock was set back."""
        last = records.get(Ordered, keyid)
        counter = max(int(now.timestamp() * 1000), last.counter + 1 if last else 1)
        records.put(keyid, Ordered(keyid, counter, wire.rfc3339(now.timestamp())))
        return counter

    site, known = records.site().site, _known(records, doors)
    return send_to(talk, site, known, signer, do, now_utc, next_counter, until, answer_s)


def send_to(
    talk: Conversation,
    site: str,
    known: Mapping[str, Door],
    signer: Signer,
    do: Do,
    now_utc: Callable[[], datetime],
    next_counter: Callable[[datetime], int],
    until: datetime | None = None,
    answer_s: float = ANSWER_S,
) -> list[Answer]:
    """The same without a site's records.

    Args:
        talk: a connection to the broker.
        site: its id.
        known: the doors to order, by id.
        signer: a key of `commands/keys`.
        do: what.
        now_utc: aware.
        next_counter: gives a number above all before, and has stored it when it returns.
        until: the end of free-access, aware.
        answer_s: how long to wait for all answers together.

    Raises:
        AdminError: an end that no door would take.
        LinkError: the broker; what was sent may have been obeyed.
    """
    _check_end(do, until, now_utc())
    reports = read_reports(talk, site, known).genuine
    epochs = {door: reports[door].epoch for door in known if door in reports}
    answers = {door: _unreported(door) for door in known if door not in epochs}
    if epochs:
        talk.subscribe(f"doord/{site}/door/+/reply")
    for named in _batches(epochs):
        order = _order(site, named, next_counter, do, until, now_utc())
        answers |= _Asking(talk, order, signer, known).answers(answer_s)
    return [answers[door] for door in known]


def table(answers: Sequence[Answer]) -> list[str]:
    """A line for each door."""
    width = max((len(answer.door) for answer in answers), default=0)
    return [printable(_line(answer, width)) for answer in answers]


def _line(answer: Answer, width: int) -> str:
    took = f"{answer.took_ms:.0f} ms" if answer.took_ms is not None else ""
    forged = f"{answer.forged} forged answers" if answer.forged else ""
    said = ", ".join(part for part in (took, answer.detail, forged) if part)
    return f"{answer.door:{width}}  {answer.outcome:9}  {said}".rstrip()


def _known(records: Records, doors: Sequence[str]) -> dict[str, Door]:
    there = records.all(Door)
    for door in doors:
        if door not in there:
            raise AdminError(f"door {door!r}: expected one of this site, got none of that id")
        if there[door].retired_at_utc is not None:
            raise AdminError(f"door {door}: expected one in use, got one that was retired")
    return {door: there[door] for door in doors}


def _check_end(do: Do, until: datetime | None, now: datetime) -> None:
    if until is None:
        return
    if not timedelta() < until - now <= timedelta(seconds=MAX_FREE_S):
        at = wire.rfc3339(until.timestamp())
        raise AdminError(f"{do}: expected an end within {MAX_FREE_S / 3600:g} h from now, got {at}")


def _unreported(door: str) -> Answer:
    return Answer(door, "no report", "nothing was sent: without its signed report its epoch is not known")


def _batches(epochs: Mapping[str, str]) -> Iterator[dict[str, str]]:
    names = list(epochs)
    for start in range(0, len(names), orders.MAX_DOORS):
        yield {door: epochs[door] for door in names[start : start + orders.MAX_DOORS]}


def _order(
    site: str,
    named: dict[str, str],
    next_counter: Callable[[datetime], int],
    do: Do,
    until: datetime | None,
    now: datetime,
) -> Order:
    """What no door would read takes no counter."""
    expires_at = wire.rfc3339((now + timedelta(seconds=VALID_S)).timestamp())
    order = Order(site, named, 1, expires_at, do, wire.rfc3339(until.timestamp()) if until else None)
    orders.encode(order)
    return msgspec.structs.replace(order, counter=next_counter(now))


class _Asking:
    """One order, and the answers to it as they come in."""

    def __init__(self, talk: Conversation, order: Order, signer: Signer, doors: Mapping[str, Door]) -> None:
        self._talk = talk
        self._order = order
        self._keyid = signer.public_key.keyid
        self._doors = doors
        self._data = dsse.sign(orders.encode(order), orders.COMMAND_TYPE, signer)
        self._sent_at: dict[str, float] = {}  # s, monotonic
        self._forged: dict[str, int] = dict.fromkeys(order.doors, 0)
        self._replies: dict[str, tuple[Reply, float]] = {}

    def answers(self, answer_s: float) -> dict[str, Answer]:
        """Send it, and wait until all have answered or `answer_s` are over. Raises LinkError."""
        correlation = secrets.token_bytes(16)
        for door in self._order.doors:
            topics = wire.Topics(self._order.site, door)
            self._sent_at[door] = time.monotonic()
            self._talk.say(topics.command, self._data, correlation, answer_on=topics.reply)
        until = time.monotonic() + answer_s
        while len(self._replies) < len(self._order.doors) and (heard := self._talk.hear(until)):
            self._take(heard, time.monotonic())
        return {door: self._answer(door) for door in self._order.doors}

    def _take(self, heard: Heard, at: float) -> None:
        """What the door signed for this order counts, whatever else a broker delivers."""
        door = door_of(heard.topic)
        if door not in self._order.doors or not heard.topic.endswith("/reply"):
            return
        try:
            payload, _ = dsse.opened(
                heard.payload, orders.REPLY_TYPE, key_of(self._doors[door]), orders.MAX_REPORT_BYTES
            )
            reply = orders.decode_reply(payload)
        except PayloadError:
            self._forged[door] += 1
            return
        this = (self._order.site, door, self._keyid, self._order.counter)
        if (reply.site, reply.door, reply.keyid, reply.counter) == this:
            self._replies.setdefault(door, (reply, at))

    def _answer(self, door: str) -> Answer:
        if door not in self._replies:
            return Answer(door, "no answer", forged=self._forged[door])
        reply, at = self._replies[door]
        took_ms = round((at - self._sent_at[door]) * 1000, 1)
        return Answer(door, self._outcome(reply), reply.detail, took_ms, self._forged[door])

    def _outcome(self, reply: Reply) -> Outcome:
        if reply.epoch != self._order.doors[reply.door]:
            return "restarted"  # it has not obeyed since; whether it had before, nobody can say
        return "done" if reply.done else "refused"
