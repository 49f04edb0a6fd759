"""The gallery report: what would be published is looked at before it is, and who accepts what it finds.

An acceptance holds until it gets worse: two people may not come nearer than they were, and the
expected FPIR may not grow by more than a tenth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from edge.admin import checks
from edge.admin.checks import Disagreement, Likenesses, Lookalike, Risk, Span
from edge.admin.model import Accepted, Checked, Door, Likeness, Person, Site
from edge.admin.people import past_retention, population_of
from edge.admin.records import Records
from edge.values import DISTANCE_CEILING

FPIR = "fpir"  # the id of its acceptance; a pair's is `one+other`
FPIR_GROWTH = 1.1
_NEARER = 0.005  # L2; float16 and rounding move a distance by less


@dataclass(frozen=True, slots=True)
class GalleryReport:
    """What an admin should know before a push."""

    people: int  # with at least one template
    templates: int
    lookalikes: tuple[Lookalike, ...]  # all pairs nearer than the threshold that are known
    lookalikes_count: int  # also those too many to be listed
    unresolved: tuple[Lookalike, ...]  # of them nobody has accepted
    closest: tuple[Lookalike, ...]  # of what was compared now
    compared: int  # people who were compared with all others now
    disagreeing: tuple[Disagreement, ...]  # of these people, whose own templates disagree
    risk: Risk
    max_fpir: float
    face_only_doors: tuple[str, ...]
    fpir_refused: bool  # above max_fpir, with doors that open by a face alone, and nobody accepted it
    without_template: tuple[str, ...]
    without_consent: tuple[str, ...]
    past_retention: tuple[str, ...]

    @property
    def refusals(self) -> list[str]:
        """Why it may not be published unless somebody accepts it."""
        found = [pair.words for pair in self.unresolved]
        more = self.lookalikes_count - len(self.lookalikes)
        if more > 0:
            found.append(f"and {more} pairs more that look alike")
        if self.fpir_refused:
            found.append(
                f"expected FPIR {self.risk.fpir.high:.1e} of {self.templates} templates is above max_fpir "
                f"{self.max_fpir:.1e}, and {len(self.face_only_doors)} doors open by a face alone: "
                "use card + face, or fewer templates"
            )
        return found


def examine(
    records: Records, fmr: Span, now_local: str, full: bool = False, limit: float = DISTANCE_CEILING
) -> tuple[GalleryReport, Checked]:
    """Compare who has changed since `Checked` (all, when `full`) with everybody; the report, and what
    is to be kept of it.

    Raises:
        AdminError, GalleryError: a record that can't be read.
    """
    site, people = records.site(), records.all(Person)
    population = population_of(site, people.values())
    before = records.get(Checked, site.site)
    known = None if full or before is None or not _useful(before, site) else before
    revisions = records.revisions(Person)
    changed = {s for s, revision in revisions.items() if known is None or known.revisions.get(s) != revision}
    found = checks.likenesses(population, changed, limit)
    kept = _still(known, changed, revisions)
    checked = _merged(site, revisions, kept, found)
    accepted, doors = records.all(Accepted), records.all(Door).values()
    pairs = tuple(Lookalike(one.one, one.other, one.distance) for one in checked.pairs)
    enrolled = frozenset(population.subjects)
    face_only = tuple(one.door for one in doors if one.face_only and one.retired_at_utc is None)
    risk = checks.risk(fmr, len(population.subjects), len(population.vectors), site.tries_per_person_per_day)
    report = GalleryReport(
        people=len(population.subjects),
        templates=len(population.vectors),
        lookalikes=pairs,
        lookalikes_count=checked.count,
        unresolved=tuple(pair for pair in pairs if not _is_accepted(pair, accepted)),
        closest=found.closest,
        compared=len(changed),
        disagreeing=checks.disagreements(population, changed),
        risk=risk,
        max_fpir=site.max_fpir,
        face_only_doors=face_only,
        fpir_refused=bool(face_only) and _fpir_refused(risk, site, accepted),
        without_template=tuple(s for s in people if s not in enrolled),
        without_consent=tuple(s for s, one in people.items() if not one.consent),
        past_retention=tuple(one.subject for one in past_retention(people.values(), now_local)),
    )
    return report, checked


def _useful(checked: Checked, site: Site) -> bool:
    """Whether it is of these models, and lists every pair: of others nobody can tell who has changed."""
    return checked.model == site.model and checked.count == len(checked.pairs)


def _still(known: Checked | None, changed: set[str], there: Mapping[str, int]) -> list[Likeness]:
    """Pairs that were found before, of whom neither has changed or gone."""
    same = there.keys() - changed
    return [] if known is None else [one for one in known.pairs if {one.one, one.other} <= same]


def _merged(site: Site, revisions: dict[str, int], kept: Sequence[Likeness], found: Likenesses) -> Checked:
    new = [Likeness(one.one, one.other, one.distance) for one in found.pairs]
    pairs = sorted([*kept, *new], key=lambda one: one.distance)[: checks.MOST_PAIRS]
    return Checked(site.model, revisions, pairs, len(kept) + found.count)


def _is_accepted(pair: Lookalike, accepted: Mapping[str, Accepted]) -> bool:
    found = accepted.get(pair_id(pair))
    return found is not None and pair.distance >= found.limit - _NEARER


def _fpir_refused(risk: Risk, site: Site, accepted: Mapping[str, Accepted]) -> bool:
    found = accepted.get(FPIR)
    limit = site.max_fpir if found is None else max(site.max_fpir, found.limit * FPIR_GROWTH)
    return not risk.fpir.high <= limit


def pair_id(pair: Lookalike) -> str:
    """Under which its acceptance is kept; no id has a + in it."""
    return f"{pair.one}+{pair.other}"


def acceptances(report: GalleryReport, name: str, now_utc: str) -> dict[str, Accepted]:
    """What `name` accepts by accepting this report, by id."""
    found = {pair_id(pair): Accepted(pair.distance, name, now_utc) for pair in report.unresolved}
    if report.fpir_refused:
        found[FPIR] = Accepted(report.risk.fpir.high, name, now_utc)
    return found


def accepted_by(records: Records, report: GalleryReport) -> str:
    """Who accepted before what doors must be told of; empty: there is nothing they would refuse."""
    found = records.get(Accepted, FPIR)
    needed = report.face_only_doors and not report.risk.fpir.high <= report.max_fpir
    return found.by if found is not None and needed else ""


def keep(records: Records, checked: Checked, accepted: Mapping[str, Accepted]) -> None:
    """Remember what was compared, and what somebody accepted."""
    with records.transaction():
        records.put(records.site().site, checked)
        for id_, one in accepted.items():
            records.put(id_, one)


def lines(report: GalleryReport) -> list[str]:
    """The report in words."""
    risk = report.risk
    year = risk.false_accepts_per_year
    found = [
        f"{report.people} people with {report.templates} templates; {report.compared} compared with all now",
        f"FMR of one comparison {_span(risk.fmr)}",
        f"expected FPIR of one search {_span(risk.fpir)}, judged by the higher end against "
        f"{report.max_fpir:.1e}",
        f"false accepts a year, if nobody who tries were enrolled: {year.likely:.2g} "
        f"[{year.low:.2g} .. {year.high:.2g}]",
        f"doors that open by a face alone: {', '.join(report.face_only_doors) or 'none'}",
    ]
    found += [f"closest: {p.one} and {p.other}, {p.distance:.2f}" for p in report.closest]
    known = len(report.lookalikes) - len(report.unresolved)
    found += [f"{known} lookalikes were accepted before"] if known else []
    found += [f"{one.subject}: own templates disagree, {one.distance:.2f}" for one in report.disagreeing]
    for words, subjects in (
        ("without a template", report.without_template),
        ("without a consent reference", report.without_consent),
        ("past their retention date", report.past_retention),
    ):
        if subjects:
            more = f" and {len(subjects) - 20} more" if len(subjects) > 20 else ""
            found.append(f"{words}: {', '.join(subjects[:20])}{more}")
    return found


def _span(span: Span) -> str:
    return f"{span.likely:.1e} [{span.low:.1e} .. {span.high:.1e}]"


def to_json(report: GalleryReport) -> bytes:
    """The report, for machines."""
    return msgspec.json.encode({**msgspec.to_builtins(report), "refusals": report.refusals})
