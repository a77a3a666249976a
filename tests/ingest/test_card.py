"""What lies on a memory card, and which clips are one recording."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.card import CardFile, CardGroup, FileKind, sort_card
from ingest.segments import SegmentInfo, clip_number, continues, flight_of, join_segments

START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
GPX_HEAD = b'<?xml version="1.0"?><gpx'
SPLIT_BYTES = 3_900_000_000
NAMES = (
    "DJI_0001.MP4", "DJI_0001.mov", "dji_0001.srt", "DJI_0001.LRF", "DJI_0001.THM", "DJI_0001.JPG",
    "._DJI_0001.MP4", "GL010042.LRV", "GH010042.MP4",
    "FLY042.DAT", "flight.gpx", "DJI_0001.outwatch.json", "Thumbs.db", "notes", "notes.txt",
    ".outwatch.json", ".mp4", "x.", "...",
)  # fmt: skip
FOLDERS = (
    "",
    "DCIM/100MEDIA/",
    "dcim/100media/",
    "MISC/THM/100/",
    ".Trashes/501/",
    "System Volume Information/",
)


def is_gpx(head: bytes) -> bool:
    """Stand for the telemetry formats."""
    return head.startswith(GPX_HEAD)


def file(path: str, *, head: bytes = b"\x00\x00\x00\x18ftyp", size_bytes: int = 1000) -> CardFile:
    """Return a file whose content says nothing."""
    return CardFile(path, size_bytes, head)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("DCIM/100MEDIA/DJI_0001.MP4", FileKind.VIDEO),
        ("DCIM/100MEDIA/DJI_0001.JPG", FileKind.PHOTO),
        ("DCIM/100MEDIA/DJI_0001.DNG", FileKind.PHOTO),
        ("DCIM/100MEDIA/DJI_0001.SRT", FileKind.TELEMETRY),
        ("log/00000012.BIN", FileKind.TELEMETRY),
        ("DCIM/100MEDIA/DJI_0001.LRF", FileKind.PROXY),
        ("DCIM/100GOPRO/GL010042.LRV", FileKind.PROXY),
        ("DCIM/100GOPRO/GH010042.THM", FileKind.THUMBNAIL),
        ("MISC/THM/100/DJI_0001.SCR", FileKind.THUMBNAIL),
        ("MISC/THM/100/DJI_0001.JPG", FileKind.THUMBNAIL),
        ("XMISC/THM/DJI_0001.JPG", FileKind.PHOTO),
        ("MISC/LOG/FLY042.DAT", FileKind.FLIGHT_RECORD),
        ("DJIFlightRecord_2026-03-14.txt", FileKind.FLIGHT_RECORD),
        ("DCIM/100MEDIA/._DJI_0001.MP4", FileKind.SYSTEM),
        (".Trashes/501/DJI_0001.MP4", FileKind.SYSTEM),
        (".Trash-1000/files/DJI_0001.MP4", FileKind.SYSTEM),
        ("System Volume Information/WPSettings.dat", FileKind.SYSTEM),
        ("LOST.DIR/1042", FileKind.SYSTEM),
        (".fseventsd/0000", FileKind.SYSTEM),
        ("DCIM/Thumbs.db", FileKind.SYSTEM),
        (".DS_Store", FileKind.SYSTEM),
        ("desktop.ini", FileKind.SYSTEM),
        ("DCIM/100MEDIA/DJI_0001.outwatch.json", FileKind.SIDECAR),
        ("notes.txt", FileKind.UNKNOWN),
        ("noending", FileKind.UNKNOWN),
    ],
)
def test_file_is_known_by_name_and_folder(path: str, kind: FileKind) -> None:
    """Every kind of file that cards carry is told apart, each with a reason."""
    (found,) = sort_card([file(path)], is_telemetry=is_gpx).files
    assert (path, kind) == (found.path, found.kind)
    assert found.reason


def test_content_makes_telemetry_of_any_name_but_of_no_footage() -> None:
    """A log is known by what it holds; a video or photo that carries telemetry stays what it is."""
    paths = ["flight.bak", "FLY001.DAT", "DJI_0001.MP4", "DJI_0001.JPG"]
    card = sort_card([file(path, head=GPX_HEAD) for path in paths], is_telemetry=is_gpx)
    assert {"flight.bak", "FLY001.DAT"} == {found.path for found in card.of(FileKind.TELEMETRY)}


def test_apple_double_is_no_video_under_any_name() -> None:
    """What macOS writes beside a video is known by its content too, once it was renamed."""
    card = sort_card([file("DJI_0001.MP4", head=b"\x00\x05\x16\x07\x00\x02")], is_telemetry=is_gpx)
    assert (card.files[0].kind, card.groups) == (FileKind.SYSTEM, ())


def test_video_is_grouped_with_what_bears_its_name_in_its_folder() -> None:
    """Telemetry and manifest go with their video; a log of no video's name is shared by all of the card."""
    paths = [
        "A/DJI_0001.MP4", "A/dji_0001.srt", "A/DJI_0001.outwatch.json", "A/DJI_0001.LRF", "B/DJI_0001.MP4",
        "B/DJI_0002.MP4", "B/DJI_0002.gpx", "logs/2026-03-14.ulg", "B/DJI_0003.SRT",
    ]  # fmt: skip
    card = sort_card([file(path) for path in paths], is_telemetry=is_gpx)
    assert card.groups == (
        CardGroup("A/DJI_0001.MP4", ("A/dji_0001.srt",), "A/DJI_0001.outwatch.json"),
        CardGroup("B/DJI_0001.MP4"),
        CardGroup("B/DJI_0002.MP4", ("B/DJI_0002.gpx",)),
    )
    assert card.shared_logs == ("B/DJI_0003.SRT", "logs/2026-03-14.ulg")
    owners = {found.path: found.belongs_to for found in card.files}
    assert owners["A/DJI_0001.LRF"] == "A/DJI_0001.MP4"


def test_gopro_proxy_belongs_to_the_video_of_its_number() -> None:
    """GL010042.LRV is the copy of GX010042.MP4, and a copy without its original belongs to none."""
    card = sort_card(
        [file(f"{name}") for name in ("GL010042.LRV", "GX010042.MP4", "GL010043.LRV")], is_telemetry=is_gpx
    )
    assert {"GL010042.LRV": "GX010042.MP4", "GL010043.LRV": None} == {
        found.path: found.belongs_to for found in card.of(FileKind.PROXY)
    }


PATHS = st.one_of(
    st.builds(lambda folder, name: folder + name, st.sampled_from(FOLDERS), st.sampled_from(NAMES)),
    st.text(min_size=1, max_size=20).filter(lambda text: "\x00" not in text),
)


@given(
    files=st.lists(
        st.builds(
            CardFile, PATHS, st.integers(0, 10**10), st.sampled_from([b"", GPX_HEAD, b"\x00\x05\x16\x07"])
        ),
        unique_by=lambda one: one.path,
        max_size=30,
    )
)
def test_every_file_comes_out_once(files: list[CardFile]) -> None:
    """Whatever lies on a card is accounted for; videos and shared logs are groups' or nobody's."""
    card = sort_card(files, is_telemetry=is_gpx)
    assert sorted(one.path for one in files) == [found.path for found in card.files]
    assert [found.path for found in card.of(FileKind.VIDEO)] == [group.video for group in card.groups]
    grouped = {path for group in card.groups for path in group.telemetry}
    logs = {found.path for found in card.of(FileKind.TELEMETRY)}
    assert logs == grouped | set(card.shared_logs)
    assert not grouped & set(card.shared_logs)


def clip(
    name: str, start_s: float, duration_s: float, size_bytes: int = SPLIT_BYTES, **fields: object
) -> SegmentInfo:
    """Return a clip of a 4K camera, started so many seconds after ``START``."""
    values = {"width_px": 3840, "height_px": 2160, "codec": "h264", "frame_rate_hz": 30.0, **fields}
    return SegmentInfo(name, size_bytes, START + timedelta(seconds=start_s), duration_s, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("DJI_0007.MP4", "DJI_0008.MP4"),
        ("A/DJI_0009.MP4", "A/DJI_0010.MP4"),
        ("DJI_20260314214000_0007_D.MP4", "DJI_20260314214812_0008_D.MP4"),
        ("GH010042.MP4", "GH020042.MP4"),
        ("GOPR0042.MP4", "GP010042.MP4"),
        ("GP010042.MP4", "GP020042.MP4"),
        ("MAX_0001.MOV", "MAX_0002.MOV"),
    ],
)
@pytest.mark.parametrize("gap_s", [-1.4, 0.0, 1.0])
def test_file_at_the_size_limit_is_continued_by_the_next_number(
    before: str, after: str, gap_s: float
) -> None:
    """Numbers, times within the clock's steps and a full file make one recording, and only forwards."""
    first, second = clip(before, 0, 480), clip(after, 480 + gap_s, 100, 10**9)
    assert continues(first, second)
    assert not continues(second, first)
    assert [(first, second)] == join_segments([second, first])


@pytest.mark.parametrize(
    "second",
    [
        clip("DJI_0009.MP4", 480, 100),
        clip("B/DJI_0008.MP4", 480, 100),
        clip("DJI_0008_T.MP4", 480, 100),
        clip("DJI_0008.MP4", 485, 100),
        clip("DJI_0008.MP4", 470, 100),
        clip("DJI_0008.MP4", 480, 100, width_px=1920),
        clip("DJI_0008.MP4", 480, 100, codec="hevc"),
        clip("DJI_0008.MP4", 480, 100, frame_rate_hz=60.0),
        clip("PANO_0008.MP4", 480, 100),
        clip("ending.MP4", 480, 100),
    ],
)
def test_another_number_time_or_picture_is_another_recording(second: SegmentInfo) -> None:
    """Each of the necessary signs parts two files when it alone is missing."""
    first = clip("DJI_0007.MP4", 0, 480)
    assert not continues(first, second)
    assert 2 == len(join_segments([first, second]))


def test_recording_started_a_second_after_another_is_its_own() -> None:
    """Two short recordings in a row bear the numbers and times of a split, and none of its causes."""
    first, second = clip("DJI_0007.MP4", 0, 60, 5 * 10**8), clip("DJI_0008.MP4", 61, 60, 5 * 10**8)
    assert not continues(first, second)
    assert [(first,), (second,)] == join_segments([first, second])


@pytest.mark.parametrize(("gap_s", "joined"), [(0.02, True), (-0.02, True), (0.05, False), (0.8, False)])
def test_less_than_a_frame_between_exact_clocks_is_a_split(gap_s: float, joined: bool) -> None:
    """Where clocks show fractions of a second, a gap below one frame cannot be a person's doing."""
    first = clip("DJI_0007.MP4", 0.25, 60, 10**8)
    assert joined is continues(first, clip("DJI_0008.MP4", 60.25 + gap_s, 60, 10**8))


def test_gap_of_nothing_between_clocks_of_whole_seconds_proves_nothing() -> None:
    """Whole seconds may hide a gap of almost one."""
    assert not continues(clip("DJI_0007.MP4", 0, 60, 10**8), clip("DJI_0008.MP4", 60, 60, 10**8))


@pytest.mark.parametrize(
    ("lengths_s", "recordings"),
    [
        ((300, 300, 40), [3]),
        ((300, 300, 300), [3]),
        ((300, 300), [1, 1]),
        ((300, 40), [1, 1]),
        ((300, 300, 40, 300, 300, 10), [3, 3]),
        ((30, 70, 50), [1, 1, 1]),
        ((40, 300, 300, 10), [1, 3]),
    ],
)
def test_equal_lengths_show_a_timer(lengths_s: tuple[int, ...], recordings: list[int]) -> None:
    """Small files are one recording where all but the last are equally long; two equal ones prove nothing."""
    clips, start_s = [], 0
    for number, length_s in enumerate(lengths_s):
        clips.append(clip(f"DJI_{number:04d}.MP4", start_s, length_s, 10**8))
        start_s += length_s
    assert recordings == [len(recording) for recording in join_segments(clips)]


def test_chapters_that_repeat_their_recordings_time_are_joined() -> None:
    """The name counts chapters: small ones, and ones that all state the first one's time, are joined."""
    chapters = [clip(f"GH0{number}0042.MP4", 0, 300, 10**9) for number in (1, 2, 3)]
    other = clip("GH010043.MP4", 0, 300, 10**9)
    assert {tuple(chapters), (other,)} == set(join_segments([*chapters[::-1], other]))


def test_two_cards_of_equal_numbers_are_kept_apart_by_time() -> None:
    """The successor is the file of the next number that starts when the earlier one ends."""
    mine, yours = clip("DJI_0007.MP4", 0, 480), clip("DJI_0007.MP4", 9000, 480)
    my_next, your_next = clip("DJI_0008.MP4", 480, 60), clip("DJI_0008.MP4", 9480, 60)
    assert [(mine, my_next), (yours, your_next)] == join_segments([your_next, mine, yours, my_next])
    assert (yours, your_next) == flight_of(your_next, [mine, my_next, yours])
    assert (your_next,) == flight_of(your_next, [mine, my_next])


@given(
    clips=st.lists(
        st.builds(
            clip,
            st.sampled_from(
                ["DJI_0007.MP4", "DJI_0008.MP4", "DJI_0009.MP4", "GH010001.MP4", "GH020001.MP4", "x.mp4"]
            ),
            st.integers(0, 6).map(lambda step: step * 60.0),
            st.sampled_from([60.0, 120.0]),
            st.sampled_from([10**8, SPLIT_BYTES]),
        ),
        max_size=14,
    ),
    seed=st.randoms(use_true_random=False),
)
def test_order_of_arrival_does_not_matter(clips: list[SegmentInfo], seed: object) -> None:
    """Every clip is in exactly one recording, the same one however the clips come in."""
    joined = join_segments(clips)
    assert sorted(map(repr, set(clips))) == sorted(repr(part) for recording in joined for part in recording)
    shuffled = list(clips)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert joined == join_segments(shuffled)


@pytest.mark.parametrize(
    "name", ["gathering.mp4", "20260314_164000.mp4", "2026-03-14 16.40.mp4", "7.mp4", ""]
)
def test_name_without_a_counter_counts_nothing(name: str) -> None:
    """Dates and words are no counters."""
    assert clip_number(name) is None
