/* The simulator's clockwork: chance, virtual time, the events a test sees, the trace.
 *
 * Everything random comes from one stream of numbers, and everything that has an order takes it
 * from virtual time and then from age. So a run is a function of the seed and of the calls made.
 */
#define _GNU_SOURCE
#include "sim_state.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE_FIRST = 16 };

void *sim_grow(void *array, size_t *size, size_t count, size_t item_bytes) {
    if (count <= *size) {
        return array;
    }
    size_t grown_size = *size == 0 ? SIZE_FIRST : *size;
    while (grown_size < count) {
        grown_size *= 2;
    }
    void *grown = realloc(array, grown_size * item_bytes);
    if (grown == NULL) {
        fputs("sim: no memory\n", stderr);
        abort();
    }
    *size = grown_size;
    return grown;
}

void sim_broken(sim *self, const char *format, ...) {
    char what[256];
    char sentence[400];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    (void)snprintf(sentence, sizeof sentence,
                   "sim: contract broken: %s (seed %llu, virtual time %llu ns, trace %016llx)",
                   what, (unsigned long long)self->base.config.seed,
                   (unsigned long long)self->now_ns, (unsigned long long)self->trace_hash);
    if (self->broken_hook != NULL) {
        self->broken_hook(self->broken_context, sentence);
    } else {
        fprintf(stderr, "%s\n", sentence);
    }
    abort();
}

/* ---- chance ------------------------------------------------------------------------------ */

/* splitmix64 (Steele, Lea, Flood 2014): one word of state, every seed a good one. */
uint64_t sim_random(sim *self) {
    uint64_t z = (self->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sim_below(sim *self, uint64_t bound) { return bound == 0 ? 0 : sim_random(self) % bound; }

int sim_chance(sim *self, unsigned per_mille) {
    return per_mille != 0 && sim_below(self, SIM_PER_MILLE) < per_mille;
}

uint64_t sim_latency_ns(sim *self) {
    const sim_knobs *knobs = &self->knobs;
    uint64_t span = knobs->latency_ns_max > knobs->latency_ns_min
                        ? knobs->latency_ns_max - knobs->latency_ns_min
                        : 0;
    return knobs->latency_ns_min + sim_below(self, span + 1);
}

static uint16_t draw_rate(sim *self, uint16_t rate_max) {
    return sim_chance(self, 500) ? (uint16_t)(1 + sim_below(self, rate_max)) : 0;
}

void sim_knobs_shake(source *base) {
    sim *self = sim_of(base);
    sim_knobs *knobs = &self->knobs;
    knobs->latency_ns_min = 1000 + sim_below(self, 100000);
    knobs->latency_ns_max = knobs->latency_ns_min * (1 + sim_below(self, 100));
    knobs->jitter_ns_max = 1 + sim_below(self, 200000);
    knobs->late_ns_max = 1000000 + sim_below(self, 8000000000u);
    knobs->tick_ns = 100 + sim_below(self, 10000);
    knobs->window_bytes = 1u << (6 + sim_below(self, 11));
    knobs->fragment = draw_rate(self, 1000);
    knobs->direct_send = draw_rate(self, 1000);
    knobs->short_send = draw_rate(self, 300);
    knobs->interrupted = draw_rate(self, 50);
    knobs->wait_interrupted = draw_rate(self, 50);
    knobs->reset = draw_rate(self, 10);
    knobs->starve = draw_rate(self, 200);
    knobs->accept_failure = draw_rate(self, 200);
    knobs->rearm = sim_chance(self, 250) ? SIM_PER_MILLE : draw_rate(self, 300);
    knobs->late = draw_rate(self, 20);
    knobs->cancel_lost = draw_rate(self, 900);
    knobs->direct_write = knobs->direct_send; /* no draw of its own: seeds stay what they were */
}

/* ---- steps: a binary heap ---------------------------------------------------------------- */

static int is_before(const sim_step *left, const sim_step *right) {
    return left->at_ns != right->at_ns ? left->at_ns < right->at_ns : left->order < right->order;
}

void sim_push_step(sim *self, const sim_step *step) {
    assert(step->at_ns >= self->now_ns);
    self->steps = sim_grow(self->steps, &self->steps_size, self->steps_count + 1, sizeof *step);
    size_t hole = self->steps_count++;
    sim_step added = *step;
    added.order = ++self->steps_made;
    while (hole > 0 && is_before(&added, &self->steps[(hole - 1) / 2])) {
        self->steps[hole] = self->steps[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    self->steps[hole] = added;
}

sim_step sim_pop_step(sim *self) {
    assert(self->steps_count > 0);
    sim_step earliest = self->steps[0];
    sim_step moved = self->steps[--self->steps_count];
    size_t hole = 0;
    for (;;) {
        size_t child = 2 * hole + 1;
        if (child >= self->steps_count) {
            break;
        }
        if (child + 1 < self->steps_count &&
            is_before(&self->steps[child + 1], &self->steps[child])) {
            child++;
        }
        if (!is_before(&self->steps[child], &moved)) {
            break;
        }
        self->steps[hole] = self->steps[child];
        hole = child;
    }
    if (self->steps_count > 0) {
        self->steps[hole] = moved;
    }
    return earliest;
}

void sim_push_link_step(sim *self, uint32_t link, unsigned kind, unsigned which, int64_t amount,
                        uint64_t at_ns) {
    sim_step step = {.at_ns = at_ns,
                     .kind = kind,
                     .target = link,
                     .serial = self->links[link].generation,
                     .which = which,
                     .amount = amount};
    sim_push_step(self, &step);
}

/* ---- events for the test ----------------------------------------------------------------- */

sim_peer sim_peer_name(const sim *self, uint32_t link) {
    return (sim_peer)((uint64_t)self->links[link].generation << 32 | link);
}

void sim_push_event(sim *self, int kind, uint32_t link, int64_t value) {
    if (link != SIM_NONE && self->links[link].is_peer_released) {
        return; /* nobody is left to hear it */
    }
    if (self->events_count == self->events_size) {
        size_t size_before = self->events_size;
        self->events =
            sim_grow(self->events, &self->events_size, size_before + 1, sizeof *self->events);
        /* Unroll: what had wrapped to the front goes behind the old end. */
        for (size_t i = 0; i < self->events_head; i++) {
            self->events[size_before + i] = self->events[i];
        }
    }
    self->events_made++;
    sim_event *added =
        &self->events[(self->events_head + self->events_count++) % self->events_size];
    added->kind = kind;
    added->peer = link == SIM_NONE ? 0 : sim_peer_name(self, link);
    added->value = value;
}

/* ---- the trace --------------------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0xff51afd7ed558ccdu; /* MurmurHash3's finaliser, a step a word */
    return hash ^ (hash >> 33);
}

uint64_t sim_content(const void *data, size_t bytes) {
    const uint8_t *next = data;
    uint64_t hash = mix(0x9e3779b97f4a7c15u, bytes);
    for (; bytes >= sizeof hash; bytes -= sizeof hash, next += sizeof hash) {
        uint64_t word;
        memcpy(&word, next, sizeof word);
        hash = mix(hash, word);
    }
    for (; bytes > 0; bytes--) {
        hash = mix(hash, *next++);
    }
    return hash;
}

void sim_note(sim *self, unsigned what, uint64_t token, int64_t result, unsigned flags,
              uint64_t content) {
    uint64_t hash = mix(self->trace_hash, self->now_ns);
    hash = mix(hash, (uint64_t)what << 32 | flags);
    hash = mix(hash, token);
    hash = mix(hash, (uint64_t)result);
    self->trace_hash = mix(hash, content);
    if (self->is_trace_kept) {
        size_t count = self->trace_count + 1;
        self->trace = sim_grow(self->trace, &self->trace_size, count, sizeof *self->trace);
        self->trace[self->trace_count] =
            (sim_record){self->now_ns, token, result, what, flags, content};
        self->trace_count = count;
    }
}

uint64_t sim_trace_hash(const source *base) { return ((const sim *)base)->trace_hash; }

void sim_trace_keep(source *base, int is_kept) { sim_of(base)->is_trace_kept = is_kept; }

const sim_record *sim_trace(const source *base, size_t *count) {
    *count = ((const sim *)base)->trace_count;
    return ((const sim *)base)->trace;
}
