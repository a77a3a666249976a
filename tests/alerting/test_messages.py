"""The words: complete, honest about age and doubt, and readable from right to left."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerting.messages import (
    Age,
    age_in_words,
    compass_direction,
    text_en,
    text_subject,
    text_ur,
    write_message,
)
from alerting.policy import make_alert
from outwatch.domain.types import (
    Alert,
    Event,
    EventKind,
    GeoPoint,
    GroundFix,
    Outpost,
    OutpostKind,
    Priority,
)

HOUR = timedelta(hours=1)
TELEMETRY, CONTAINER, FILE = timedelta(seconds=2), timedelta(hours=14), timedelta(hours=24)
"""How far off a clip's clock may be, by its source."""
KARACHI = ZoneInfo("Asia/Karachi")
ISOLATES = "\u2066\u2067\u2068\u2069"

OLD_EN = """\
OLD FOOTAGE: captured 3 hours ago. This is not live.
Gathering of about 13 people (10 to 16) near Sample Post (police outpost); 21 people in view in all.
Where: about 65 m north-east of Sample Post; on the map 33.58662, 71.44410.
When: 14 March 2026, 21:40:00 to 21:40:25 (local time, Asia/Karachi).
How sure: the place is right to within 12 m (9 times in 10); 93% that it is within 400 m of the \
police outpost; detector's confidence 71%.
No person has checked this yet. It may be innocent: a funeral, a jirga or the school run.
What to do: look at the still, then answer: confirmed or false."""

# As a person reads it; direction marks are checked apart.
OLD_UR = """\
پرانی فوٹیج: 3 گھنٹے پہلے کی ریکارڈنگ۔ یہ براہِ راست نہیں ہے۔
نمونہ چوکی (پولیس چوکی) کے قریب تقریباً 13 افراد (10 سے 16) کا اجتماع دیکھا گیا؛ منظر میں کل 21 افراد۔
جگہ: نمونہ چوکی سے تقریباً 65 میٹر شمال مشرق کی طرف؛ نقشے پر 33.58662, 71.44410۔
وقت: 14 مارچ 2026، 21:40:00 سے 21:40:25 (مقامی وقت، Asia/Karachi)۔
یقین: جگہ میں غلطی 12 میٹر تک (10 میں سے 9 بار)؛ پولیس چوکی سے 400 میٹر کے اندر ہونے کا امکان 93%؛ \
خودکار شناخت کا اعتماد 71%۔
ابھی تک کسی شخص نے اس کی جانچ نہیں کی۔ یہ بے ضرر بھی ہو سکتا ہے: جنازہ، جرگہ یا سکول آتے جاتے بچے۔
کیا کریں: تصویر دیکھیں، پھر جواب دیں: درست یا غلط۔"""


FILE_EN = "Capture time uncertain by up to 24 hours: it comes from the file."
FILE_UR = "ریکارڈنگ کا وقت یقینی نہیں، 24 گھنٹے تک کا فرق ہو سکتا ہے: یہ فائل سے لیا گیا ہے۔"


def plain(text: str) -> str:
    """Return text without direction marks."""
    return re.sub(f"[\u200f{ISOLATES}]", "", text)


def aged(since: timedelta, uncertainty: timedelta) -> Age:
    """Return an age where an hour is still live."""
    return Age(since=since, uncertainty=uncertainty, live_within=HOUR)


def english(event: Event, outpost: Outpost, *, age: timedelta, unsure: timedelta = TELEMETRY) -> str:
    """Return the English text for an event of the given age."""
    return text_en(event, outpost=outpost, age=aged(age, unsure), zone=KARACHI)


def urdu(event: Event, outpost: Outpost, *, age: timedelta, unsure: timedelta = TELEMETRY) -> str:
    """Return the Urdu text for an event of the given age."""
    return text_ur(event, outpost=outpost, age=aged(age, unsure), zone=KARACHI)


def raised(event: Event, outpost: Outpost, *, age: timedelta, unsure: timedelta = TELEMETRY) -> Alert:
    """Return the alert raised for an event of the given age."""
    return make_alert(
        event,
        outpost=outpost,
        raised_at=event.ended_at + age,
        alert_id="a1",
        live_within=HOUR,
        clock_uncertainty_s=unsure.total_seconds(),
        zone=KARACHI,
    )


def test_old_footage_in_english(gathering: Event, outpost: Outpost) -> None:
    """The whole text, its age first."""
    assert english(gathering, outpost, age=3 * HOUR) == OLD_EN


def test_old_footage_in_urdu(gathering: Event, outpost: Outpost) -> None:
    """The whole text, line for line the English one."""
    assert plain(urdu(gathering, outpost, age=3 * HOUR)) == OLD_UR


def test_live_footage_says_its_age_with_its_time(gathering: Event, outpost: Outpost) -> None:
    """Fresh footage starts with what was seen."""
    first, *rest = english(gathering, outpost, age=timedelta(minutes=4)).splitlines()
    assert first.startswith("Gathering of about 13 people")
    assert any(line.endswith("; 4 minutes before this alert.") for line in rest)
    assert "اس الرٹ سے 4 منٹ پہلے" in plain(urdu(gathering, outpost, age=timedelta(minutes=4)))


def test_a_capture_in_the_future_never_looks_live(gathering: Event, outpost: Outpost) -> None:
    """A wrong clock is said first, in the subject too, and no age is claimed."""
    text = english(gathering, outpost, age=-3 * HOUR)
    assert text.startswith("NOT LIVE? A clock is wrong: the capture time lies 3 hours in the future.")
    assert "before this alert" not in text
    assert "کوئی گھڑی غلط ہے" in urdu(gathering, outpost, age=-3 * HOUR).splitlines()[0]
    subject = text_subject(gathering, outpost=outpost, priority=Priority.P3, age=aged(-3 * HOUR, TELEMETRY))
    assert subject.endswith("capture time unknown")


@pytest.mark.parametrize(
    ("age", "unsure", "ending"),
    [
        (timedelta(minutes=5), TELEMETRY, ""),
        (timedelta(minutes=59, seconds=59), TELEMETRY, ", captured 59 minutes ago"),
        (timedelta(hours=30), TELEMETRY, ", captured 1 day ago"),
        (timedelta(minutes=5), CONTAINER, ", capture time uncertain"),
        (timedelta(hours=15), CONTAINER, ", capture time uncertain"),
        (timedelta(hours=16), CONTAINER, ", captured 16 hours ago"),
        (timedelta(days=3), FILE, ", captured 3 days ago"),
        (timedelta(hours=-5), CONTAINER, ", capture time unknown"),
    ],
)
def test_the_subject_shows_what_is_not_surely_live(
    gathering: Event, outpost: Outpost, age: timedelta, unsure: timedelta, ending: str
) -> None:
    """One line says how urgent, what, how many, where and, unless it is live, when."""
    subject = text_subject(gathering, outpost=outpost, priority=Priority.P2, age=aged(age, unsure))
    assert subject == f"[P2] Gathering of about 13 people (10 to 16) near Sample Post{ending}"


@pytest.mark.parametrize(
    ("age", "unsure", "in_english", "in_urdu"),
    [
        (
            timedelta(minutes=10),
            FILE,
            ["NOT LIVE? This may be old footage.", FILE_EN],
            ["شاید براہِ راست نہیں: یہ پرانی فوٹیج ہو سکتی ہے۔", FILE_UR],
        ),
        (
            timedelta(days=3),
            FILE,
            ["OLD FOOTAGE: captured 3 days ago. This is not live.", FILE_EN],
            ["پرانی فوٹیج: 3 دن پہلے کی ریکارڈنگ۔ یہ براہِ راست نہیں ہے۔", FILE_UR],
        ),
        (
            timedelta(hours=-5),
            FILE,
            ["NOT LIVE? A clock is wrong: the capture time lies 5 hours in the future.", FILE_EN],
            ["شاید براہِ راست نہیں: کوئی گھڑی غلط ہے، ریکارڈنگ کا وقت 5 گھنٹے آگے کا ہے۔", FILE_UR],
        ),
    ],
)
def test_an_uncertain_capture_time_is_said_first(
    *,
    gathering: Event,
    outpost: Outpost,
    age: timedelta,
    unsure: timedelta,
    in_english: list[str],
    in_urdu: list[str],
) -> None:
    """What it may mean, then by how much and why; no age before the alert is claimed."""
    text = english(gathering, outpost, age=age, unsure=unsure)
    assert text.splitlines()[:2] == in_english
    assert text.splitlines()[2:] == OLD_EN.splitlines()[1:]
    text = plain(urdu(gathering, outpost, age=age, unsure=unsure))
    assert text.splitlines()[:2] == in_urdu
    assert text.splitlines()[2:] == OLD_UR.splitlines()[1:]


@pytest.mark.parametrize(
    ("unsure", "in_english", "in_urdu"),
    [
        (timedelta(minutes=5, microseconds=1), "by up to 6 minutes:", "6 منٹ تک کا فرق"),
        (timedelta(minutes=59), "by up to 59 minutes:", "59 منٹ تک کا فرق"),
        (timedelta(hours=1), "by up to 1 hour:", "1 گھنٹے تک کا فرق"),
        (timedelta(minutes=61), "by up to 2 hours:", "2 گھنٹے تک کا فرق"),
        (CONTAINER, "by up to 14 hours:", "14 گھنٹے تک کا فرق"),
    ],
)
def test_the_bound_of_doubt_is_never_understated(
    gathering: Event, outpost: Outpost, unsure: timedelta, in_english: str, in_urdu: str
) -> None:
    """It is rounded up, in both languages."""
    assert in_english in english(gathering, outpost, age=HOUR, unsure=unsure)
    assert in_urdu in plain(urdu(gathering, outpost, age=HOUR, unsure=unsure))


def test_a_clock_good_to_minutes_is_not_spoken_of(gathering: Event, outpost: Outpost) -> None:
    """Small doubt would only be noise."""
    for unsure in (TELEMETRY, timedelta(minutes=5)):
        assert "uncertain" not in english(gathering, outpost, age=timedelta(minutes=4), unsure=unsure)
        assert "یقینی نہیں" not in urdu(gathering, outpost, age=timedelta(minutes=4), unsure=unsure)


def test_live_footage_of_doubtful_time_says_so_and_its_age(gathering: Event, outpost: Outpost) -> None:
    """Where ten minutes either way leave it live, both are told."""
    text = english(gathering, outpost, age=timedelta(minutes=4), unsure=timedelta(minutes=10))
    assert text.startswith("Capture time uncertain by up to 10 minutes: it comes from the file.\nGathering")
    assert "; 4 minutes before this alert." in text


@pytest.mark.parametrize(
    ("since", "uncertainty", "verdict"),
    [
        (-timedelta(minutes=5), TELEMETRY, "live"),
        (-timedelta(minutes=5, seconds=1), TELEMETRY, "ahead"),
        (HOUR - TELEMETRY, TELEMETRY, "live"),
        (HOUR, timedelta(0), "live"),
        (HOUR, TELEMETRY, "old"),
        (timedelta(0), CONTAINER, "perhaps old"),
        (HOUR + CONTAINER, CONTAINER, "perhaps old"),
        (HOUR + CONTAINER + TELEMETRY, CONTAINER, "old"),
    ],
)
def test_what_an_age_may_be_called(since: timedelta, uncertainty: timedelta, verdict: str) -> None:
    """Live only where it is so however wrong the clock; old only where that is as sure."""
    assert aged(since, uncertainty).verdict == verdict


def test_one_vehicle_and_several(gathering: Event, outpost: Outpost) -> None:
    """Nouns and verbs agree with the count in both languages."""
    one = replace(
        gathering, kind=EventKind.VEHICLE_NEAR_OUTPOST, count_low=1, count=1, count_high=1, in_view=1
    )
    eight = replace(one, count_low=6, count=8, count_high=9, in_view=8)
    assert "1 vehicle near Sample Post (police outpost).\n" in english(one, outpost, age=HOUR)
    assert "About 8 vehicles (6 to 9) near" in english(eight, outpost, age=HOUR)
    assert "1 گاڑی دیکھی گئی۔" in plain(urdu(one, outpost, age=HOUR))
    assert "تقریباً 8 گاڑیاں (6 سے 9) دیکھی گئیں۔" in plain(urdu(eight, outpost, age=HOUR))


def test_the_place_itself_has_no_direction(gathering: Event, outpost: Outpost) -> None:
    """An event on the outpost's ground is at it, not north of it."""
    here = replace(gathering, distance_m=0.0)
    assert "Where: at Sample Post itself; on the map" in english(here, outpost, age=HOUR)
    assert "عین نمونہ چوکی پر" in plain(urdu(here, outpost, age=HOUR))


def test_far_is_in_kilometres(gathering: Event, outpost: Outpost) -> None:
    """1240 m is 1.2 km."""
    far = replace(gathering, distance_m=1240.0)
    assert "about 1.2 km north-east of Sample Post" in english(far, outpost, age=HOUR)
    assert "تقریباً 1.2 کلومیٹر شمال مشرق" in plain(urdu(far, outpost, age=HOUR))


def test_an_unknown_place_is_said_to_be_unknown(gathering: Event, outpost: Outpost) -> None:
    """No coordinates are made up, no accuracy is claimed."""
    fix = GroundFix(gathering.started_at, None, None, None, "none", "below 15 degrees of depression")
    lost = replace(gathering, fix=fix)
    assert "on the map" not in english(lost, outpost, age=HOUR)
    assert "how far off the place may be is unknown" in english(lost, outpost, age=HOUR)
    assert "نقشے پر" not in urdu(lost, outpost, age=HOUR)
    assert "جگہ میں غلطی کی حد معلوم نہیں" in urdu(lost, outpost, age=HOUR)


def test_certainty_is_never_claimed(gathering: Event, outpost: Outpost) -> None:
    """A probability of one is shown as more than 99 %, of zero as less than 1 %."""
    sure = replace(gathering, p_inside=1.0, confidence=0.0)
    text = english(sure, outpost, age=HOUR)
    assert ">99% that it is within" in text
    assert "confidence <1%." in text


def test_a_night_over_midnight_shows_both_dates(gathering: Event, outpost: Outpost) -> None:
    """Local midnight, not UTC's, splits the dates."""
    event = replace(gathering, ended_at=gathering.started_at + timedelta(hours=3))
    assert "When: 14 March 2026, 21:40:00 to 15 March 2026, 00:40:00 (local" in english(
        event, outpost, age=HOUR
    )


@pytest.mark.parametrize("kind", list(OutpostKind))
@pytest.mark.parametrize("event_kind", list(EventKind))
def test_every_kind_has_words_in_both_languages(
    gathering: Event, outpost: Outpost, kind: OutpostKind, event_kind: EventKind
) -> None:
    """No kind of place or event is shown by its code name."""
    event, place = replace(gathering, kind=event_kind), replace(outpost, kind=kind)
    assert f"({kind.replace('_', ' ')})" in english(event, place, age=HOUR)
    assert "_" not in english(event, place, age=HOUR) + urdu(event, place, age=HOUR)


@pytest.mark.parametrize(
    ("age", "in_english", "in_urdu"),
    [
        (timedelta(seconds=59), "less than a minute", "ایک منٹ سے کم"),
        (timedelta(minutes=1), "1 minute", "1 منٹ"),
        (timedelta(minutes=59, seconds=59), "59 minutes", "59 منٹ"),
        (timedelta(hours=1), "1 hour", "1 گھنٹہ"),
        (timedelta(minutes=90), "2 hours", "2 گھنٹے"),
        (timedelta(hours=24), "1 day", "1 دن"),
        (timedelta(hours=36), "2 days", "2 دن"),
        (timedelta(days=400), "400 days", "400 دن"),
    ],
)
def test_ages_in_words(age: timedelta, in_english: str, in_urdu: str) -> None:
    """Singular and plural agree in both languages."""
    assert age_in_words(age, language="en") == in_english
    assert plain(age_in_words(age, language="ur")) == in_urdu


def test_a_negative_age_is_a_fault() -> None:
    """The future has no age."""
    with pytest.raises(ValueError, match="negative"):
        age_in_words(timedelta(seconds=-1), language="en")


@pytest.mark.parametrize(
    ("bearing_deg", "in_english", "in_urdu"),
    [
        (0, "north", "شمال"),
        (22, "north", "شمال"),
        (23, "north-east", "شمال مشرق"),
        (180, "south", "جنوب"),
        (270, "west", "مغرب"),
        (338, "north", "شمال"),
        (360, "north", "شمال"),
    ],
)
def test_directions(bearing_deg: float, in_english: str, in_urdu: str) -> None:
    """Eight directions, 45 degrees each, around north too."""
    assert compass_direction(bearing_deg, language="en") == in_english
    assert compass_direction(bearing_deg, language="ur") == in_urdu


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1),
    lat_deg=st.floats(-90, 90),
    lon_deg=st.floats(-180, 180),
    count=st.integers(1, 500),
    distance_m=st.floats(0, 5000),
    age_s=st.integers(-(10**6), 10**7),
    unsure_s=st.integers(0, 10**6),
)
def test_urdu_lines_cannot_be_scrambled(
    *,
    gathering: Event,
    outpost: Outpost,
    name: str,
    lat_deg: float,
    lon_deg: float,
    count: int,
    distance_m: float,
    age_s: int,
    unsure_s: int,
) -> None:
    """Isolates are balanced, and no digit or Latin letter stands outside one, whatever the name holds."""
    fix = replace(gathering.fix, point=GeoPoint(lat_deg, lon_deg))
    event = replace(gathering, fix=fix, count=count, distance_m=distance_m)
    age, unsure = timedelta(seconds=age_s), timedelta(seconds=unsure_s)
    text = urdu(event, replace(outpost, name_ur=name), age=age, unsure=unsure)
    for line in text.split("\n"):
        assert line.startswith("\u200f")
        outside = re.sub("[\u2066\u2068][^\u2066-\u2069]*\u2069", "", line)
        assert not set(outside) & set(ISOLATES)
        assert not re.search("[0-9A-Za-z]", outside)


def test_an_alert_on_time_is_sent_as_it_was_written(gathering: Event, outpost: Outpost) -> None:
    """Words, ids, priority and still reach the channel."""
    alert = raised(gathering, outpost, age=timedelta(minutes=2))
    message = write_message(alert, now=alert.raised_at + timedelta(seconds=3), still_jpeg=b"jpeg")
    assert (message.alert_id, message.priority, message.control_room) == ("a1", "P1", "kohat-sample")
    assert (message.text_en, message.text_ur) == (alert.message_en, alert.message_ur)
    assert message.subject == alert.payload["subject"]
    assert message.still_jpeg == b"jpeg"


def test_a_delivery_that_comes_late_says_so_first(gathering: Event, outpost: Outpost) -> None:
    """An alert that was live when raised must not look live hours later."""
    alert = raised(gathering, outpost, age=timedelta(minutes=2))
    message = write_message(alert, now=alert.raised_at + 5 * HOUR)
    assert message.subject == f"[delayed 5 hours] {alert.payload['subject']}"
    assert message.text_en.startswith(
        "DELAYED: this alert was raised 5 hours ago, the footage captured 5 hours ago.\nGathering"
    )
    first, *rest = message.text_ur.splitlines()
    assert plain(first) == "تاخیر: یہ الرٹ 5 گھنٹے پہلے جاری ہوا، فوٹیج 5 گھنٹے پہلے کی ہے۔"
    assert "\n".join(rest) == alert.message_ur


def test_a_late_delivery_with_a_wrong_clock_claims_no_age(gathering: Event, outpost: Outpost) -> None:
    """The delay is known, the age of the footage is not."""
    alert = raised(gathering, outpost, age=-3 * HOUR)
    message = write_message(alert, now=alert.raised_at + 5 * HOUR)
    assert message.text_en.startswith("DELAYED: this alert was raised 5 hours ago.\nNOT LIVE?")
    assert plain(message.text_ur).startswith("تاخیر: یہ الرٹ 5 گھنٹے پہلے جاری ہوا۔\n")


def test_a_late_delivery_of_uncertain_time_claims_no_age(gathering: Event, outpost: Outpost) -> None:
    """The delay is ours to know, the capture time is not."""
    alert = raised(gathering, outpost, age=timedelta(minutes=2), unsure=FILE)
    message = write_message(alert, now=alert.raised_at + 5 * HOUR)
    assert message.text_en.startswith("DELAYED: this alert was raised 5 hours ago.\nNOT LIVE?")
    assert plain(message.text_ur).startswith("تاخیر: یہ الرٹ 5 گھنٹے پہلے جاری ہوا۔\n")


def test_an_alert_from_before_clocks_were_weighed_is_still_sent(gathering: Event, outpost: Outpost) -> None:
    """An upgrade with alerts in the queue loses none."""
    alert = raised(gathering, outpost, age=timedelta(minutes=2))
    older = {name: value for name, value in alert.payload.items() if name != "clock_uncertainty_s"}
    message = write_message(replace(alert, payload=older), now=alert.raised_at + 5 * HOUR)
    assert "the footage captured 5 hours ago" in message.text_en
