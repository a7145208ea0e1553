# cython: language_level=3, binding=True
"""The journal's blocks for Python: manifests, segment headers, and walks over frames.

Everything is checked here and nothing is trusted (segment.h, G2 and G3). A walk goes through the
frames of one segment as recovery does (docs/journal-format.md, section 7, step 4) and stops at the
first thing that is not as it should be.

Does not know: files, what a stop means (pybehave/journal/recovery.py decides).
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from .commit cimport (
    FEATURE_CODED, FRAME_CODED, FRAME_HEADER_BYTES, MANIFEST_SLOT_BYTES, RECORD_FORGET,
    RECORD_INPUT, RECORD_SKIP, SEGMENT_BLOCK, SEGMENT_CLOSE, SEGMENT_DATA,
    SEGMENT_HEADER_BLOCKS, SEGMENT_NEWER, SEGMENT_NOT_ONE, SEGMENT_SEAL, SEGMENT_SOUND,
    journal_hash, manifest, manifest_read, manifest_write, segment_blocks_bytes, segment_frame,
    segment_frame_check, segment_frame_read, segment_header, segment_header_read,
    segment_header_write, segment_record, segment_record_read,
)

from pybehave.errors import JournalRefused

cdef enum:
    KIND_CONTINUE = 4 # INPUT_CONTINUE of servers.pxd

import collections

Manifest = collections.namedtuple("Manifest", (
    "id counter epoch oldest current segment_bytes depth durable_seq durable_lsn is_clean "
    "snapshots replay_lsn replay_attempts features"
), defaults=(0,))
Header = collections.namedtuple("Header", (
    "id number epoch first_seq first_lsn before before_seq chain before_end bytes made_ns features"
), defaults=(0,))
Walked = collections.namedtuple("Walked", (
    "frames records block seq lsn chain durable_seq time_ns end problem"
))

BLOCK = SEGMENT_BLOCK
CODED = FEATURE_CODED
END_NONE, END_SEAL, END_CLOSE = 0, SEGMENT_SEAL, SEGMENT_CLOSE

PROBLEMS = {
    0: "no room for another frame",
    1: "zeros",
    2: "no frame header",
    3: "a frame of another segment, place or turn",
    4: "the chain is broken",
    5: "the body's hash is wrong",
    6: "the padding is not zero",
    7: "the frame reaches behind the segment's end",
    8: "the frame's record numbers do not follow",
    9: "a frame of another epoch",
}


cdef bytes hash_bytes(const journal_hash *hash):
    return (<char *>hash.bytes)[:16]


cdef int set_hash(journal_hash *to, bytes value) except -1:
    if len(value) != 16:
        raise ValueError("a hash has 16 bytes")
    memcpy(to.bytes, <const uint8_t *>value, 16)
    return 0


def pack_manifest(value) -> bytes:
    """A manifest slot, both copies."""
    cdef manifest m
    cdef uint8_t[8192] out
    memset(&m, 0, sizeof(m))
    set_hash(&m.id, value.id)
    m.counter = value.counter
    m.epoch = value.epoch
    m.oldest = value.oldest
    m.current = value.current
    m.segment_bytes = value.segment_bytes
    m.depth = value.depth
    m.durable_seq = value.durable_seq
    m.durable_lsn = value.durable_lsn
    m.flags = 1 if value.is_clean else 0
    for index, (lsn, hash) in enumerate(value.snapshots):
        m.snapshot_lsn[index] = lsn
        set_hash(&m.snapshot_hash[index], hash)
    m.replay_lsn = value.replay_lsn
    m.replay_attempts = value.replay_attempts
    m.features = value.features
    manifest_write(&m, out)
    return (<char *>out)[:MANIFEST_SLOT_BYTES]


def unpack_manifest(const uint8_t[::1] block):
    """The Manifest of a block, or None when it is not a sound one.

    Raises:
        JournalRefused: A newer version wrote it.
    """
    cdef manifest m
    cdef int problem
    if block.shape[0] < SEGMENT_BLOCK:
        return None
    problem = manifest_read(&block[0], &m)
    if problem == SEGMENT_NEWER:
        raise JournalRefused("MANIFEST", "a newer version of pybehave wrote it; use that one")
    if problem != SEGMENT_SOUND:
        return None
    snapshots = tuple(
        (m.snapshot_lsn[index], hash_bytes(&m.snapshot_hash[index])) for index in range(2)
    )
    return Manifest(
        hash_bytes(&m.id), m.counter, m.epoch, m.oldest, m.current, m.segment_bytes, m.depth,
        m.durable_seq, m.durable_lsn, bool(m.flags & 1), snapshots, m.replay_lsn,
        m.replay_attempts, m.features,
    )


def pack_header(value) -> bytes:
    """A segment's header, both copies."""
    cdef segment_header h
    cdef uint8_t[8192] out
    memset(&h, 0, sizeof(h))
    set_hash(&h.id, value.id)
    set_hash(&h.chain, value.chain)
    h.number = value.number
    h.epoch = value.epoch
    h.first_seq = value.first_seq
    h.first_lsn = value.first_lsn
    h.before = value.before
    h.before_seq = value.before_seq
    h.before_end = value.before_end
    h.bytes = value.bytes
    h.made_ns = value.made_ns
    h.features = value.features
    segment_header_write(&h, out)
    return (<char *>out)[:SEGMENT_HEADER_BLOCKS * SEGMENT_BLOCK]


def unpack_header(const uint8_t[::1] block):
    """The Header of a block, or None when it is not a sound one.

    Raises:
        JournalRefused: A newer version wrote it.
    """
    cdef segment_header h
    cdef int problem
    if block.shape[0] < SEGMENT_BLOCK:
        return None
    problem = segment_header_read(&block[0], &h)
    if problem == SEGMENT_NEWER:
        raise JournalRefused("segment", "a newer version of pybehave wrote it; use that one")
    if problem != SEGMENT_SOUND:
        return None
    return Header(
        hash_bytes(&h.id), h.number, h.epoch, h.first_seq, h.first_lsn, h.before, h.before_seq,
        hash_bytes(&h.chain), h.before_end, h.bytes, h.made_ns, h.features,
    )


cdef int problem_of(const uint8_t *at, size_t left, const segment_frame *frame, uint64_t segment,
                    uint64_t epoch, uint64_t block, uint64_t seq, uint64_t lsn,
                    const journal_hash *chain) nogil:
    cdef uint64_t bytes = segment_blocks_bytes(FRAME_HEADER_BYTES + <uint64_t>frame.body_bytes)
    cdef int problem
    if frame.segment != segment or frame.block != block or frame.seq != seq:
        return 3
    if frame.epoch != epoch: # every epoch begins a segment of its own (F-28)
        return 9
    if memcmp(frame.chain.bytes, chain.bytes, 16) != 0:
        return 4
    if bytes > left:
        return 7
    if frame.first_lsn != lsn:
        return 8
    problem = segment_frame_check(at, frame)
    if problem != SEGMENT_SOUND:
        return 5 if problem == -4 else 6
    return -1


def walk(const uint8_t[::1] segment, header, uint64_t last_seq=0xffffffffffffffff, start=None):
    """Go through a segment's frames while they are as they should be, to `last_seq` at most.

    Args:
        start: How far an earlier walk had come (a Walked): this one goes on there.

    Returns:
        Walked: how many frames and records; the first block, seq and lsn behind them; the chain,
        the highest durable seq that any of them claims, the latest time; how the segment ends
        (0, SEAL or CLOSE), and a key of PROBLEMS.
    """
    cdef segment_frame frame
    cdef journal_hash id, chain
    cdef uint64_t block = SEGMENT_HEADER_BLOCKS
    cdef uint64_t blocks = segment.shape[0] // SEGMENT_BLOCK
    cdef uint64_t seq = header.first_seq
    cdef uint64_t lsn = header.first_lsn
    cdef uint64_t number = header.number
    cdef uint64_t epoch = header.epoch
    cdef uint64_t frames = 0, records = 0, durable_seq = 0, time_ns = 0
    cdef int end = 0, problem = 0
    cdef const uint8_t *base = &segment[0]
    cdef const uint8_t *at
    set_hash(&id, header.id)
    set_hash(&chain, header.chain)
    if start is not None:
        if start.end:
            return start
        frames, records, block, seq, lsn, _, durable_seq, time_ns, _, _ = start
        set_hash(&chain, start.chain)
    with nogil:
        while block < blocks and seq <= last_seq:
            at = base + block * SEGMENT_BLOCK
            if segment_frame_read(at, &id, &frame) != SEGMENT_SOUND:
                problem = 1 if is_zero_block(at) else 2
                break
            problem = problem_of(at, (blocks - block) * SEGMENT_BLOCK, &frame, number, epoch,
                                 block, seq, lsn, &chain)
            if problem >= 0:
                break
            problem = 0
            frames += 1
            records += frame.records
            lsn += frame.records
            seq += 1
            block += segment_blocks_bytes(
                FRAME_HEADER_BYTES + <uint64_t>frame.body_bytes) // SEGMENT_BLOCK
            chain = frame.body_hash
            durable_seq = max(durable_seq, frame.durable_seq)
            time_ns = max(time_ns, frame.time_ns)
            if frame.type != SEGMENT_DATA:
                end = frame.type
                break
    return Walked(frames, records, block, seq, lsn, hash_bytes(&chain), durable_seq, time_ns, end,
                  problem)


cdef bint is_zero_block(const uint8_t *at) noexcept nogil:
    return at[0] == 0 and memcmp(at, at + 1, SEGMENT_BLOCK - 1) == 0


def is_zero(const uint8_t[::1] data) -> bool:
    """Whether there is nothing in these bytes."""
    cdef size_t count = data.shape[0]
    cdef const uint8_t *at
    cdef bint found
    if count == 0:
        return True
    at = &data[0]
    with nogil: # megabytes of it, while another thread steps
        found = at[0] == 0 and memcmp(at, at + 1, count - 1) == 0
    return found


def claims(const uint8_t[::1] segment, header, uint64_t block) -> tuple:
    """What frame headers from this block on say, sound bodies or not.

    Returns:
        (highest seq, highest durable seq) of all sound headers of this segment; 0 = none.
    """
    cdef segment_frame frame
    cdef journal_hash id
    cdef uint64_t blocks = segment.shape[0] // SEGMENT_BLOCK
    cdef uint64_t number = header.number
    cdef uint64_t seq = 0, durable_seq = 0
    cdef const uint8_t *base = &segment[0]
    set_hash(&id, header.id)
    with nogil:
        while block < blocks:
            if segment_frame_read(base + block * SEGMENT_BLOCK, &id, &frame) == SEGMENT_SOUND \
                    and frame.segment == number and frame.block == block:
                seq = max(seq, frame.seq)
                durable_seq = max(durable_seq, frame.durable_seq)
            block += 1
    return seq, durable_seq


def last_used_block(const uint8_t[::1] segment, uint64_t block) -> int:
    """The first block behind the last one that is not zero, from `block` on."""
    cdef uint64_t last = segment.shape[0] // SEGMENT_BLOCK
    cdef const uint8_t *base = &segment[0]
    with nogil:
        while last > block and is_zero_block(base + (last - 1) * SEGMENT_BLOCK):
            last -= 1
    return last


cdef bytes open_body(const segment_frame *frame, const uint8_t *at, coder):
    """The records of a frame whose body codecs have made (pybehave/journal/codec.py)."""
    return coder.decode_frame(frame.epoch, frame.seq, frame.first_lsn, frame.records, frame.time_ns,
                              (<char *>at)[FRAME_HEADER_BYTES:FRAME_HEADER_BYTES
                                           + <uint64_t>frame.body_bytes])


def find_marks(const uint8_t[::1] segment, bytes journal_id, uint64_t block_end, coder,
               uint64_t block=SEGMENT_HEADER_BLOCKS) -> list:
    """Records that say something of those before them (SKIP, FORGET, a continue that failed), in a
    segment that is sound up to a block: (type, lsn, server, payload) of each, from `block` on.

    Raises:
        CodecRefused: A frame cannot be read without other codecs or keys.
    """
    cdef const uint8_t *at
    cdef segment_frame frame
    cdef segment_record record
    cdef journal_hash id
    cdef size_t left, size
    cdef uint64_t lsn
    cdef bytes opened
    found = []
    set_hash(&id, journal_id)
    while block < block_end:
        at = &segment[0] + block * SEGMENT_BLOCK
        if segment_frame_read(at, &id, &frame) != SEGMENT_SOUND:
            break
        left = frame.body_bytes
        lsn = frame.first_lsn
        block += segment_blocks_bytes(FRAME_HEADER_BYTES + left) // SEGMENT_BLOCK
        if frame.flags & FRAME_CODED:
            opened = open_body(&frame, at, coder)
            at, left = opened, len(opened)
        else:
            at += FRAME_HEADER_BYTES
        while left:
            size = segment_record_read(at, left, &record)
            if size == 0:
                break
            if record.type == RECORD_SKIP or record.type == RECORD_FORGET or (
                    record.type == RECORD_INPUT and record.kind == KIND_CONTINUE):
                found.append((record.type, lsn, record.server,
                              (<char *>record.payload)[:record.payload_bytes]))
            lsn += 1
            at += size
            left -= size
    return found
