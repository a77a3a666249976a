"""The steps of the pipeline, one function each: named inputs in, computed keys out.

Every step claims its subject in the ledger, writes data objects first and the ledger row last, and
may be run again at any time: the same inputs give the same keys with the same content. Belongs
here: the list of steps and their functions. Not here: the frame around them (``work.py``), what they do
(the modules beside this one), and who asks for a step (a DAG, the CLI).
"""

from __future__ import annotations

from outwatch.domain.types import Outcome
from outwatch.pipeline.alerts import deliver_alerts, raise_alerts, window_events
from outwatch.pipeline.detection import clip_notes, detect_clips, detect_parts
from outwatch.pipeline.events import publish_events
from outwatch.pipeline.incidents import join_incidents
from outwatch.pipeline.registration import register_upload
from outwatch.pipeline.wiring import Pipeline
from outwatch.pipeline.work import MAX_ATTEMPTS, Done, Job, open_subjects, perform, summary

__all__ = [
    "MAX_ATTEMPTS",
    "STEPS",
    "clip_notes",
    "deliver_alerts",
    "detect_clips",
    "detect_parts",
    "ingest_footage",
    "join_incidents",
    "open_subjects",
    "publish_events",
    "raise_alerts",
    "summary",
    "window_events",
]

STEPS = (
    "ingest_footage",
    "detect_clips",
    "detect_parts",
    "publish_events",
    "write_readings",
    "publish_sensor_events",
    "join_incidents",
    "send_alerts",
)
"""The steps in the order in which data passes them; each opens the next in the ledger."""


def ingest_footage(pipeline: Pipeline, upload_id: str) -> Outcome:
    """Register one upload: each clip to ``footage/``, each refused file to ``quarantine/``."""

    def work(job: Job) -> Done:
        registered = register_upload(
            pipeline, upload_id, folder=job.folder, last_try=job.last_try, confirm=job.confirm
        )
        opens = tuple(("detect_clips", clip.id) for clip in registered.clips)
        outcome = Outcome(
            "ingest_footage", upload_id, tuple(registered.outputs), registered.counts, notes=registered.notes
        )
        return Done(outcome, opens, registered)

    return perform(pipeline, "ingest_footage", upload_id, work)
