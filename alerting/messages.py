"""What an alert says, in English and in Urdu, so that a tired person cannot misread it.

Belongs here: words. Footage that is old, or may be, says so before anything else; every count, place and
capture time carries its uncertainty, and every message says that no person has looked yet. Not here: how
urgent an event is (``policy.py``) and how the words travel (the channels).

Urdu runs right to left while numbers, coordinates and Latin names run left to right. Each such run is
wrapped in a Unicode directional isolate (UAX #9, section 2.4) and each line starts with a right-to-left
mark, so that no viewer reorders "10 to 16" into "16 to 10".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from outwatch.domain.ports import Message
from outwatch.domain.types import Alert, Event, EventKind, Outpost, OutpostKind, Priority

Language = Literal["en", "ur"]
Verdict = Literal["live", "old", "perhaps old", "ahead"]

CLOCK_SLACK = timedelta(minutes=5)
"""A capture time this far ahead of ours is drift between clocks; further ahead, a clock is wrong."""
UNSURE_AFTER = timedelta(minutes=5)
"""A capture time less certain than this is said to be so. It parts the clocks there are: telemetry is good
to seconds, which change nothing for a control room; a file's own times are off by a time zone or a day."""
LATE_AFTER = timedelta(minutes=5)
"""An alert that leaves later than this after it was raised says so: its words are about an older now."""
AT_PLACE_M = 1.0
"""Nearer than this there is no direction to speak of: the event is on the outpost itself."""
KILOMETRE_M = 1000.0
DISTANCE_STEP_M = 5
"""Distances are rounded to this: no fix from the air is better."""

_RLM, _LRI, _FSI, _PDI = "\u200f", "\u2066", "\u2068", "\u2069"
_NO_BIDI = dict.fromkeys(map(ord, "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"))

_COMPASS = {
    "en": ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"),
    "ur": ("شمال", "شمال مشرق", "مشرق", "جنوب مشرق", "جنوب", "جنوب مغرب", "مغرب", "شمال مغرب"),
}
# fmt: off
_MONTHS = {
    "en": ("January", "February", "March", "April", "May", "June",
           "July", "August", "September", "October", "November", "December"),
    "ur": ("جنوری", "فروری", "مارچ", "اپریل", "مئی", "جون",
           "جولائی", "اگست", "ستمبر", "اکتوبر", "نومبر", "دسمبر"),
}
# fmt: on
_PLACES = {
    "en": {
        OutpostKind.POLICE_OUTPOST: "police outpost",
        OutpostKind.SCHOOL: "school",
        OutpostKind.GOVERNMENT_BUILDING: "government building",
        OutpostKind.CHECKPOINT: "checkpoint",
    },
    "ur": {
        OutpostKind.POLICE_OUTPOST: "پولیس چوکی",
        OutpostKind.SCHOOL: "سکول",
        OutpostKind.GOVERNMENT_BUILDING: "سرکاری عمارت",
        OutpostKind.CHECKPOINT: "چیک پوسٹ",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Age:
    """How old an event is when it is told, and how sure that is.

    Raises:
        ValueError: the uncertainty is negative.
    """

    since: timedelta
    """From its last moment; negative where that lies in the future."""
    uncertainty: timedelta
    """How far off the capture time may be, either way."""
    live_within: timedelta
    """What is older is old."""

    def __post_init__(self) -> None:
        if self.uncertainty < timedelta(0):
            raise ValueError(f"a clock's uncertainty must not be negative, found {self.uncertainty}")

    @property
    def verdict(self) -> Verdict:
        """Return how the event may be spoken of.

        It is live only if it is young enough even where its clock is wrong by as much as it may be. A
        capture time in the future is "ahead": a clock is wrong and the age is unknown.
        """
        if self.since < -CLOCK_SLACK:
            return "ahead"
        if self.since + self.uncertainty <= self.live_within:
            return "live"
        may_be_young = self.since - self.uncertainty <= self.live_within
        return "perhaps old" if self.is_unsure and may_be_young else "old"

    @property
    def is_unsure(self) -> bool:
        """Return whether the doubt in the capture time is worth a word."""
        return self.uncertainty > UNSURE_AFTER


class _Noun(NamedTuple):
    one: str
    many: str

    def of(self, count: int) -> str:
        """Return the form that goes with ``count``."""
        return self.one if count == 1 else self.many


_OF_PEOPLE = (
    EventKind.GATHERING_NEAR_OUTPOST,
    EventKind.GATHERING_GROWING,
    EventKind.GATHERING_DISPERSING,
    EventKind.LOITERING,
)
_OF_VEHICLES = (
    EventKind.VEHICLE_NEAR_OUTPOST,
    EventKind.STOPPED_VEHICLE,
    EventKind.APPROACH,
    EventKind.CONVOY,
)
_MINUTE = {"en": _Noun("minute", "minutes"), "ur": _Noun("منٹ", "منٹ")}
_HOUR = {"en": _Noun("hour", "hours"), "ur": _Noun("گھنٹہ", "گھنٹے")}
_DAY = {"en": _Noun("day", "days"), "ur": _Noun("دن", "دن")}
_MOMENT = {"en": "less than a minute", "ur": "ایک منٹ سے کم"}
_THINGS = {
    "en": {
        **dict.fromkeys(_OF_PEOPLE, _Noun("person", "people")),
        **dict.fromkeys(_OF_VEHICLES, _Noun("vehicle", "vehicles")),
        EventKind.NIGHT_ACTIVITY: _Noun("person or vehicle", "people or vehicles"),
        EventKind.SENSOR_TRIP: _Noun("sensor", "sensors"),
    },
    "ur": {
        **dict.fromkeys(_OF_PEOPLE, _Noun("شخص", "افراد")),
        **dict.fromkeys(_OF_VEHICLES, _Noun("گاڑی", "گاڑیاں")),
        EventKind.NIGHT_ACTIVITY: _Noun("شخص یا گاڑی", "افراد یا گاڑیاں"),
        EventKind.SENSOR_TRIP: _Noun("سینسر", "سینسر"),
    },
}
_SEEN = {
    "en": {
        EventKind.GATHERING_NEAR_OUTPOST: _Noun("Gathering of {}", "Gathering of {}"),
        EventKind.GATHERING_GROWING: _Noun("Growing gathering of {}", "Growing gathering of {}"),
        EventKind.GATHERING_DISPERSING: _Noun("Dispersing gathering of {}", "Dispersing gathering of {}"),
        EventKind.VEHICLE_NEAR_OUTPOST: _Noun("{}", "{}"),
        EventKind.STOPPED_VEHICLE: _Noun("{} drove up and stopped", "{} drove up and stopped"),
        EventKind.APPROACH: _Noun("{} approaching", "{} approaching"),
        EventKind.CONVOY: _Noun("Convoy of {}", "Convoy of {}"),
        EventKind.LOITERING: _Noun("{} loitering", "{} loitering"),
        EventKind.NIGHT_ACTIVITY: _Noun("Activity at night, {},", "Activity at night, {},"),
    },
    "ur": {
        EventKind.GATHERING_NEAR_OUTPOST: _Noun("{} کا اجتماع دیکھا گیا", "{} کا اجتماع دیکھا گیا"),
        EventKind.GATHERING_GROWING: _Noun(
            "{} کا بڑھتا ہوا اجتماع دیکھا گیا", "{} کا بڑھتا ہوا اجتماع دیکھا گیا"
        ),
        EventKind.GATHERING_DISPERSING: _Noun(
            "{} کا منتشر ہوتا اجتماع دیکھا گیا", "{} کا منتشر ہوتا اجتماع دیکھا گیا"
        ),
        EventKind.VEHICLE_NEAR_OUTPOST: _Noun("{} دیکھی گئی", "{} دیکھی گئیں"),
        EventKind.STOPPED_VEHICLE: _Noun("{} آ کر رکتی دیکھی گئی", "{} آ کر رکتی دیکھی گئیں"),
        EventKind.APPROACH: _Noun("{} اس طرف آتی دیکھی گئی", "{} اس طرف آتی دیکھی گئیں"),
        EventKind.CONVOY: _Noun("قافلے میں {} دیکھی گئی", "قافلے میں {} دیکھی گئیں"),
        EventKind.LOITERING: _Noun("{} دیر تک ٹھہرا دیکھا گیا", "{} دیر تک ٹھہرے دیکھے گئے"),
        EventKind.NIGHT_ACTIVITY: _Noun("رات کو {} نظر آئی", "رات کو {} نظر آئیں"),
    },
}
"""What is said of so many things, for one and for several."""
_CROWD_COMES = {"en": "{} approaching", "ur": "{} اس طرف آتے دیکھے گئے"}
_INNOCENT = {
    "en": {
        EventKind.GATHERING_NEAR_OUTPOST: "a funeral, a jirga or the school run",
        EventKind.GATHERING_GROWING: "a funeral, a jirga or the school run",
        EventKind.GATHERING_DISPERSING: "the end of prayer, of a funeral or of school",
        EventKind.VEHICLE_NEAR_OUTPOST: "a resident, a delivery or a patrol",
        EventKind.STOPPED_VEHICLE: "a resident, a delivery or a breakdown",
        EventKind.APPROACH: "a resident, a visitor or a patrol",
        EventKind.CONVOY: "a wedding, traders or a patrol",
        EventKind.LOITERING: "a guard, a shepherd or somebody who waits",
        EventKind.NIGHT_ACTIVITY: "a caretaker, a resident or a late delivery",
        EventKind.SENSOR_TRIP: "an animal, the wind or a resident",
    },
    "ur": {
        EventKind.GATHERING_NEAR_OUTPOST: "جنازہ، جرگہ یا سکول آتے جاتے بچے",
        EventKind.GATHERING_GROWING: "جنازہ، جرگہ یا سکول آتے جاتے بچے",
        EventKind.GATHERING_DISPERSING: "نماز، جنازے یا سکول کے بعد لوٹتے لوگ",
        EventKind.VEHICLE_NEAR_OUTPOST: "کوئی مقامی رہائشی، سامان کی ترسیل یا گشت کی گاڑی",
        EventKind.STOPPED_VEHICLE: "کوئی مقامی رہائشی، سامان کی ترسیل یا خراب گاڑی",
        EventKind.APPROACH: "کوئی مقامی رہائشی، ملاقاتی یا گشت کی گاڑی",
        EventKind.CONVOY: "بارات، تاجر یا گشت کی گاڑیاں",
        EventKind.LOITERING: "پہرے دار، چرواہا یا انتظار کرتا کوئی شخص",
        EventKind.NIGHT_ACTIVITY: "چوکیدار، کوئی مقامی رہائشی یا دیر سے آیا سامان",
        EventKind.SENSOR_TRIP: "کوئی جانور، ہوا یا کوئی مقامی رہائشی",
    },
}
MAX_SENSORS_NAMED = 6
"""More names than this no one reads; the event and its evidence have all."""


class _Source(NamedTuple):
    """What an event was told by: how it is called where it is old, and what its times come from."""

    old_en: str
    old_ur: str
    may_be_old_en: str
    may_be_old_ur: str
    time_en: str
    time_ur: str
    clock_en: str
    clock_ur: str
    taken_en: str
    taken_ur: str
    advice_en: str
    advice_ur: str


_FOOTAGE = _Source(
    old_en="OLD FOOTAGE: captured {age} ago.",
    old_ur="پرانی فوٹیج: {age} پہلے کی ریکارڈنگ۔",
    may_be_old_en="This may be old footage.",
    may_be_old_ur="یہ پرانی فوٹیج ہو سکتی ہے۔",
    time_en="capture time",
    time_ur="ریکارڈنگ کا وقت",
    clock_en="it comes from the file",
    clock_ur="یہ فائل سے لیا گیا ہے",
    taken_en="the footage captured",
    taken_ur="فوٹیج",
    advice_en="look at the still",
    advice_ur="تصویر دیکھیں",
)
_READINGS = _Source(
    old_en="OLD READINGS: measured {age} ago.",
    old_ur="پرانی ریڈنگ: {age} پہلے کی پیمائش۔",
    may_be_old_en="These may be old readings.",
    may_be_old_ur="یہ پرانی ریڈنگ ہو سکتی ہے۔",
    time_en="measured time",
    time_ur="پیمائش کا وقت",
    clock_en="it comes from the sensors, or from when their message arrived",
    clock_ur="یہ سینسر سے، یا پیغام پہنچنے کے وقت سے لیا گیا ہے",
    taken_en="the readings taken",
    taken_ur="ریڈنگ",
    advice_en="call the place or have someone look",
    advice_ur="اس مقام سے رابطہ کریں یا کسی کو دیکھنے بھیجیں",
)


def _source(kind: EventKind) -> _Source:
    return _READINGS if kind is EventKind.SENSOR_TRIP else _FOOTAGE


def age_in_words(age: timedelta, *, language: Language) -> str:
    """Return an age as "3 hours": whole minutes, then the nearest hour, then the nearest day.

    Raises:
        ValueError: the age is negative.
    """
    if age < timedelta(0):
        raise ValueError(f"an age must not be negative, found {age}")
    if age < timedelta(minutes=1):
        return _MOMENT[language]
    if age < timedelta(hours=1):
        count, unit = age // timedelta(minutes=1), _MINUTE
    elif age < timedelta(days=1):
        count, unit = (age + timedelta(minutes=30)) // timedelta(hours=1), _HOUR
    else:
        count, unit = (age + timedelta(hours=12)) // timedelta(days=1), _DAY
    return f"{_number(count, language)} {unit[language].of(count)}"


def compass_direction(bearing_deg: float, *, language: Language) -> str:
    """Return the nearest of eight directions to a bearing clockwise from north."""
    names = _COMPASS[language]
    return names[round(bearing_deg / (360 / len(names))) % len(names)]


def text_subject(event: Event, *, outpost: Outpost, priority: Priority, age: Age) -> str:
    """Return the one line a control room sees first; footage that is not surely live shows it there."""
    subject = f"[{priority}] {_what_en(event)} near {outpost.name}"
    if age.verdict == "old":
        taken = "measured" if event.kind is EventKind.SENSOR_TRIP else "captured"
        return f"{subject}, {taken} {age_in_words(age.since, language='en')} ago"
    time = _source(event.kind).time_en
    doubt = {"live": "", "perhaps old": f", {time} uncertain", "ahead": f", {time} unknown"}
    return subject + doubt[age.verdict]


def text_en(event: Event, *, outpost: Outpost, age: Age, zone: ZoneInfo) -> str:
    """Return the whole message in English, one fact a line."""
    lines = [
        *_warnings_en(age, source=_source(event.kind)),
        f"{_what_en(event)} near {outpost.name} ({_PLACES['en'][outpost.kind]}){_beside_en(event)}.",
        f"Where: {_where_en(event, outpost=outpost)}",
        f"When: {_when(event, zone=zone, language='en')}{_ago_en(age)}.",
        f"How sure: {_certainty_en(event, outpost=outpost)}",
        *_context_en(event),
        f"No person has checked this yet. It may be innocent: {_INNOCENT['en'][event.kind]}.",
        f"What to do: {_source(event.kind).advice_en}, then answer: confirmed or false.",
    ]
    return "\n".join(lines)


def text_ur(event: Event, *, outpost: Outpost, age: Age, zone: ZoneInfo) -> str:
    """Return the whole message in Urdu, line for line the English one."""
    place = f"{_auto(outpost.name_ur)} ({_PLACES['ur'][outpost.kind]})"
    lines = [
        *_warnings_ur(age, source=_source(event.kind)),
        f"{place} کے قریب {_what_ur(event)}{_beside_ur(event)}۔",
        f"جگہ: {_where_ur(event, outpost=outpost)}",
        f"وقت: {_when(event, zone=zone, language='ur')}{_ago_ur(age)}۔",
        f"یقین: {_certainty_ur(event, outpost=outpost)}",
        *_context_ur(event),
        f"ابھی تک کسی شخص نے اس کی جانچ نہیں کی۔ یہ بے ضرر بھی ہو سکتا ہے: {_INNOCENT['ur'][event.kind]}۔",
        f"کیا کریں: {_source(event.kind).advice_ur}، پھر جواب دیں: درست یا غلط۔",
    ]
    return "\n".join(_RLM + line for line in lines)


def write_message(alert: Alert, *, now: datetime, still_jpeg: bytes | None = None) -> Message:
    """Return what a channel sends for an alert, which says first where ``now`` is late for it."""
    subject, english, urdu = str(alert.payload["subject"]), alert.message_en, alert.message_ur
    delay = now - alert.raised_at
    if delay > LATE_AFTER:
        subject = f"[delayed {age_in_words(delay, language='en')}] {subject}"
        english = f"{_late_en(alert, at=now, delay=delay)}\n{english}"
        urdu = f"{_RLM}{_late_ur(alert, at=now, delay=delay)}\n{urdu}"
    return Message(
        alert_id=alert.id,
        priority=alert.priority,
        control_room=alert.control_room,
        subject=subject,
        text_en=english,
        text_ur=urdu,
        payload=alert.payload,
        still_jpeg=still_jpeg,
    )


def _late_en(alert: Alert, *, at: datetime, delay: timedelta) -> str:
    late = f"DELAYED: this alert was raised {age_in_words(delay, language='en')} ago"
    if not _age_is_known(alert):
        return f"{late}."
    taken = f"{_source(alert.kind).taken_en} {age_in_words(at - alert.captured_to, language='en')} ago"
    return f"{late}, {taken}."


def _late_ur(alert: Alert, *, at: datetime, delay: timedelta) -> str:
    late = f"تاخیر: یہ الرٹ {age_in_words(delay, language='ur')} پہلے جاری ہوا"
    if not _age_is_known(alert):
        return f"{late}۔"
    taken = f"{_source(alert.kind).taken_ur} {age_in_words(at - alert.captured_to, language='ur')} پہلے کی ہے"
    return f"{late}، {taken}۔"


def _age_is_known(alert: Alert) -> bool:
    # Alerts that an older version left undelivered do not say how sure their clock is.
    unsure = timedelta(seconds=alert.payload.get("clock_uncertainty_s", 0.0))
    return alert.captured_to <= alert.raised_at + CLOCK_SLACK and unsure <= UNSURE_AFTER


def _warnings_en(age: Age, *, source: _Source) -> list[str]:
    """Return what must be read first: a line where the event is not live, and one on its clock."""
    lines = []
    if age.verdict == "ahead":
        ahead = age_in_words(-age.since, language="en")
        lines.append(f"NOT LIVE? A clock is wrong: the {source.time_en} lies {ahead} in the future.")
    elif age.verdict == "old":
        old = source.old_en.format(age=age_in_words(age.since, language="en"))
        lines.append(f"{old} This is not live.")
    elif age.verdict == "perhaps old":
        lines.append(f"NOT LIVE? {source.may_be_old_en}")
    if age.is_unsure:
        bound = _bound_in_words(age.uncertainty, language="en")
        lines.append(f"{_capital(source.time_en)} uncertain by up to {bound}: {source.clock_en}.")
    return lines


def _warnings_ur(age: Age, *, source: _Source) -> list[str]:
    lines = []
    if age.verdict == "ahead":
        ahead = age_in_words(-age.since, language="ur")
        lines.append(f"شاید براہِ راست نہیں: کوئی گھڑی غلط ہے، {source.time_ur} {ahead} آگے کا ہے۔")
    elif age.verdict == "old":
        old = source.old_ur.format(age=age_in_words(age.since, language="ur"))
        lines.append(f"{old} یہ براہِ راست نہیں ہے۔")
    elif age.verdict == "perhaps old":
        lines.append(f"شاید براہِ راست نہیں: {source.may_be_old_ur}")
    if age.is_unsure:
        bound = _bound_in_words(age.uncertainty, language="ur")
        lines.append(f"{source.time_ur} یقینی نہیں، {bound} تک کا فرق ہو سکتا ہے: {source.clock_ur}۔")
    return lines


def _bound_in_words(bound: timedelta, *, language: Language) -> str:
    """Return a bound as "24 hours" or "10 minutes", rounded up: a bound must not shrink."""
    unit, step = _HOUR, timedelta(hours=1)
    if bound < step:
        unit, step = _MINUTE, timedelta(minutes=1)
    count = -(-bound // step)
    # Before "up to", Urdu's singular looks like its plural.
    word = unit["ur"].many if language == "ur" else unit["en"].of(count)
    return f"{_number(count, language)} {word}"


def _context_en(event: Event) -> list[str]:
    """Return what its place and hour say of an event; nothing where they say nothing."""
    lines = [f"Note: {'; '.join(event.notes)}."] if event.notes else []
    if event.lowered_by:
        levels = "one level" if event.lowered_by == 1 else f"{event.lowered_by} levels"
        lines.append(f"Priority: {levels} lower, as this is expected here at this hour.")
    return lines


def _context_ur(event: Event) -> list[str]:
    lines = [f"نوٹ: {_auto('; '.join(event.notes))}۔"] if event.notes else []
    if event.lowered_by:
        levels = f"{_ltr(str(event.lowered_by))} {'درجہ' if event.lowered_by == 1 else 'درجے'}"
        lines.append(f"ترجیح: {levels} کم، کیونکہ اس وقت یہاں یہ معمول ہے۔")
    return lines


def _is_crowd(event: Event) -> bool:
    """Return whether it is people who approach."""
    return event.kind is EventKind.APPROACH and event.measures.get("people", 0.0) > 0


def _noun(event: Event, language: Language) -> _Noun:
    kind = EventKind.GATHERING_NEAR_OUTPOST if _is_crowd(event) else event.kind
    return _THINGS[language][kind]


def _in_view(event: Event, language: Language) -> _Noun:
    """Return the noun for all that is in view: of an approach, people and vehicles."""
    mixed = event.kind is EventKind.APPROACH
    return _THINGS[language][EventKind.NIGHT_ACTIVITY] if mixed else _noun(event, language)


def _seen(event: Event, language: Language) -> str:
    """Return the form of words for what an event shows, with a gap for how many of what."""
    return _CROWD_COMES[language] if _is_crowd(event) else _SEEN[language][event.kind].of(event.count)


def _what_en(event: Event) -> str:
    noun = _noun(event, "en")
    if event.kind is EventKind.SENSOR_TRIP:
        return f"{event.count} {noun.of(event.count)} tripped"
    what = f"{event.count} {noun.of(event.count)}"
    if event.count_low != event.count_high:
        what = f"about {what} ({event.count_low} to {event.count_high})"
    return _capital(_seen(event, "en").format(what))


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _beside_en(event: Event) -> str:
    """Return what else there is: which sensors, or what is in view in all."""
    if event.kind is EventKind.SENSOR_TRIP:
        all_told = "" if event.in_view <= event.count else f", {event.in_view} in the course of it"
        return f"{all_told}: {_sensors_named(event, more='and {} more')}"
    if event.in_view <= event.count:
        return ""
    return f"; {event.in_view} {_in_view(event, 'en').of(event.in_view)} in view in all"


def _what_ur(event: Event) -> str:
    low, count, high = (_ltr(str(number)) for number in (event.count_low, event.count, event.count_high))
    if event.kind is EventKind.SENSOR_TRIP:
        return f"{count} سینسر {'فعال ہوا' if event.count == 1 else 'فعال ہوئے'}"
    what = f"{count} {_noun(event, 'ur').of(event.count)}"
    if event.count_low != event.count_high:
        what = f"تقریباً {what} ({low} سے {high})"
    return _seen(event, "ur").format(what)


def _beside_ur(event: Event) -> str:
    if event.kind is EventKind.SENSOR_TRIP:
        all_told = "" if event.in_view <= event.count else f"، دورانیے میں کل {_ltr(str(event.in_view))}"
        return f"{all_told}: {_sensors_named(event, more='اور مزید {}', wrap=_ltr)}"
    if event.in_view <= event.count:
        return ""
    return f"؛ منظر میں کل {_ltr(str(event.in_view))} {_in_view(event, 'ur').of(event.in_view)}"


def _sensors_named(event: Event, *, more: str, wrap: Callable[[str], str] = str) -> str:
    named = wrap(", ".join(event.sensor_ids[:MAX_SENSORS_NAMED]))
    left = len(event.sensor_ids) - MAX_SENSORS_NAMED
    return f"{named} {more.format(wrap(str(left)))}" if left > 0 else named


def _where_en(event: Event, *, outpost: Outpost) -> str:
    if event.distance_m < AT_PLACE_M:
        place = f"at {outpost.name} itself"
    else:
        direction = compass_direction(event.bearing_deg, language="en")
        number, far = _distance(event.distance_m)
        place = f"about {number} {'km' if far else 'm'} {direction} of {outpost.name}"
    return f"{place}; on the map {_coordinates(event)}." if event.fix.point else f"{place}."


def _where_ur(event: Event, *, outpost: Outpost) -> str:
    name = _auto(outpost.name_ur)
    if event.distance_m < AT_PLACE_M:
        place = f"عین {name} پر"
    else:
        direction = compass_direction(event.bearing_deg, language="ur")
        number, far = _distance(event.distance_m)
        unit = "کلومیٹر" if far else "میٹر"
        place = f"{name} سے تقریباً {_ltr(number)} {unit} {direction} کی طرف"
    return f"{place}؛ نقشے پر {_ltr(_coordinates(event))}۔" if event.fix.point else f"{place}۔"


def _distance(distance_m: float) -> tuple[str, bool]:
    """Return a rounded distance, and whether it is in kilometres."""
    if distance_m >= KILOMETRE_M:
        return f"{distance_m / KILOMETRE_M:.1f}", True
    return str(max(DISTANCE_STEP_M, DISTANCE_STEP_M * round(distance_m / DISTANCE_STEP_M))), False


def _coordinates(event: Event) -> str:
    point = event.fix.point
    # Five decimals are one metre: the form that map applications take.
    return f"{point.lat_deg:.5f}, {point.lon_deg:.5f}" if point else ""


def _certainty_en(event: Event, *, outpost: Outpost) -> str:
    if event.kind is EventKind.SENSOR_TRIP:
        true = "this is" if event.count == 1 else "at least one of them is"
        stands = "the sensor stands" if event.in_view == 1 else "all of the sensors stand"
        return (
            f"{_percent(event.confidence)} that {true} no false alarm; {stands} within "
            f"{outpost.watch_radius_m:.0f} m of the {_PLACES['en'][outpost.kind]}."
        )
    radius_m = event.fix.error_radius_m
    place = (
        "how far off the place may be is unknown"
        if radius_m is None
        else f"the place is right to within {radius_m:.0f} m (9 times in 10)"
    )
    return (
        f"{place}; {_percent(event.p_inside)} that it is within {outpost.watch_radius_m:.0f} m of the "
        f"{_PLACES['en'][outpost.kind]}; detector's confidence {_percent(event.confidence)}."
    )


def _certainty_ur(event: Event, *, outpost: Outpost) -> str:
    if event.kind is EventKind.SENSOR_TRIP:
        true = "اس کے" if event.count == 1 else "کم از کم ایک کے"
        return (
            f"{true} درست ہونے کا امکان {_ltr(_percent(event.confidence))}؛ ہر سینسر "
            f"{_PLACES['ur'][outpost.kind]} سے {_ltr(f'{outpost.watch_radius_m:.0f}')} میٹر کے اندر نصب ہے۔"
        )
    radius_m = event.fix.error_radius_m
    place = (
        "جگہ میں غلطی کی حد معلوم نہیں"
        if radius_m is None
        else f"جگہ میں غلطی {_ltr(f'{radius_m:.0f}')} میٹر تک ({_ltr('10')} میں سے {_ltr('9')} بار)"
    )
    radius = _ltr(f"{outpost.watch_radius_m:.0f}")
    return (
        f"{place}؛ {_PLACES['ur'][outpost.kind]} سے {radius} میٹر کے اندر ہونے کا "
        f"امکان {_ltr(_percent(event.p_inside))}؛ خودکار شناخت کا اعتماد {_ltr(_percent(event.confidence))}۔"
    )


def _percent(share: float) -> str:
    """Return a share as a percentage that never claims certainty."""
    percent = round(100 * share)
    shown = min(max(percent, 1), 99)
    sign = ">" if percent > shown else "<" if percent < shown else ""
    return f"{sign}{shown}%"


def _ago_en(age: Age) -> str:
    return f"; {age_in_words(age.since, language='en')} before this alert" if _has_passed(age) else ""


def _ago_ur(age: Age) -> str:
    return f"؛ اس الرٹ سے {age_in_words(age.since, language='ur')} پہلے" if _has_passed(age) else ""


def _has_passed(age: Age) -> bool:
    """Return whether footage is live and not, by the slack between two clocks, in the future."""
    return age.verdict == "live" and age.since >= timedelta(0)


def _when(event: Event, *, zone: ZoneInfo, language: Language) -> str:
    """Return first and last moment in local time, the date once where it is the same."""
    start, end = event.started_at.astimezone(zone), event.ended_at.astimezone(zone)
    first, last = (f"{moment:%H:%M:%S}" for moment in (start, end))
    name, comma, to, local = str(zone), ",", "to", "local time"
    if language == "ur":
        first, last, name = _ltr(first), _ltr(last), _ltr(name)
        comma, to, local = "،", "سے", "مقامی وقت"
    until = last if start.date() == end.date() else f"{_date(end, language)}{comma} {last}"
    span = first if start.replace(microsecond=0) == end.replace(microsecond=0) else f"{first} {to} {until}"
    return f"{_date(start, language)}{comma} {span} ({local}{comma} {name})"


def _date(moment: datetime, language: Language) -> str:
    month = _MONTHS[language][moment.month - 1]
    return f"{_number(moment.day, language)} {month} {_number(moment.year, language)}"


def _number(number: int, language: Language) -> str:
    return str(number) if language == "en" else _ltr(str(number))


def _ltr(text: str) -> str:
    """Return numbers or Latin text as one left-to-right run inside a right-to-left line."""
    return f"{_LRI}{text.translate(_NO_BIDI)}{_PDI}"


def _auto(text: str) -> str:
    """Return a name of unknown script, kept from reordering its neighbours."""
    return f"{_FSI}{text.translate(_NO_BIDI)}{_PDI}"
