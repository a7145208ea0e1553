# cython: language_level=3, binding=True
"""The newest records in pages of a file, where they outlive the process.

Records wait in the journal's buffers for the disk, and a process that is killed takes them with
it. A reply at the level "os" is promised to survive that. So before it leaves, all records up to
its own are copied here: into shared pages of a file, which are the kernel's. That is a copy and a
hash in memory, no system call. A start after a kill finds what the disk does not have yet, and
records it again under the same lsns; a power cut may take it, and then nothing more was promised.

The file is two areas of chunks, used in turn. A chunk is 40 bytes of header and a run of records:

    0 magic   8 lsn of the first   16 records (4)   20 bytes (4)   24 flags   32 hash of it all

Codecs make of a run what they make of a frame's body; then the flag is set.

An area is full of what is durable by now, mostly: then what is not is written to the other area,
from its beginning, in one piece.

Invariants
  (T1) A chunk counts if its hash is right, and its lsn is not before the end of the one before it
       in its area: behind the newest stand remains of older rounds.
  (T2) The area left is not touched before the other has been left in turn. By then what it held is
       durable, or was copied.
  (T3) The hash is seeded by the journal's id: the tail of another journal is none.

Does not know: levels, when something is to be kept (commit.pyx), how it is taken over (runtime).
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from .commit cimport RECORD_FORGET, RECORD_SKIP, segment_record, segment_record_read

cdef extern from "segment.h" nogil:
    uint64_t segment_hash64(const void *, size_t, uint64_t)

cdef uint64_t MAGIC = 0x0a6c696174766270 # "pbvtail\n"
cdef uint64_t HEADER_BYTES = 40
cdef uint64_t HASH_AT = 32
cdef uint64_t CODED = 1


cdef struct chunk:
    uint64_t magic
    uint64_t lsn
    uint32_t records
    uint32_t bytes
    uint64_t flags
    uint64_t hash


cdef uint64_t hash_of(const chunk *head, const uint8_t *body, uint64_t seed) noexcept nogil:
    return segment_hash64(body, head.bytes, segment_hash64(head, HASH_AT, seed))


cdef uint64_t seed_of(bytes journal_id):
    return segment_hash64(<const char *>journal_id, len(journal_id), 0)


@cython.final
cdef class Tail:
    """What writes it; whatever was there is durable elsewhere.

    Args:
        pages: Of the file: two areas of the same size.
        journal_id: Whose tail it is.
        lsn: Everything before it is durable, and so are the records that are in the pages now.
        coder: What encodes a run, or None.
    """

    def __init__(self, uint8_t[::1] pages, bytes journal_id, uint64_t lsn, coder=None):
        self.pages = pages
        self.area_bytes = pages.shape[0] // 2
        assert self.area_bytes >= HEADER_BYTES
        assert self.area_bytes % 8 == 0
        self.seed = seed_of(journal_id)
        self.next_lsn = lsn
        self.coder = coder

    cdef bint put(self, const uint8_t *body, uint64_t size, uint64_t lsn,
                  uint32_t records) except -1:
        """Append a run of records; False = the area has no room."""
        cdef bytes made
        if self.coder is None:
            return self._put(body, size, lsn, records, 0)
        made = self.coder.encode((<char *>body)[:size], "tail", lsn, records)
        return self._put(made, len(made), lsn, records, CODED)

    cdef bint _put(self, const uint8_t *body, uint64_t size, uint64_t lsn, uint32_t records,
                   uint64_t flags) except -1:
        cdef chunk head
        cdef uint8_t *place
        if self.at + HEADER_BYTES + size > self.area_bytes:
            return False
        assert lsn >= self.next_lsn or self.at == 0 # (T1)
        place = &self.pages[self.area * self.area_bytes + self.at]
        memset(&head, 0, sizeof(head))
        head.magic = MAGIC
        head.lsn = lsn
        head.records = records
        head.bytes = <uint32_t>size
        head.flags = flags
        head.hash = hash_of(&head, body, self.seed)
        memcpy(place + HEADER_BYTES, body, size)
        memcpy(place, &head, HEADER_BYTES)
        self.at += HEADER_BYTES + (size + 7) // 8 * 8
        self.next_lsn = lsn + records
        return True

    cdef int turn_over(self) except -1:
        """Begin the other area: what is not durable is to be put there next (T2)."""
        self.area = 1 - self.area
        self.at = 0
        return 0


def read_tail(const uint8_t[::1] pages, bytes journal_id, uint64_t last_lsn, coder) -> list:
    """The records behind an lsn that a tail has, without a gap.

    Args:
        last_lsn: The last one that the segments have.
        coder: Opens what codecs have made.

    Returns:
        Runs of records, each (lsn of the first, how many, their bytes).

    Raises:
        CodecRefused: One of them cannot be read without other codecs or keys.
    """
    cdef uint64_t half = pages.shape[0] // 2
    cdef uint64_t seed = seed_of(journal_id)
    found = _chunks(&pages[0], half, seed) + _chunks(&pages[half], half, seed)
    runs = []
    for lsn, records, flags, body in sorted(found, key=_first_and_most):
        if lsn > last_lsn + 1:
            break
        if lsn + records <= last_lsn + 1:
            continue
        if flags:
            body = coder.decode(body, "tail", lsn, records)
        runs.append((last_lsn + 1, lsn + records - last_lsn - 1,
                     _behind(body, records, last_lsn + 1 - lsn)))
        last_lsn = lsn + records - 1
    return runs


def tail_end(const uint8_t[::1] pages, bytes journal_id, uint64_t last_lsn):
    """The last lsn that a tail leads to from another one; no codec is needed.

    Returns:
        None when there is a gap: what is behind it goes on from somewhere else.
    """
    cdef uint64_t half = pages.shape[0] // 2
    cdef uint64_t seed = seed_of(journal_id)
    found = _chunks(&pages[0], half, seed) + _chunks(&pages[half], half, seed)
    for lsn, records, _, _ in sorted(found, key=_first_and_most):
        if lsn > last_lsn + 1:
            return None
        last_lsn = max(last_lsn, lsn + records - 1)
    return last_lsn


def _first_and_most(run):
    return run[0], -run[1]


cdef list _chunks(const uint8_t *area, uint64_t size, uint64_t seed):
    """(T1)"""
    cdef chunk head
    cdef uint64_t at = 0, lsn = 0
    found = []
    while at + HEADER_BYTES <= size:
        memcpy(&head, area + at, HEADER_BYTES)
        if head.magic != MAGIC or head.lsn < lsn or head.flags & ~CODED \
                or head.bytes > size - at - HEADER_BYTES:
            break
        if head.hash != hash_of(&head, area + at + HEADER_BYTES, seed):
            break
        body = PyBytes_FromStringAndSize(<char *>area + at + HEADER_BYTES, head.bytes)
        found.append((head.lsn, head.records, head.flags, body))
        lsn = head.lsn + head.records
        at += HEADER_BYTES + (<uint64_t>head.bytes + 7) // 8 * 8
    return found


def _behind(const uint8_t[::1] body, uint32_t records, uint32_t count) -> bytes:
    """A run without its first records."""
    cdef segment_record record
    cdef size_t at = 0
    cdef uint32_t index
    for index in range(count):
        at += segment_record_read(&body[at], body.shape[0] - at, &record)
    return PyBytes_FromStringAndSize(<char *>&body[0] + at, body.shape[0] - at)


def marks_in(const uint8_t[::1] body, uint64_t lsn, uint32_t records) -> list:
    """SKIP and FORGET records of a run that begins with an lsn, as `blocks.find_marks` has them."""
    cdef segment_record record
    cdef size_t at = 0
    cdef uint32_t index
    found = []
    for index in range(records):
        at += segment_record_read(&body[at], body.shape[0] - at, &record)
        if record.type == RECORD_SKIP or record.type == RECORD_FORGET:
            found.append((record.type, lsn + index, record.server,
                          (<char *>record.payload)[:record.payload_bytes]))
    return found
