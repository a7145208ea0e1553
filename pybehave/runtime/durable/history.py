"""A journal's history, stepped again beside it: nothing is locked, written or sent.

Used by `pybehave replay`. It begins with the oldest snapshot that the wanted lsn allows and goes
forwards from there; going backwards is going forwards again from the snapshot.

Does not know: how history is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, Final, final

from pybehave._uring import blocks
from pybehave._uring.loop import Loop
from pybehave._uring.values import Values
from pybehave.behaviours.application import Application, ensure_all
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.schema import Schema
from pybehave.behaviours.supervisor import workers
from pybehave.config import Config, loader
from pybehave.errors import JournalRefused
from pybehave.journal import reader
from pybehave.journal.codec import Codec, Coder
from pybehave.journal.export import snapshots_of
from pybehave.journal.marks import Marks
from pybehave.journal.reader import Stop
from pybehave.journal.segments import held
from pybehave.journal.snapshot import Snapshot
from pybehave.runtime.durable.replay import Replay
from pybehave.runtime.optional import load_optional
from pybehave.runtime.servers import make_values

LSN_MAX: Final = 2**64 - 1


@final
class History:
    """The servers of an application as a journal says they were.

    Args:
        app: Whose code steps the inputs.
        path: The journal's folder.
        to: The history goes no further than this lsn.
        is_strict: Stop at the first outcome that differs.
        codec: What it is opened with.
        schema: How what an older version has written is read; see Replay.
        config: What the application is configured with; None: nothing.

    Attributes:
        names: Of the journaled servers.
        lsn: How far it has come.
        last_lsn: Where the journal ends, or a damage cuts off what is behind it.

    Raises:
        JournalRefused: The journal cannot be read.
        CodecRefused: It cannot be read without other codecs or keys.
        ConfigError: A key or a value is not allowed.
        NonDeterminism: An outcome differs (strict).
    """

    def __init__(
        self,
        app: Application,
        path: str,
        to: int = LSN_MAX,
        *,
        is_strict: bool = True,
        codec: Iterable[Codec] = (),
        schema: Callable[[str, Any], Schema] = Schema,
        config: Config | None = None,
    ) -> None:
        config = config or Config()
        self.loop = Loop("epoll")
        self.node = SimpleNamespace(loop=self.loop)
        self._values: dict[str, Values] = {}
        apps = ensure_all(config.configured(app), loader(load_optional, config))
        specs = {w.name: w for each in apps for w in workers(each.tree) if w.journal}
        self.names = tuple(specs)
        with held(path, codec) as (self.manifest, segments):  # a node may remove them meanwhile
            self._pieces = self._read(segments)
            snapshots = snapshots_of(path, self.manifest, codec)
        self.coder = Coder(codec, self.manifest.journal_id)
        self.loop.dispatcher.seed = int.from_bytes(self.manifest.journal_id[:8], "little")
        found = [
            mark
            for segment, _, block in self._pieces
            for mark in blocks.find_marks(
                segment.content, self.manifest.journal_id, block, self.coder
            )
        ]
        marks = Marks(found)
        self._failed = [(lsn, number) for kind, lsn, number, _ in found if kind == reader.INPUT]
        self.replay = Replay(
            self,
            specs,
            is_strict=is_strict,
            skipped=marks.skipped,
            forgotten=marks.forgotten,
            schema=schema,
        )
        self.lsn = self._begin(path, snapshots, to)
        self.last_lsn = self._reached()

    def _read(self, found: list[reader.Segment]) -> list[tuple[reader.Segment, int, int]]:
        """Segments, the first lsn behind each, and the first block behind it."""
        pieces = []
        for index, segment in enumerate(found):
            follower = found[index + 1].header if index + 1 < len(found) else None
            lsn, block = segment.header.first_lsn, 2
            for frame in segment.frames(follower.before_seq if follower is not None else None):
                if isinstance(frame, Stop):
                    break
                lsn, block = frame.first_lsn + frame.records, frame.block + frame.blocks
            pieces.append((segment, lsn, block))
        return pieces

    def _begin(self, path: str, snapshots: list[Snapshot], to: int) -> int:
        """With the newest sound snapshot that is old enough, as a start does, or from lsn 1."""
        for found in snapshots:
            if found.lsn <= to:
                self.replay.begin(found)
                return found.lsn
        first_lsn = self._pieces[0][0].header.first_lsn if self._pieces else 1
        if first_lsn > 1:
            what = "no snapshot can be read"
            if snapshots:
                what = f"lsn {to} is older than the oldest snapshot, and what came before is gone"
            raise JournalRefused(path, f"{what}; the segments begin with lsn {first_lsn}")
        return 0

    def _reached(self) -> int:
        """How far one piece follows the other; what is behind a gap was made of what is lost."""
        lsn = self.lsn
        for segment, end, _ in self._pieces:
            if segment.header.first_lsn > lsn + 1:
                break
            lsn = max(lsn, end - 1)
        return lsn

    def advance(self, to: int) -> None:
        """Step everything up to an lsn."""
        to = min(to, self.last_lsn)
        for segment, end, block in self._pieces:
            if end > self.lsn + 1 and segment.header.first_lsn <= to:
                self.replay.replayer.feed(
                    segment.content, self.manifest.journal_id, block, self.lsn + 1, to
                )
        self.lsn = max(self.lsn, to)

    def states(self) -> dict[str, Any]:
        """The servers' states, by name."""
        open_ = {number for lsn, number in self._failed if lsn > self.lsn}
        return {name: known.state for name, known in self.replay.known(but=open_).items()}

    def close(self) -> None:
        """Let everything go."""
        self.loop.close()

    # --- what Replay asks of a journal ---------------------------------------------------------

    def set_number(self, name: str, number: int) -> None:
        """Numbers are of no interest here."""

    def drop_number(self, name: str) -> None:
        """Nor is that one has no owner any more."""

    def values_of(self, worker: Worker[Any, Any], instance: Any) -> Values:
        """What decodes a server's inputs."""
        found = self._values.get(worker.name)
        if found is None:
            found = self._values[worker.name] = make_values(worker.name, instance)
        return found
