#include "tests/sim/world_internal.h"

#include <stdio.h>
#include <string.h>

#include "tests/sim/archive.h"

#define REST_NS UINT64_C(6000000000) /* enough for everybody to catch up on a good disk */

struct world world;

void world_prepare(void) { sim_clients_prepare(); }

static void choose_mood(struct sim_disk_mood *mood) {
    static const uint32_t slow[] = {0, 0, 3, 30};
    *mood = (struct sim_disk_mood){.slow_per_mille = slow[sim_dice(4)]};
    if (sim_dice(3) == 0) {
        mood->fail_per_million = sim_dice(2) == 0 ? 1000 : 5000;
    }
    if (sim_dice(5) == 0) {
        mood->room_bytes = sim_disk_bytes() + sim_dice(200000);
    }
    switch (sim_dice(4)) {
    case 0:
    case 1:
        mood->crash_at = 1 + sim_dice(sim_dice(2) == 0 ? 60 : 2000);
        break;
    case 2:
        mood->crash_at_sync = 1 + sim_dice(sim_dice(2) == 0 ? 20 : 400);
        break;
    default:
        break;
    }
}

static void open_engine(void) {
    struct dbos_errinfo info = {0};
    struct dbos_engine_options options = {
        .env = sim_disk_env(),
        .data_dir = SIM_DATA_DIR,
        .program_dir = "",
        .partitions = world.partitions,
        .durability = world.is_sync ? DBOS_DURABILITY_SYNC : DBOS_DURABILITY_ASYNC,
        .archive = world.has_archive,
        .archive_backlog_max = world.has_small_backlog ? 20000 + sim_dice(100000) : UINT64_MAX,
        .blob_file_bytes = sim_dice(2) == 0 ? 1 + sim_dice(60000) : 0,
        .log_in_flight_bytes_max = sim_dice(4) == 0 ? 1 + sim_dice(10000) : 0,
        .segment_bytes = sim_dice(4) == 0 ? 1 + sim_dice(200000) : 65536,
        .snapshot_log_bytes = sim_dice(3) == 0 ? UINT64_MAX : 20000 + sim_dice(100000),
    };
    uint64_t offset = 0;
    const char *flipped = sim_disk_flipped(&offset);
    bool snapshot_is_flipped = flipped != NULL && strstr(flipped, "snapshots/") != NULL;
    uint32_t snapshots = sim_disk_count(".manifest");
    dbos_alloc_init(&world.alloc, "sim", 0);
    enum dbos_err err = dbos_engine_open(&world.alloc, &options, &world.engine, &info);
    if (err != DBOS_OK && !world.had_fault && !world.is_damaged) {
        sim_wrong("it does not start: %s", info.message);
    }
    if (err != DBOS_OK && !world.had_fault && world.is_verified && world.seen_err == DBOS_OK) {
        sim_wrong("verification found nothing, and it does not start: %s", info.message);
    }
    if (err != DBOS_OK && !world.had_fault && snapshot_is_flipped && snapshots >= 2) {
        sim_wrong("one damaged snapshot of %u keeps it from starting: %s", snapshots, info.message);
    }
    if (err != DBOS_OK) {
        sim_crash(); /* whoever runs the node starts it again */
    }
    world.snapshots += world.engine->loaded.position != 0;
    if (world.engine->damaged_snapshots != 0 && !world.had_fault && !world.is_damaged) {
        sim_wrong("a snapshot that counted is damaged");
    }
}

/* The disk gets room again, after a while, and is full again. */
static void *change_room(void *arg) {
    struct sim_disk_mood *mood = arg;
    while (!world.rests) {
        sim_sleep(sim_dice(5000000000));
        mood->room_bytes = mood->room_bytes == 0 ? sim_disk_bytes() + sim_dice(100000) : 0;
        if (!world.rests) {
            sim_disk_set_room(mood->room_bytes);
        }
    }
    return NULL;
}

static void live(void *arg) {
    static struct sim_disk_mood mood;
    static const struct sim_disk_mood good = {0};
    struct dbos_errinfo info = {0};
    bool is_last = *(bool *)arg;
    choose_mood(&mood);
    mood = is_last || world.life == 0 ? good : mood;
    world.had_fault = mood.fail_per_million != 0 || mood.room_bytes != 0;
    world.is_small = mood.room_bytes != 0;
    world.is_short = !is_last && world.life != 0 && sim_dice(5) == 0;
    world.rests = false;
    world.is_slow = mood.slow_per_mille != 0;
    sim_disk_set(&good);
    if (world.life != 0) {
        sim_judge_disk();
    }
    struct sim_disk_mood starting = mood;
    if (world.life != 0 && sim_dice(3) != 0) {
        starting.crash_at = 0; /* most of the time not while it starts */
        starting.crash_at_sync = 0;
    }
    sim_disk_set(&starting);
    open_engine();
    sim_disk_set(&good);
    if (world.life != 0) {
        sim_judge_start();
    }
    sim_clients_choose();
    if (dbos_engine_start(world.engine, sim_clients_on_durable, NULL, &info) != DBOS_OK) {
        sim_wrong("it does not run: %s", info.message);
    }
    if (world.life == 0) {
        sim_clients_make_tables();
    }
    if (!is_last) {
        sim_disk_set(&mood);
        if (mood.room_bytes != 0) {
            sim_spawn("room", change_room, &mood);
        }
        sim_set((uint32_t)sim_dice(200), sim_dice(4) == 0 ? 1 + sim_dice(40000) : 0);
    }
    world.clients_left = world.client_count;
    for (uint32_t i = 0; i < world.client_count; i++) {
        sim_spawn("client", sim_client_main, &world.clients[i]);
    }
    while (world.clients_left != 0) {
        sim_wait(&world.clients_left, UINT64_MAX);
    }
    sim_clients_forget_plans();
    world.rests = true;
    sim_disk_set(&good);
    sim_set(20, 0);
    sim_sleep(REST_NS);
    sim_judge_rest();
    dbos_engine_stop(world.engine);
    sim_judge_stop();
    uint64_t hash = dbos_store_state_hash(world.engine->store);
    dbos_engine_close(world.engine);
    dbos_alloc_fini(&world.alloc);
    if (sim_disk_open_files() != 0) {
        sim_wrong("%u files are open after the stop", sim_disk_open_files());
    }
    world.state_hash = hash;
    world.is_stopped = true;
}

static void say_life(enum sim_end end) {
    static const char *const ends[] = {"stopped", "the machine went down", "the process ended"};
    if (world.is_loud) {
        (void)fprintf(
            stderr,
            "life %u: %u partitions, %s, %u operations so far, %u acknowledged, log judged "
            "to %llu: %s\n",
            world.life, world.partitions, world.is_sync ? "sync" : "async", world.op_count,
            world.acked, (unsigned long long)world.judged, ends[end]);
    }
}

static void run_life(bool is_last) {
    uint32_t left = world.operations > world.op_count ? world.operations - world.op_count : 0;
    uint32_t most = SIM_OPS_MAX - world.op_count - PIPELINE_MAX;
    world.partitions = 1 + (uint32_t)sim_dice(4);
    world.is_sync = world.life == 0 || sim_dice(5) != 0; /* the tables are there to stay */
    world.quota = is_last ? 50 : 1 + (uint32_t)sim_dice(left / 2 + 200);
    world.quota = world.quota > most ? most : world.quota;
    world.acked_position = world.judged;
    world.was_stopped = world.is_stopped;
    world.is_stopped = false;
    world.has_archive = is_last || sim_dice(6) != 0;
    world.has_small_backlog = !is_last && sim_dice(4) == 0;
    sim_set(20, 0);
    uint64_t before = sim_disk_fired()[SIM_CRASH_AT_OPERATION];
    world.is_damaged = !is_last && world.life > 0 && sim_dice(4) == 0;
    if (world.is_damaged) {
        sim_disk_flip();
    }
    sim_archive_begin(SIM_DATA_DIR, world.is_damaged);
    enum sim_end end = sim_life(live, &is_last);
    world.ended_ns = sim_now_ns();
    if (end == SIM_CRASH && sim_disk_fired()[SIM_CRASH_AT_OPERATION] == before) {
        sim_note_fault(SIM_CRASH_AT_SWITCH);
    }
    if (end == SIM_DONE && !world.is_stopped) {
        sim_wrong("a life ended without its end");
    }
    if (end != SIM_DONE) {
        world.state_hash = 0;
        world.crashes++;
        sim_disk_crash(end == SIM_CRASH);
    }
    if (world.is_damaged) {
        sim_disk_flip_back();
    }
    say_life(end);
    world.life++;
}

void world_run(uint64_t seed, uint32_t operations, bool is_loud, struct world_facts *out) {
    world.seed = seed;
    world.operations = operations;
    world.is_loud = is_loud;
    sim_open(seed, is_loud);
    world.large_one_in = sim_dice(3) == 0 ? 3 : 20;
    while (world.op_count < operations || world.crashes == 0) {
        run_life(false);
    }
    run_life(true);
    run_life(true); /* which judges the one before it */
    *out = (struct world_facts){.seed = seed,
                                .operations = world.op_count,
                                .acked = world.acked,
                                .lives = world.life,
                                .crashes = world.crashes,
                                .records = (uint32_t)world.judged,
                                .snapshots = world.snapshots,
                                .trace = sim_trace_hash()};
    memcpy(out->fired, sim_disk_fired(), sizeof out->fired);
}
