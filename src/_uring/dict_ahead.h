/* Fetch the memory that lookups in a dictionary will need, for many keys at once.
 *
 * Theory. A lookup in a large dictionary waits for memory four times, one after the other: for the
 * index, the entry, the key, the value. The lookups of many requests wait one after the other, too.
 * But for a batch of keys all indices can be fetched at the same time, then all entries, then all
 * keys and values; the lookups behind find them in the cache. This is a hint to the processor:
 * nothing is changed, no reference is counted, no code of Python runs.
 *
 * Invariants
 *  (A1) Only the dictionary's own table is read, within its bounds; objects that it names are
 *       fetched and not read.
 *  (A2) Only Pythons whose layout is known are compiled for. Should one of them have changed it,
 *       dict_ahead_finds does not find the keys of a dictionary that is known: whoever uses this
 *       tries that first, and then never again.
 *
 * The layout is CPython's own affair, and not part of its interface: the one here is that of 3.11
 * to 3.14 with the GIL, which is why others are left alone. Source: CPython's Objects/dictobject.c
 * for the layout and how it is probed; Valkey 8 for fetching a batch's keys ahead.
 */
#ifndef PYBEHAVE_DICT_AHEAD_H
#define PYBEHAVE_DICT_AHEAD_H

#include <Python.h>

#include "request_keys.h"

/* As many lines as a processor can have on their way, give or take some. */
#define DICT_AHEAD_KEYS 16
/* Smaller tables stay in the cache: 2^12 slots are some 400 KB with their keys and values. */
#define DICT_AHEAD_LOG2_MIN 12
/* So many slots are looked at for a key; most are found in the first. */
#define DICT_AHEAD_PROBES 3
#define DICT_AHEAD_PERTURB_SHIFT 5
#define DICT_AHEAD_LINE_BYTES 64
#define DICT_AHEAD_LOG2_MAX 48

#if defined(Py_GIL_DISABLED) || defined(PYPY_VERSION) || PY_VERSION_HEX >= 0x030f0000
#define DICT_AHEAD_KNOWN 0
#else
#define DICT_AHEAD_KNOWN 1
#endif

#if DICT_AHEAD_KNOWN
typedef struct dict_table { /* of PyDictObject.ma_keys */
    Py_ssize_t references;
    uint8_t log2_size, log2_index_bytes;
    uint8_t kind; /* 0 = keys of any kind; the others hold strings, and requests come with bytes */
    uint32_t version;
    Py_ssize_t usable, used;
    char indices[]; /* 1 << log2_index_bytes; the entries follow */
} dict_table;

typedef struct dict_entry {
    Py_hash_t hash;
    PyObject *key, *value; /* NULL once deleted */
} dict_entry;

typedef struct dict_probe {
    size_t hash, perturb, slot;
    const dict_entry *entry;
} dict_probe;

/* Exported by all of these, and declared by some; 3.14 has one that is documented instead. */
#if PY_VERSION_HEX < 0x030e0000
PyAPI_FUNC(Py_hash_t) _Py_HashBytes(const void *, Py_ssize_t);
#endif

static inline size_t dict_ahead_hash(const request_key *key) {
#if PY_VERSION_HEX >= 0x030e0000
    return (size_t)Py_HashBuffer(key->data, (Py_ssize_t)key->bytes);
#else
    return (size_t)_Py_HashBytes(key->data, (Py_ssize_t)key->bytes);
#endif
}

static inline const dict_table *dict_ahead_table(PyObject *dict, unsigned log2_min) {
    const dict_table *table = (const dict_table *)(void *)((PyDictObject *)dict)->ma_keys;
    int is_taken = table->kind == 0 && table->log2_size >= log2_min &&
                   table->log2_size < DICT_AHEAD_LOG2_MAX;
    return is_taken ? table : NULL;
}

static inline size_t dict_ahead_width(const dict_table *table) {
    return table->log2_size < 8 ? 1 : table->log2_size < 16 ? 2 : table->log2_size < 32 ? 4 : 8;
}

static inline Py_ssize_t dict_ahead_index(const dict_table *table, size_t slot) {
    switch (dict_ahead_width(table)) {
    case 1:
        return ((const int8_t *)table->indices)[slot];
    case 2:
        return ((const int16_t *)(const void *)table->indices)[slot];
    case 4:
        return ((const int32_t *)(const void *)table->indices)[slot];
    default:
        return (Py_ssize_t)((const int64_t *)(const void *)table->indices)[slot];
    }
}

/* Fetch one slot of each key and the entry that it names, all at the same time. Keys that are not
 * in the dictionary are dropped: what stays is at the front, and counted. */
static inline unsigned dict_ahead_slots(const dict_table *table, dict_probe *probes,
                                        unsigned count) {
    const dict_entry *entries =
        (const dict_entry *)(const void *)(table->indices + ((size_t)1 << table->log2_index_bytes));
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++)
        __builtin_prefetch(table->indices + probes[i].slot * dict_ahead_width(table));
    for (unsigned i = 0; i < count; i++) {
        Py_ssize_t index = dict_ahead_index(table, probes[i].slot);
        if (index == -1) /* an empty slot */
            continue;
        probes[i].entry = NULL;
        if (index >= 0 && index < table->used) { /* and not one that was deleted */
            probes[i].entry = &entries[index];
            __builtin_prefetch(probes[i].entry);
            __builtin_prefetch(&probes[i].entry->value);
        }
        probes[kept++] = probes[i];
    }
    return kept;
}

/* Fetch what the entries of these slots name, where it is what is looked for; *key is the latest.
 * What stays is to be looked for in the next slot. */
static inline unsigned dict_ahead_objects(const dict_table *table, dict_probe *probes,
                                          unsigned count, PyObject **key) {
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
        const dict_entry *entry = probes[i].entry;
        if (entry != NULL && (size_t)entry->hash == probes[i].hash && entry->value != NULL) {
            *key = entry->key;
            __builtin_prefetch(entry->key, 1); /* its references are counted */
            __builtin_prefetch((const char *)entry->key + DICT_AHEAD_LINE_BYTES - 1);
            __builtin_prefetch(entry->value, 1);
            continue;
        }
        probes[i].perturb >>= DICT_AHEAD_PERTURB_SHIFT;
        probes[i].slot = (probes[i].slot * 5 + probes[i].perturb + 1) &
                         (((size_t)1 << table->log2_size) - 1);
        probes[kept++] = probes[i];
    }
    return kept;
}

/* Fetch what lookups of these keys need, at most DICT_AHEAD_KEYS; the key found last, or NULL. */
static inline PyObject *dict_ahead_fetch(const dict_table *table, const request_key *keys,
                                         unsigned count) {
    dict_probe probes[DICT_AHEAD_KEYS];
    PyObject *found = NULL;
    for (unsigned i = 0; i < count; i++) {
        probes[i].hash = probes[i].perturb = dict_ahead_hash(&keys[i]);
        probes[i].slot = probes[i].hash & (((size_t)1 << table->log2_size) - 1);
    }
    for (unsigned round = 0; round < DICT_AHEAD_PROBES && count > 0; round++) {
        count = dict_ahead_slots(table, probes, count);
        count = dict_ahead_objects(table, probes, count, &found);
    }
    return found;
}

#endif

/* Whether a key of a dictionary, bytes, is found where we look for it. */
static inline int dict_ahead_finds(PyObject *dict, PyObject *key) {
#if DICT_AHEAD_KNOWN
    const request_key wanted = {(const uint8_t *)PyBytes_AS_STRING(key),
                                (size_t)PyBytes_GET_SIZE(key)};
    const dict_table *table = dict_ahead_table(dict, 0);
    return table != NULL && dict_ahead_fetch(table, &wanted, 1) == key;
#else
    (void)dict, (void)key;
    return 0;
#endif
}

/* The bytes at `data` are RESP requests to a server whose state is that dictionary: fetch what
 * their steps will look up. How many of the bytes that is good for; *fetched counts the keys. */
static inline size_t dict_ahead(PyObject *dict, const uint8_t *data, size_t len,
                                uint64_t *fetched) {
    size_t used = len;
#if DICT_AHEAD_KNOWN
    request_key keys[DICT_AHEAD_KEYS];
    const dict_table *table = dict_ahead_table(dict, DICT_AHEAD_LOG2_MIN);
    if (table != NULL) {
        unsigned count = request_keys(data, len, keys, DICT_AHEAD_KEYS, &used);
        if (count > 1) { /* one is waited for as long here as there */
            dict_ahead_fetch(table, keys, count);
            *fetched += count;
        }
    }
#else
    (void)dict, (void)data, (void)fetched;
#endif
    return used;
}

#endif
