"""The faults. A refusal at the door is a value (`values.Deny`); a fault is one of these.

Every message says where, what was expected and what came, in one line.
No handler of any of these may unlock the door.
"""

from __future__ import annotations


class DoordError(Exception):
    """Anything doord raises on purpose."""


class ConfigError(DoordError, ValueError):
    """The configuration can't be used; the daemon exits with 78 (sysexits EX_CONFIG)."""


class LineError(DoordError, OSError):
    """A door line can't be claimed or driven."""


class HangError(DoordError, RuntimeError):
    """A thread does not come back from native code: only another process can go on."""


class DutyExceeded(LineError):
    """The lock was unlocked for too long in this hour; nothing moved."""


class ModelError(DoordError, RuntimeError):
    """A model file is missing, altered, or fails its known-answer test."""


class DelegateError(ModelError):
    """A delegate can't be had or does not prove itself; the CPU runs the model."""


class CameraError(DoordError, OSError):
    """A camera can't be opened, stalls, or delivers something that is no picture."""


class ClipEnded(CameraError):
    """A file camera has shown its last picture (simulation only)."""


class ImageError(DoordError, ValueError):
    """A picture file can't be read."""


class DatasetError(DoordError, ValueError):
    """A pairs file or picture folder that nothing can be measured on."""


class GalleryError(DoordError, RuntimeError):
    """The gallery can't be read or written; the one in force stays in force."""


class GalleryBusy(GalleryError):
    """Another process holds the state directory."""


class ModelMismatch(GalleryError):
    """Templates and probes come from different embedders and can't be compared."""


class GallerySignatureError(GalleryError):
    """What was published is not signed as the site's trust root asks, or not what was signed."""


class GalleryRollback(GalleryError):
    """What was published is older than what this door has accepted before."""


class GalleryExpired(GalleryError):
    """What was published is signed, but its time is over: nobody has signed it again."""


class GalleryNotStored(GalleryError):
    """The disk refuses what was published: full, read-only, or worn out."""


class GalleryKeyError(GalleryError):
    """The gallery's key is missing, malformed, readable by others, or not this gallery's."""


class LedgerError(DoordError, OSError):
    """The door's record of events can't be read or written now; tried again."""


class LedgerDamaged(LedgerError):
    """It will never be readable again: it is set aside, and another begun."""


class PayloadError(DoordError, ValueError):
    """Foreign bytes (broker, socket) that are not what the contract says."""


class NotSigned(PayloadError):
    """A message that no key signed that may, or that is not what was signed."""


class LogError(DoordError, ValueError):
    """What was asked of the record of events can't be told."""


class LinkError(DoordError, ConnectionError):
    """The broker can't be reached; tried again for ever."""


class EnrolmentError(DoordError, ValueError):
    """A photograph was not enrolled; the gallery is unchanged."""


class NoFace(EnrolmentError):
    """No face was found."""


class ManyFaces(EnrolmentError):
    """More than one face was found, so whose template it would be is not certain."""


class LowQuality(EnrolmentError):
    """The face is too small, blurred, dark, bright, or turned away."""


class AlreadyEnrolled(EnrolmentError):
    """The same photograph is already a template of this subject."""


class LooksLikeAnother(EnrolmentError):
    """The face is already enrolled under another subject."""


class TuningRefused(DoordError, ValueError):
    """What was recorded does not support a tune, or is of another camera; what was in force stays."""


class CardError(DoordError, ValueError):
    """A card's number or format that no reader can report, or a card that is not there."""


class ReaderError(DoordError, OSError):
    """A card reader can't be opened, or was unplugged; tried again."""


class AdminError(DoordError, ValueError):
    """What an admin asked for can't be done; nothing was changed."""


class TableError(AdminError):
    """A CSV file with mistakes: one a line of the message. Nothing of it was taken."""
