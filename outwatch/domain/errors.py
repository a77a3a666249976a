"""The one tree of errors. Adapters translate library errors into it at the edge.

    OutwatchError
    ├── TransientError            worth another try: Airflow retries, the CLI says "try again"
    │   ├── StoreUnavailable      the object store did not answer
    │   ├── DatabaseUnavailable   the ledger did not answer
    │   ├── FeedTimeout           a source or child process stopped giving data
    │   ├── DeliveryFailed        a channel did not take a message this time
    │   ├── UploadInterrupted     the link or the server broke an upload off; what came is kept
    │   ├── NoRoom                a disk or a quota has no room now
    │   └── LeaseLost             another worker took the work over meanwhile
    └── PermanentError            the same input fails the same way: a person must act
        ├── CorruptClip           not decodable as video, or nothing in it is
        ├── UnsupportedFormat     a format, codec or size that is not on the allow-list
        ├── TelemetryInvalid      telemetry that cannot be parsed or belongs to another flight
        ├── ConfigInvalid         a setting, outpost file or camera table entry is wrong
        ├── KeyInvalid            an object key that must not be used
        ├── ObjectMissing         a key that is not in the store
        ├── ObjectExists          a conditional create found the key taken
        ├── AccessDenied          the store or a channel refused our credentials
        ├── ModelUnavailable      weights or runtime for a model are not there
        ├── CorrectionRefused     known points from which no correction of a flight follows
        ├── PackageRefused        a package, or a file of it, is not what it says it is
        │   └── PackageTooLarge   it is more than is ever taken
        ├── DecisionRefused       a person's word on incidents or the baseline that cannot stand
        └── DeliveryRefused       a channel will never take this message (4xx, redirect)

Belongs here: error classes. Not here: handling; Airflow, CLI and console each map the tree once.
"""

from __future__ import annotations


class OutwatchError(Exception):
    """Anything that Outwatch itself raises; the message names the thing and what to do."""


class TransientError(OutwatchError):
    """A failure that may pass by itself."""


class PermanentError(OutwatchError):
    """A failure that will come again until a person changes something."""


class StoreUnavailable(TransientError):
    """The object store did not answer."""


class DatabaseUnavailable(TransientError):
    """The ledger's database did not answer."""


class FeedTimeout(TransientError):
    """A source or a child process stopped giving data."""


class DeliveryFailed(TransientError):
    """A channel did not take a message this time."""


class UploadInterrupted(TransientError):
    """The link or the server broke an upload off; what came is kept."""


class NoRoom(TransientError):
    """A disk or a quota has no room for new work now; what has come is kept."""


class LeaseLost(TransientError):
    """Another worker took the work over meanwhile; what this one did counts for nothing."""


class CorruptClip(PermanentError):
    """The file does not decode as video."""


class UnsupportedFormat(PermanentError):
    """The format, codec or frame size is not on the allow-list."""


class TelemetryInvalid(PermanentError):
    """The telemetry cannot be parsed, or belongs to another flight."""


class ConfigInvalid(PermanentError):
    """A setting, an outpost or a camera is wrong."""


class KeyInvalid(PermanentError):
    """The object key must not be used."""


class ObjectMissing(PermanentError):
    """The key is not in the store."""


class ObjectExists(PermanentError):
    """A conditional create found the key taken."""


class AccessDenied(PermanentError):
    """The store or a channel refused our credentials."""


class ModelUnavailable(PermanentError):
    """The weights or the runtime of a model are not there."""


class CorrectionRefused(PermanentError):
    """From the known points no correction of a flight follows."""


class PackageRefused(PermanentError):
    """A package, or a file of it, is not what it says it is."""


class PackageTooLarge(PackageRefused):
    """A package, or a file of it, is more than is ever taken."""


class DecisionRefused(PermanentError):
    """What a person decided cannot stand; the message says why and what can."""


class DeliveryRefused(PermanentError):
    """A channel will never take this message."""
