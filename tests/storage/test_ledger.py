"""The ledger's promises: uploads once, work to one worker at a time, results only from its holder."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import Engine, text

from outwatch.domain.errors import DatabaseUnavailable, LeaseLost, ObjectMissing
from outwatch.domain.types import Clip, ClockSource, Completeness, Modality, Outcome
from storage import ledger as ledger_module
from storage.database import connect, migrate, writing
from storage.ledger import Claim, FileOutcome, LandedFile, Ledger
from storage.tables import FileState, WorkState
from storage.workers import worker_name

LEASE = timedelta(minutes=10)
STEP = "ingest_footage"
DONE = Outcome(STEP, "u1", ("footage/a", "footage/b"), {"clips": 2})

CLAIM_ALL = """
import sys, time
from datetime import UTC, datetime, timedelta
from outwatch.domain.types import Outcome
from storage.database import connect
from storage.ledger import Ledger
from storage.workers import worker_name
ledger = Ledger(
    connect(sys.argv[1]), worker=worker_name(), lease=timedelta(hours=1), now=lambda: datetime.now(UTC)
)
print("ready", flush=True)
sys.stdin.readline()
while subjects := ledger.open_subjects("race"):
    for subject in subjects:
        if claim := ledger.claim("race", subject):
            print(subject, flush=True)
            ledger.complete(claim, Outcome("race", subject))
            time.sleep(0.005)  # work takes time; without any, the first process may do it all
"""
CLAIM_AND_HANG = """
import sys, time
from datetime import UTC, datetime, timedelta
from storage.database import connect
from storage.ledger import Ledger
from storage.workers import worker_name
ledger = Ledger(
    connect(sys.argv[1]), worker=worker_name(), lease=timedelta(hours=1), now=lambda: datetime.now(UTC)
)
print(ledger.claim("hang", "x"), flush=True)
time.sleep(600)
"""


@pytest.fixture
def ledger(engine: Engine, clock: Callable[[], datetime]) -> Ledger:
    """Return an empty ledger, as this process sees it."""
    return Ledger(engine, worker=worker_name(), lease=LEASE, now=clock)


def landed(name: str = "a.mp4", *, upload_id: str = "u1", sha256: str = "ab" * 32) -> LandedFile:
    """Return a file as it lands."""
    return LandedFile(
        upload_id=upload_id,
        name=name,
        sha256=sha256,
        size_bytes=5_000_000_000,
        received_at=datetime(2026, 3, 1, 18, 0, tzinfo=UTC),
        modified_at=None,
        key=f"landing/{upload_id}/{name}",
    )


def clip(clip_id: str = "c1", *, hour: int = 12, platform: str = "XT2") -> Clip:
    """Return a registered clip."""
    return Clip(
        id=clip_id, flight_id="f", platform=platform, camera=None, modality=Modality.THERMAL,
        started_at=datetime(2026, 3, 1, hour, 0, 0, 250_000, tzinfo=UTC), clock_source=ClockSource.TELEMETRY,
        clock_uncertainty_s=1.0, duration_s=30.0, frame_count=900, width_px=640, height_px=512,
        frame_rate_hz=29.97, codec="h264", object_key="footage/x", sha256="ab" * 32,
        completeness=Completeness(900, 900, 0, 30.0, 30.0, ((1.5, 2.25),)), file_name="پشاور.mp4",
        size_bytes=1000,
    )  # fmt: skip


def claimed(ledger: Ledger, subject: str = "u1", *, step: str = STEP) -> Claim:
    """Open a piece of work and return the claim to it."""
    ledger.open_work(step, subject)
    claim = ledger.claim(step, subject)
    assert claim is not None
    return claim


def test_upload_is_recorded_whole(ledger: Ledger) -> None:
    """Files, what was declared, and the work that follows are there together."""
    files = (landed("a.mp4"), landed("a.SRT", sha256="cd" * 32))
    assert ledger.record_upload(files, declared={"camera": "XT2", "zone": None}, opens=[(STEP, "u1")])
    upload = ledger.upload("u1")
    assert upload is not None
    assert upload.files == (files[1], files[0])
    assert upload.declared == {"camera": "XT2", "zone": None}
    assert upload.received_at == files[0].received_at
    assert ledger.open_subjects(STEP) == ["u1"]


def test_known_upload_changes_nothing(ledger: Ledger) -> None:
    """Landing the same upload again neither opens work nor rewrites what was declared."""
    ledger.record_upload([landed()], declared={"camera": "XT2"}, opens=[])
    assert not ledger.record_upload([landed("b.mp4")], declared={}, opens=[(STEP, "u1")])
    assert ledger.upload("u1").declared == {"camera": "XT2"}
    assert [file.name for file in ledger.upload("u1").files] == ["a.mp4"]
    assert ledger.work() == []


@pytest.mark.parametrize("files", [[], [landed(), landed(upload_id="u2")]])
def test_files_of_no_or_several_uploads_are_refused(ledger: Ledger, files: list[LandedFile]) -> None:
    """One upload is one record."""
    with pytest.raises(ValueError, match="expected the files of one upload"):
        ledger.record_upload(files, declared={}, opens=[])
    assert ledger.uploads() == []


def test_unknown_upload_and_clip_are_none(ledger: Ledger) -> None:
    """What was never recorded is not there, and a step that needs it says so."""
    assert ledger.upload("u9") is None
    assert ledger.clip("c9") is None
    with pytest.raises(ObjectMissing, match="clip c9 is not in the ledger"):
        ledger.require_clip("c9")


def test_uploads_come_oldest_first(ledger: Ledger) -> None:
    """Since a time, itself included."""
    for hour in (3, 1, 2):
        at = datetime(2026, 3, 1, hour, tzinfo=UTC)
        ledger.record_upload([replace(landed(upload_id=f"u{hour}"), received_at=at)], declared={}, opens=[])
    assert [upload.id for upload in ledger.uploads()] == ["u1", "u2", "u3"]
    since = ledger.uploads(since=datetime(2026, 3, 1, 2, tzinfo=UTC))
    assert [upload.id for upload in since] == ["u2", "u3"]


def test_work_is_opened_once(ledger: Ledger) -> None:
    """Opening known work leaves it in the state it has."""
    assert ledger.open_work(STEP, "u1")
    assert not ledger.open_work(STEP, "u1")
    ledger.complete(ledger.claim(STEP, "u1"), DONE)
    assert not ledger.open_work(STEP, "u1")
    assert ledger.open_subjects(STEP) == []


def test_open_subjects_come_oldest_first(ledger: Ledger, clock: Callable[[], datetime]) -> None:
    """Nobody waits for ever, and one step's work is not another's."""
    for subject in ("u2", "u3", "u1"):
        ledger.open_work(STEP, subject)
        clock.advance(seconds=1)
    ledger.open_work("detect_clips", "c1")
    assert ledger.open_subjects(STEP) == ["u2", "u3", "u1"]


def test_claim_is_exclusive(ledger: Ledger) -> None:
    """Not even the holder claims twice, and what was never opened cannot be claimed."""
    claimed(ledger)
    assert ledger.claim(STEP, "u1") is None
    assert ledger.claim(STEP, "u2") is None
    assert ledger.open_subjects(STEP) == []


def test_lease_that_ran_out_frees_the_work(ledger: Ledger, clock: Callable[[], datetime]) -> None:
    """At its end the work is open again, and the try that did not end counts."""
    first = claimed(ledger)
    clock.advance(minutes=9, seconds=59)
    assert ledger.open_subjects(STEP) == []
    clock.advance(seconds=1)
    assert ledger.open_subjects(STEP) == ["u1"]
    second = ledger.claim(STEP, "u1")
    assert (first.attempts, second.attempts) == (1, 2)


def test_renewed_lease_lasts(ledger: Ledger, clock: Callable[[], datetime]) -> None:
    """Work longer than a lease stays with who renews."""
    claim = claimed(ledger)
    for _ in range(5):
        clock.advance(minutes=9)
        assert ledger.renew(claim)
    assert ledger.claim(STEP, "u1") is None


def test_successor_ends_the_earlier_claim(ledger: Ledger, clock: Callable[[], datetime]) -> None:
    """A worker that wakes up late can neither renew, fail nor complete over its successor."""
    late = claimed(ledger)
    clock.advance(hours=1)
    ledger.claim(STEP, "u1")
    before = ledger.work()
    assert not ledger.renew(late)
    assert not ledger.fail(late, "too late", retry=False)
    with pytest.raises(LeaseLost, match="ingest_footage of u1"):
        ledger.complete(late, DONE, clips=[clip()], opens=[("detect_clips", "c1")])
    assert before == ledger.work()
    assert ledger.clips() == []


def test_lease_nobody_took_can_still_be_used(ledger: Ledger, clock: Callable[[], datetime]) -> None:
    """A late result is as good as any while no other worker has begun."""
    late = claimed(ledger)
    clock.advance(hours=1)
    ledger.complete(late, DONE)
    assert [work.state for work in ledger.work()] == ["done"]


def test_completion_writes_everything_together(ledger: Ledger) -> None:
    """Outcome, clips, what became of each file and the next work are there after one call."""
    ledger.record_upload([landed("a.mp4"), landed("b.mp4")], declared={}, opens=[(STEP, "u1")])
    refused = FileOutcome(upload_id="u1", name="b.mp4", outcome=FileState.REFUSED, reason="not a video: \0")
    taken = FileOutcome(upload_id="u1", name="a.mp4", outcome=FileState.ACCEPTED, clip_id="c1")
    claim = ledger.claim(STEP, "u1")
    ledger.complete(claim, DONE, clips=[clip()], files=[taken, refused], opens=[("detect_clips", "c1")])

    (done,) = ledger.work(STEP)
    assert (done.state, done.outcome, done.error, done.lease_until) == ("done", DONE, None, None)
    assert ledger.require_clip("c1") == clip()
    assert ledger.open_subjects("detect_clips") == ["c1"]
    first, second = ledger.upload("u1").files
    assert (first.outcome, first.clip_id, first.reason) == ("accepted", "c1", None)
    assert (second.outcome, second.clip_id, second.reason) == ("refused", None, "not a video: \\0")


def test_completion_that_fails_writes_nothing(ledger: Ledger) -> None:
    """A file that never landed stops the whole, and the claim still stands."""
    claim = claimed(ledger)
    unknown = FileOutcome(upload_id="u1", name="ghost.mp4", outcome=FileState.ACCEPTED)
    with pytest.raises(ValueError, match=r"ghost\.mp4.*never recorded"):
        ledger.complete(claim, DONE, clips=[clip()], files=[unknown], opens=[("detect_clips", "c1")])
    assert ledger.clips() == []
    assert [work.state for work in ledger.work()] == ["claimed"]
    assert ledger.renew(claim)


def test_clip_registered_anew_replaces_itself(ledger: Ledger) -> None:
    """Better telemetry may change what is known of the same bytes."""
    ledger.complete(claimed(ledger, "u1"), DONE, clips=[clip(hour=12), clip("c0", hour=13)])
    better = [clip(hour=14, platform="H20T")]
    ledger.complete(claimed(ledger, "u2"), DONE, clips=better, replaces=[clip(hour=12)])
    assert [(found.id, found.platform) for found in ledger.clips()] == [("c0", "XT2"), ("c1", "H20T")]
    since = ledger.clips(since=datetime(2026, 3, 1, 14, tzinfo=UTC))
    assert [found.id for found in since] == ["c1"]
    until = ledger.clips(until=datetime(2026, 3, 1, 13, 59, tzinfo=UTC))
    assert [found.id for found in until] == ["c0"]


def test_clip_that_another_worker_registered_meanwhile_stands(ledger: Ledger) -> None:
    """Who thought a clip new, or another than it is by now, has lost; nothing of it is kept."""
    ledger.complete(claimed(ledger, "u1"), DONE, clips=[clip(hour=12)])
    late = claimed(ledger, "u2")
    for replaces in ([], [clip(hour=11)]):
        with pytest.raises(LeaseLost, match="c1"):
            ledger.complete(late, DONE, clips=[clip(hour=14)], replaces=replaces)
    assert ledger.clips() == [clip(hour=12)]


def test_what_follows_is_done_again_when_its_source_is(ledger: Ledger) -> None:
    """Completing a step opens what it opens again, and a worker still at that loses its claim."""
    ledger.complete(claimed(ledger, "u1"), DONE, opens=[("next", "c1")])
    busy = ledger.claim("next", "c1")
    assert busy is not None
    ledger.reopen(STEP, "u1")
    ledger.complete(claimed(ledger, "u1"), DONE, opens=[("next", "c1")])
    assert ledger.open_subjects("next") == ["c1"]
    with pytest.raises(LeaseLost):
        ledger.complete(busy, DONE)


@pytest.mark.parametrize(("retry", "state"), [(True, WorkState.OPEN), (False, WorkState.FAILED)])
def test_failure_is_kept_with_its_reason(ledger: Ledger, *, retry: bool, state: WorkState) -> None:
    """The last error stays visible, whether or not another try follows."""
    assert ledger.fail(claimed(ledger), DatabaseUnavailable("no \0 answer"), retry=retry)
    (work,) = ledger.work()
    assert (work.state, work.error) == (state, "DatabaseUnavailable: no \\0 answer")
    assert (work.attempts, work.lease_until) == (1, None)
    assert (ledger.claim(STEP, "u1") is not None) == retry


def test_reopened_work_starts_afresh(ledger: Ledger) -> None:
    """Ended work can be done again, counted from nothing; work under way is left alone."""
    assert not ledger.reopen(STEP, "u1")
    claim = claimed(ledger)
    assert not ledger.reopen(STEP, "u1")
    ledger.fail(claim, "broken", retry=False)
    assert ledger.reopen(STEP, "u1")
    (work,) = ledger.work()
    assert (work.state, work.attempts, work.error) == ("open", 0, None)
    second = ledger.claim(STEP, "u1")
    assert second.attempts == 1
    assert not ledger.renew(claim)
    assert ledger.renew(second)


def test_stale_work_is_released(ledger: Ledger, clock: Callable[[], datetime]) -> None:
    """A sweep opens what was left lying, says why, and leaves the rest."""
    claimed(ledger, "old")
    clock.advance(hours=1)
    claimed(ledger, "new")
    assert ledger.release_stale() == 1
    old, new = ledger.work()
    assert (old.state, new.state) == ("open", "claimed")
    assert old.error == f"the worker {worker_name()} stopped without an answer"
    assert ledger.release_stale() == 0


def test_work_is_listed_by_step_and_state(ledger: Ledger) -> None:
    """What a person asks for: all of it, one step's, what failed."""
    ledger.open_work("detect_clips", "c1")
    ledger.fail(claimed(ledger), "broken", retry=False)
    assert [work.subject for work in ledger.work()] == ["c1", "u1"]
    assert [work.subject for work in ledger.work("detect_clips")] == ["c1"]
    assert [work.subject for work in ledger.work(state=WorkState.FAILED)] == ["u1"]


def test_hold_renews_in_the_background(engine: Engine) -> None:
    """Work that takes several leases stays claimed."""
    worker = Ledger(engine, worker=worker_name(), lease=timedelta(seconds=0.6), now=lambda: datetime.now(UTC))
    claim = claimed(worker)
    with worker.hold(claim) as held:
        time.sleep(1.5)
        assert worker.claim(STEP, "u1") is None
        assert not held.lost
    worker.complete(claim, DONE)


def test_hold_says_when_the_claim_is_lost(engine: Engine, clock: Callable[[], datetime]) -> None:
    """A worker that slept through its lease learns that another has the work."""
    worker = Ledger(engine, worker=worker_name(), lease=timedelta(seconds=0.3), now=clock)
    claim = claimed(worker)
    clock.advance(hours=1)
    with worker.hold(claim) as held:
        assert worker.claim(STEP, "u1") is not None
        deadline = time.monotonic() + 10
        while not held.lost and time.monotonic() < deadline:
            time.sleep(0.02)
        assert held.lost


def test_hold_outlasts_an_absent_database(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal that fails is tried again: the claim is not given up for it."""
    claim = claimed(ledger)
    tries: list[int] = []

    def renew(_: Claim) -> bool:
        tries.append(1)
        if len(tries) < 3:
            raise DatabaseUnavailable("gone")
        return True

    monkeypatch.setattr(ledger, "renew", renew)
    monkeypatch.setattr(ledger_module, "RENEWALS_PER_LEASE", LEASE.total_seconds() * 100)
    with ledger.hold(claim) as held:
        deadline = time.monotonic() + 10
        while len(tries) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(tries) >= 4
    assert not held.lost


def test_processes_share_work_without_overlap(
    database_url: str, ledger: Ledger, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    """Four processes that race for 200 subjects claim each exactly once."""
    for number in range(200):
        ledger.open_work("race", f"{number:03}")
    processes = [start_python(CLAIM_ALL, database_url) for _ in range(4)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
    outputs = []
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        outputs.append(process.communicate(timeout=60)[0].split())
        assert process.returncode == 0
    won = Counter(subject for output in outputs for subject in output)
    assert won == {f"{number:03}": 1 for number in range(200)}
    assert sum(bool(output) for output in outputs) > 1, "the processes did not race"


def test_killed_process_frees_its_work_at_once(
    database_url: str, engine: Engine, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    """No waiting for the lease of a process that no longer lives, even before it is reaped."""
    ledger = Ledger(engine, worker=worker_name(), lease=LEASE, now=lambda: datetime.now(UTC))
    ledger.open_work("hang", "x")
    process = start_python(CLAIM_AND_HANG, database_url)
    assert process.stdout.readline().startswith("Claim(")
    assert ledger.open_subjects("hang") == []
    assert ledger.claim("hang", "x") is None

    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert ledger.open_subjects("hang") == ["x"]
    assert ledger.release_stale() == 1
    assert ledger.claim("hang", "x").attempts == 2


class LedgerMachine(RuleBasedStateMachine):
    """Two workers and a moving clock, against a model of one piece of work."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.engine = connect(f"sqlite:///{self.template}")
        with writing(self.engine) as connection:
            connection.execute(text("DELETE FROM work"))
        self.ledgers = [
            Ledger(self.engine, worker=f"w{number}", lease=LEASE, now=lambda: self.now) for number in (0, 1)
        ]
        self.claims: list[Claim] = []
        self.state: WorkState | None = None
        self.lease_until = self.now
        self.attempts = 0

    def stands(self, claim: Claim) -> bool:
        """Return whether the model holds a claim for valid."""
        return self.state is WorkState.CLAIMED and claim is self.claims[-1]

    @rule(minutes=st.integers(1, 12))
    def wait(self, minutes: int) -> None:
        """Let time pass."""
        self.now += timedelta(minutes=minutes)

    @rule()
    def open(self) -> None:
        """Open the work: only the first time does anything."""
        assert self.ledgers[0].open_work(STEP, "x") == (self.state is None)
        self.state = self.state or WorkState.OPEN

    @rule(number=st.integers(0, 1))
    def claim(self, number: int) -> None:
        """Claim as one of the workers."""
        claim = self.ledgers[number].claim(STEP, "x")
        free = self.state is WorkState.OPEN or (
            self.state is WorkState.CLAIMED and self.now >= self.lease_until
        )
        assert (claim is not None) == free
        if claim is not None:
            self.state, self.lease_until = WorkState.CLAIMED, self.now + LEASE
            self.attempts += 1
            self.claims.append(claim)

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        """Renew any claim ever made."""
        if self.claims:
            claim = data.draw(st.sampled_from(self.claims))
            assert self.ledgers[0].renew(claim) == self.stands(claim)
            if self.stands(claim):
                self.lease_until = self.now + LEASE

    @rule(data=st.data(), retry=st.booleans())
    def fail(self, data: st.DataObject, *, retry: bool) -> None:
        """Fail any claim ever made."""
        if self.claims:
            claim = data.draw(st.sampled_from(self.claims))
            assert self.ledgers[0].fail(claim, "broken", retry=retry) == self.stands(claim)
            if self.stands(claim):
                self.state = WorkState.OPEN if retry else WorkState.FAILED

    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        """Complete any claim ever made."""
        if self.claims:
            claim = data.draw(st.sampled_from(self.claims))
            if self.stands(claim):
                self.ledgers[0].complete(claim, DONE)
                self.state = WorkState.DONE
            else:
                with pytest.raises(LeaseLost):
                    self.ledgers[0].complete(claim, DONE)

    @rule()
    def reopen(self) -> None:
        """Open ended work again."""
        ended = self.state in {WorkState.DONE, WorkState.FAILED}
        assert self.ledgers[0].reopen(STEP, "x") == ended
        if ended:
            self.state, self.attempts = WorkState.OPEN, 0

    @rule()
    def release(self) -> None:
        """Release what is stale."""
        stale = self.state is WorkState.CLAIMED and self.now >= self.lease_until
        assert self.ledgers[0].release_stale() == stale
        if stale:
            self.state = WorkState.OPEN

    @invariant()
    def agrees(self) -> None:
        """The ledger and the model say the same."""
        found = [(work.state, work.attempts) for work in self.ledgers[0].work()]
        assert found == ([] if self.state is None else [(self.state, self.attempts)])

    def teardown(self) -> None:
        """Close the database."""
        self.engine.dispose()


@pytest.fixture
def ledger_machine(tmp_path: Path) -> Iterator[type[LedgerMachine]]:
    """Return the state machine with a database of its own."""
    LedgerMachine.template = tmp_path / "outwatch.db"
    engine = connect(f"sqlite:///{LedgerMachine.template}")
    migrate(engine)
    engine.dispose()
    yield LedgerMachine
    del LedgerMachine.template


def test_ledger_keeps_to_its_model(ledger_machine: type[LedgerMachine]) -> None:
    """Whatever two workers do in whatever order, one at most holds the work."""
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    quick = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(ledger_machine, settings=quick)
