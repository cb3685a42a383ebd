#!/bin/bash
# Bugs that a database could have, each planted by itself: does the simulator see it within 500 seeds?
# (By hand: it takes some minutes. Prints a line for each, and fails where one was not seen.)
. "$(dirname "${BASH_SOURCE[0]}")/copy.sh"

# name | file | what sed does to it
bugs=(
    "a write is answered before its sync|engine/execute.c|s/request->gate_position = position;/request->gate_position = seen;/"
    "a read does not wait for what it saw|engine/execute.c|s/request->gate_position = seen;/request->gate_position = 0;/"
    "a read of all partitions does not wait for theirs|engine/barrier.c|s/^    see_partitions(engine);//"
    "every second sync is left out|txn/log.c|s/if (dbos_segments_sync(&log->segments, &info) != DBOS_OK)/if ((log->stats.syncs \\& 1) == 0 \\&\\& dbos_segments_sync(\\&log->segments, \\&info) != DBOS_OK)/"
    "the watermark moves before the sync|txn/log.c|s/^    log->written = batch->last_position;/    log->written = batch->last_position; publish(log);/"
    "a failed sync is taken for a good one|txn/log.c|s/if (dbos_segments_sync(&log->segments, &info) != DBOS_OK)/if (dbos_segments_sync(\\&log->segments, \\&info) == DBOS_ERR_NOMEM)/"
    "a new segment's name is not synced|txn/log_segment.c|s/err = env->ops->dir_sync(env, dir, info);/err = DBOS_OK;/"
    "the segment before is not synced when the next begins|txn/log_segment.c|s/enum dbos_err err = sync_segment(segments, info);/enum dbos_err err = DBOS_OK;/"
    "a damaged middle is taken for a torn end|txn/log_recover.c|s/if (result == DBOS_READ_CORRUPT) {/if (false) {/"
    "the accepted tail is not written again|txn/log_recover.c|s/err = rewrite(log, file, from, accepted->offset, info);/err = DBOS_OK;/"
    "what is behind the end is not cleared|txn/log_recover.c|s/err = zero_torn(log, file, accepted->offset, accepted->header.size_bytes, torn_bytes, info);/err = DBOS_OK;/"
    "records before a snapshot are applied again|txn/appliers.c|s/if (route->position > appliers->after_position)/if (route->position >= appliers->after_position)/"
    "a record behind a snapshot is skipped|txn/appliers.c|s/if (route->position > appliers->after_position)/if (route->position > appliers->after_position + 1)/"
    "a snapshot leaves out the idempotency keys|txn/snapshot_take.c|s/^    if (has_failed(part->snapshot)) {\$/    if (has_failed(part->snapshot) || table_id == DBOS_TABLE_IDEMPOTENCY) {/"
    "a snapshot's parts are not synced|txn/snapshot_take.c|s/err = env->ops->file_sync(env, part->file, info);/err = DBOS_OK;/g"
    "a snapshot forgets which blocks were used|txn/snapshot_take.c|s/slots += dbos_table_next_counter(table, slot) > 1;/slots += 0;/"
    "a change that is newer than the cut is copied|storage/table_copy.c|s/row->position <= copy->position/row->position <= copy->position + 3/g"
    "an abort forgets the last change|txn/txn_commit.c|s/for (struct dbos_undo \\*undo = txn->newest; undo != NULL;/for (struct dbos_undo *undo = txn->newest == NULL ? NULL : txn->newest->older; undo != NULL;/"
    "a retry runs again|engine/idempotency.c|s/^    if (row == NULL) {\$/    if (true) {/"
    "a retry is not kept|engine/execute.c|s/err = dbos_idempotency_end(&x->run, x->request, reply_start, info);/err = DBOS_OK;/"
    "a barrier runs before all partitions have come|engine/barrier.c|s/if (atomic_fetch_add(&barrier->arrived, 1) + 1 == engine->partition_count) {/if (atomic_fetch_add(\\&barrier->arrived, 1) + 1 >= 1) {/"
    "the name of a new data directory is not synced|txn/log_identity.c|s/err = sync_parent(env, data_dir, info);/err = DBOS_OK;/"
    "the archive may export what is not synced|engine/archive_service.c|s/dbos_log_synced(service->engine->log), service/dbos_log_durable(service->engine->log), service/"
    "the log is cut off before it is exported|engine/snapshots.c|s/archive.is_known ? archive.exported : 0;/archive.is_known ? UINT64_MAX : 0;/"
    "the log is cut off behind the newest snapshot|engine/snapshots.c|s/needed < positions\[KEPT - 1\] ? needed : positions\[KEPT - 1\]/needed < positions[0] ? needed : positions[0]/"
    "the oldest segment goes before the cut reaches its end|txn/log_truncate.c|s/next_begins_at > position/next_begins_at > position + 20/"
    "writers that wait for the archive are never let on|engine/archive_gate.c|s/^    atomic_store(&gate->state, DBOS_GATE_OPEN);/    ;/"
    "records are written in the order in which they come|txn/log.c|s/while (before != NULL && before->position > entry->position) {/while (false) {/"
    "a batch takes a record that is not next|txn/log.c|s/entry != NULL && entry->position == position + 1; entry = entry->next/entry != NULL; entry = entry->next/"
)

copy_tree
missed=0
for bug in "${bugs[@]}"; do
    IFS='|' read -r name file edit <<<"${bug//||/@@}"
    name=${name//@@/||} file=${file//@@/||} edit=${edit//@@/||}
    change "$file" "$edit"
    if ! is_changed "$file"; then
        echo "NOT PLANTED  $name: nothing in $file is as it was"
        missed=$((missed + 1))
    elif ! build; then
        echo "NOT PLANTED  $name: it does not compile"
        missed=$((missed + 1))
    elif simulate 500; then
        echo "seen         $name: $found"
    else
        echo "NOT SEEN     $name"
        missed=$((missed + 1))
    fi
    change_back "$file"
done
echo "${#bugs[@]} bugs planted, $missed not seen"
[ "$missed" -eq 0 ]
