/* Writes of the simulated source: the disk itself is the test's (source_sim.h, sim_disk).
 *
 * A write takes some virtual time and ends in any order with others. What the disk says of it then
 * is its result; what of it would survive a power cut meanwhile is the disk's own affair.
 */
#define _GNU_SOURCE
#include "sim_state.h"

#include <errno.h>
#include <stddef.h>

void sim_set_disk(source *base, const sim_disk *disk) {
    sim *self = sim_of(base);
    self->disk = disk != NULL ? *disk : (sim_disk){0};
}

/* The loop waits for the disk, which takes no time. */
static int sim_write_in_place(sim *self, const write_request *request, uint64_t token) {
    sim_note(self, SIM_DID_WRITE, token, request->bytes, (unsigned)request->how,
             sim_content(request->data, request->bytes));
    uint64_t name = self->disk.begin(self->disk.context, request);
    int result = self->disk.end(self->disk.context, name);
    self->base.stats.writes_in_place++;
    return result == 0 ? -EIO : result;
}

int sim_write(source *base, const write_request *request, uint64_t token) {
    sim *self = sim_of(base);
    if (token_op(token) != OP_WRITE) {
        sim_broken(self, "write with a token of kind %u", token_op(token));
    }
    if (self->disk.begin == NULL) {
        sim_broken(self, "a write without a simulated disk");
    }
    base->stats.submissions++;
    if (request->is_quiet && sim_chance(self, self->knobs.direct_write)) {
        return sim_write_in_place(self, request, token);
    }
    self->writes++;
    uint64_t range = self->knobs.disk_ns_max - self->knobs.disk_ns_min;
    uint64_t delay_ns = self->knobs.disk_ns_min + sim_below(self, range + 1);
    sim_note(self, SIM_DID_WRITE, token, request->bytes, (unsigned)request->how,
             sim_content(request->data, request->bytes));
    sim_step step = {.at_ns = self->now_ns + delay_ns,
                     .kind = SIM_STEP_WRITTEN,
                     .target = SIM_NONE,
                     .amount = (int64_t)self->disk.begin(self->disk.context, request),
                     .done = {.token = token}};
    sim_push_step(self, &step);
    return 0;
}

void sim_written(sim *self, const sim_step *step) {
    sim_step done = *step;
    self->writes--;
    if (self->disk.end == NULL) {
        return; /* the disk went away, and the program with it */
    }
    done.done.result = self->disk.end(self->disk.context, (uint64_t)step->amount);
    sim_make_visible(self, &done);
}
