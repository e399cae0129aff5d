/* info.c: INFO. Field names are those that existing tools parse; sections of our own (store, raft) follow Redis'
 * form. Runs on the state thread of the node that was asked: the figures of the store and of the raft section are
 * of one moment. */
#include "command/args.h"
#include "command/client.h"
#include "command/rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/utsname.h>

bool hf_host_port_split(const char *address, struct hf_host_port *out)
{
    const char *colon = strrchr(address, ':');
    size_t n = colon != NULL ? (size_t)(colon - address) : 0;

    *out = (struct hf_host_port){.host = hf_slice_str("")};
    if (n == 0)
        return false;
    if (address[0] == '[' && address[n - 1] == ']') {
        address++;
        n -= 2;
    }
    out->host = hf_slice(address, n);
    out->port = atoi(colon + 1);
    return true;
}

const char *hf_peer_address(const struct hf_node_peer_status *peer)
{
    return peer->client_address[0] != '\0' ? peer->client_address : peer->address;
}

void hf_digest_text(const struct hf_store_meta *meta, char out[HF_DIGEST_TEXT_BYTES])
{
    for (size_t i = 0; i < sizeof(meta->digest); i++)
        snprintf(out + 2 * i, 3, "%02x", meta->digest[i]);
}

struct info {
    const struct hf_read_ctx *cx;
    const struct hf_node_status *st;
    struct hf_buf text;
};

static void put(struct info *info, const char *name, uint64_t v)
{
    hf_buf_printf(&info->text, "%s:%" PRIu64 "\r\n", name, v);
}

static void put_text(struct info *info, const char *name, const char *v)
{
    hf_buf_printf(&info->text, "%s:%s\r\n", name, v);
}

/* "1.50M", as Redis prints sizes for people. */
static void put_human(struct info *info, const char *name, uint64_t bytes)
{
    static const char units[] = "BKMGTPE";
    uint64_t unit = 1;
    size_t u = 0;

    while (bytes / unit >= 1024 && u + 2 < sizeof(units)) {
        unit *= 1024;
        u++;
    }
    if (u == 0)
        hf_buf_printf(&info->text, "%s:%" PRIu64 "B\r\n", name, bytes);
    else
        hf_buf_printf(&info->text, "%s:%.2f%c\r\n", name, (double)bytes / (double)unit, units[u]);
}

static uint64_t counter(const struct info *info, const char *name, const char *help)
{
    return hf_counter_since_mark(hf_stats_counter(info->st->stats, name, NULL, help));
}

/* ---- sections ------------------------------------------------------------------------------------ */

static void put_server(struct info *info)
{
    const struct hf_node_status *st = info->st;
    struct utsname os = {0};

    uname(&os);
    put_text(info, "redis_version", HF_REDIS_VERSION);
    put_text(info, "holdfast_version", HF_VERSION);
    put_text(info, "redis_git_sha1", "00000000");
    put(info, "redis_git_dirty", 0);
    put_text(info, "redis_build_id", "0");
    put_text(info, "redis_mode", "standalone");
    hf_buf_printf(&info->text, "os:%s %s %s\r\n", os.sysname, os.release, os.machine);
    put(info, "arch_bits", 8 * sizeof(void *));
    put_text(info, "monotonic_clock", "POSIX clock_gettime");
    put_text(info, "multiplexing_api", "epoll");
    put_text(info, "atomicvar_api", "c11-builtin");
    put_text(info, "gcc_version", __VERSION__);
    put(info, "process_id", st->pid);
    hf_buf_printf(&info->text, "run_id:%040" PRIx64 "\r\n", st->node_id);
    put(info, "tcp_port", (uint64_t)st->client_port);
    put(info, "peer_port", (uint64_t)st->peer_port);
    put(info, "http_port", (uint64_t)st->http_port);
    put(info, "uptime_in_seconds", st->uptime_ms / 1000);
    put(info, "uptime_in_days", st->uptime_ms / 86400000);
    put_text(info, "executable", "holdfastd");
    put_text(info, "config_file", st->config_file);
    put_text(info, "data_dir", st->data_dir);
}

static void put_clients(struct info *info)
{
    put(info, "connected_clients", info->st->connected_clients);
    put(info, "cluster_connections", 0);
    put(info, "maxclients", info->st->maxclients);
    put(info, "blocked_clients", info->st->blocked_clients);
    put(info, "tracking_clients", 0);
    put(info, "clients_in_timeout_table", 0);
}

static void put_memory(struct info *info)
{
    const struct hf_node_status *st = info->st;

    put(info, "used_memory", st->rss_bytes);
    put_human(info, "used_memory_human", st->rss_bytes);
    put(info, "used_memory_rss", st->rss_bytes);
    put_human(info, "used_memory_rss_human", st->rss_bytes);
    put(info, "used_memory_peak", st->rss_peak_bytes);
    put_human(info, "used_memory_peak_human", st->rss_peak_bytes);
    put(info, "maxmemory", 0);
    put_text(info, "maxmemory_human", "0B");
    put_text(info, "maxmemory_policy", "noeviction");
    put_text(info, "mem_fragmentation_ratio", "1.00");
    put_text(info, "mem_allocator", "libc");
}

static void put_persistence(struct info *info)
{
    const struct hf_node_status *st = info->st;
    uint64_t applied = hf_store_meta(info->cx->store)->applied_index;
    uint64_t durable = hf_store_durable_index(info->cx->store);

    put(info, "loading", !st->is_ready);
    put(info, "async_loading", 0);
    put(info, "rdb_changes_since_last_save", applied - durable);
    put(info, "rdb_bgsave_in_progress", 0);
    put(info, "rdb_last_save_time", (uint64_t)(st->last_commit_ms / 1000));
    put_text(info, "rdb_last_bgsave_status", "ok");
    put(info, "aof_enabled", 1);
    put(info, "aof_rewrite_in_progress", 0);
    put_text(info, "aof_last_write_status", "ok");
    put(info, "aof_current_size", st->journal_bytes);
}

static void put_stats(struct info *info)
{
    struct hf_gauge *ops = hf_stats_gauge(info->st->stats, HF_METRIC_OPS, NULL, "Commands read in the last second");

    put(info, "total_connections_received", counter(info, HF_METRIC_CONNECTIONS, "Client connections accepted"));
    put(info, "total_commands_processed", counter(info, HF_METRIC_COMMANDS, "Commands read from clients"));
    put(info, "instantaneous_ops_per_sec", (uint64_t)hf_gauge_get(ops));
    put(info, "total_net_input_bytes", counter(info, HF_METRIC_INPUT_BYTES, "Bytes received from clients"));
    put(info, "total_net_output_bytes", counter(info, HF_METRIC_OUTPUT_BYTES, "Bytes sent to clients"));
    put(info, "rejected_connections", counter(info, HF_METRIC_REJECTED, "Client connections refused over the limit"));
    put(info, "expired_keys", counter(info, HF_METRIC_EXPIRED, "Keys deleted because they expired"));
    put(info, "evicted_keys", 0);
    put(info, "keyspace_hits", counter(info, HF_METRIC_HITS, "Lookups of keys by reads that found one"));
    put(info, "keyspace_misses", counter(info, HF_METRIC_MISSES, "Lookups of keys by reads that found none"));
    put(info, "pubsub_channels", 0);
    put(info, "pubsub_patterns", 0);
    put(info, "latest_fork_usec", 0);
    put(info, "total_error_replies", counter(info, HF_METRIC_ERRORS, "Replies to clients that were errors"));
}

static void put_replication(struct info *info)
{
    const struct hf_node_status *st = info->st;
    bool is_leader = hf_node_is_leader(st);
    struct hf_host_port at;
    uint32_t n = 0;

    put_text(info, "role", is_leader ? "master" : "slave");
    if (!is_leader) {
        bool is_known = hf_host_port_split(st->leader_client_address, &at);

        hf_buf_printf(&info->text, "master_host:%.*s\r\n", (int)at.host.len, (const char *)at.host.ptr);
        hf_buf_printf(&info->text, "master_port:%d\r\n", at.port);
        put_text(info, "master_link_status", is_known ? "up" : "down");
        put_text(info, "master_last_io_seconds_ago", is_known ? "0" : "-1");
        put(info, "master_sync_in_progress", 0);
        put(info, "slave_repl_offset", st->applied_index);
        put(info, "slave_priority", 100);
        put(info, "slave_read_only", 0);
    }
    for (uint32_t i = 0; is_leader && i < st->n_peers; i++)
        n += st->peers[i].is_connected;
    put(info, "connected_slaves", n);
    for (uint32_t i = 0, shown = 0; is_leader && i < st->n_peers; i++) {
        const struct hf_node_peer_status *peer = &st->peers[i];

        if (!peer->is_connected)
            continue;
        (void)hf_host_port_split(hf_peer_address(peer), &at);
        hf_buf_printf(&info->text, "slave%u:ip=%.*s,port=%d,state=online,offset=%" PRIu64 ",lag=%" PRIu64 "\r\n",
                      shown++, (int)at.host.len, (const char *)at.host.ptr, at.port, peer->match_index,
                      peer->last_contact_ms == UINT64_MAX ? 0 : peer->last_contact_ms / 1000);
    }
    put_text(info, "master_failover_state", "no-failover");
    put_text(info, "master_replid", st->cluster_id);
    put(info, "master_repl_offset", st->commit_index);
    put(info, "repl_backlog_active", 0);
}

static void put_cpu(struct info *info)
{
    struct rusage self = {0};

    getrusage(RUSAGE_SELF, &self);
    hf_buf_printf(&info->text, "used_cpu_sys:%ld.%06ld\r\n", (long)self.ru_stime.tv_sec, (long)self.ru_stime.tv_usec);
    hf_buf_printf(&info->text, "used_cpu_user:%ld.%06ld\r\n", (long)self.ru_utime.tv_sec, (long)self.ru_utime.tv_usec);
    put_text(info, "used_cpu_sys_children", "0.000000");
    put_text(info, "used_cpu_user_children", "0.000000");
}

static void put_modules(struct info *info)
{
    (void)info; /* none */
}

static void put_commandstats(struct info *info)
{
    for (uint16_t id = 0; id < hf_command_count(); id++) {
        struct hf_command_stats s = hf_command_stats(info->st->stats, id);
        uint64_t calls = hf_counter_since_mark(s.calls);
        uint64_t rejected = hf_counter_since_mark(s.rejected);
        struct hf_histogram duration;
        uint64_t usec;

        hf_histogram_since_mark(s.duration_us, &duration);
        usec = duration.sum_us;

        if (calls + rejected == 0)
            continue;
        hf_buf_printf(&info->text,
                      "cmdstat_%s:calls=%" PRIu64 ",usec=%" PRIu64 ",usec_per_call=%.2f,rejected_calls=%" PRIu64
                      ",failed_calls=%" PRIu64 "\r\n",
                      hf_command_at(id)->name, calls, usec, calls != 0 ? (double)usec / (double)calls : 0.0, rejected,
                      hf_counter_since_mark(s.failed));
    }
}

static void put_latencystats(struct info *info)
{
    for (uint16_t id = 0; id < hf_command_count(); id++) {
        struct hf_command_stats s = hf_command_stats(info->st->stats, id);
        struct hf_histogram duration;

        hf_histogram_since_mark(s.duration_us, &duration);
        if (duration.count == 0)
            continue;
        hf_buf_printf(&info->text,
                      "latency_percentiles_usec_%s:p50=%" PRIu64 ".000,p99=%" PRIu64 ".000,p99.9=%" PRIu64 ".000\r\n",
                      hf_command_at(id)->name, hf_histogram_quantile(&duration, 0.5),
                      hf_histogram_quantile(&duration, 0.99), hf_histogram_quantile(&duration, 0.999));
    }
}

static void put_cluster(struct info *info)
{
    put(info, "cluster_enabled", 0);
}

static void put_keyspace(struct info *info)
{
    uint64_t keys = hf_store_count(info->cx->store);

    if (keys != 0)
        hf_buf_printf(&info->text, "db0:keys=%" PRIu64 ",expires=%" PRIu64 ",avg_ttl=0\r\n", keys,
                      hf_store_count_expiring(info->cx->store));
}

/* Every store_* figure of the registry, whatever the store counts: its lines without labels in Prometheus form. */
static void put_store(struct info *info)
{
    static const char prefix[] = "holdfast_store_";
    struct hf_buf all = {0};
    const char *p, *end;

    put(info, "store_keys", hf_store_meta(info->cx->store)->keys);
    put(info, "store_applied_index", hf_store_meta(info->cx->store)->applied_index);
    put(info, "store_durable_index", hf_store_durable_index(info->cx->store));
    put(info, "store_log_time_ms", (uint64_t)hf_store_log_time_ms(info->cx->store));
    put(info, "store_file_bytes", info->st->database_bytes);
    put(info, "journal_bytes", info->st->journal_bytes);
    put(info, "journal_bytes_max", info->st->journal_bytes_max);
    put(info, "journal_tail_bytes", info->st->journal_tail_bytes);
    put(info, "disk_free_bytes", info->st->disk_free_bytes);
    hf_stats_prometheus(info->st->stats, &all);
    p = (const char *)all.data;
    end = p + all.len;
    while (p < end) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        const char *space;
        size_t n;

        if (line_end == NULL)
            line_end = end;
        n = (size_t)(line_end - p);
        space = memchr(p, ' ', n);
        if (n > sizeof(prefix) && memcmp(p, prefix, sizeof(prefix) - 1) == 0 && space != NULL &&
            memchr(p, '{', n) == NULL) {
            const char *name = p + strlen("holdfast_");

            hf_buf_printf(&info->text, "%.*s:%.*s\r\n", (int)(space - name), name, (int)(line_end - space - 1),
                          space + 1);
        }
        p = line_end + 1;
    }
    hf_buf_free(&all);
}

static void put_raft_fields(struct info *info, bool with_digest)
{
    const struct hf_node_status *st = info->st;
    const struct hf_store_meta *meta = hf_store_meta(info->cx->store);
    char digest[HF_DIGEST_TEXT_BYTES];

    put_text(info, "raft_state", st->role);
    put(info, "raft_ready", st->is_ready);
    put_text(info, "raft_problem", st->problem);
    put(info, "raft_node_id", st->node_id);
    put_text(info, "raft_cluster_id", st->cluster_id);
    put(info, "raft_term", st->term);
    put(info, "raft_leader_id", st->leader_id);
    put(info, "raft_first_index", st->first_index);
    put(info, "raft_last_index", st->last_index);
    put(info, "raft_commit_index", st->commit_index > meta->applied_index ? st->commit_index : meta->applied_index);
    put(info, "raft_applied_index", meta->applied_index);
    put(info, "raft_durable_index", st->durable_index);
    put(info, "raft_snapshot_index", st->snapshot_index);
    put_text(info, "raft_voters", st->voters);
    if (with_digest) {
        hf_digest_text(meta, digest);
        put_text(info, "raft_digest", digest);
    }
    for (uint32_t i = 0; i < st->n_peers; i++) {
        const struct hf_node_peer_status *peer = &st->peers[i];

        hf_buf_printf(&info->text, "raft_peer%u:id=%" PRIu64 ",address=%s,role=%s,connected=%d,match_index=%" PRIu64, i,
                      peer->id, peer->address, peer->role, peer->is_connected, peer->match_index);
        if (peer->last_contact_ms == UINT64_MAX)
            hf_buf_printf(&info->text, ",last_contact_ms=-1\r\n");
        else
            hf_buf_printf(&info->text, ",last_contact_ms=%" PRIu64 "\r\n", peer->last_contact_ms);
    }
}

static void put_raft(struct info *info)
{
    put_raft_fields(info, false);
}

/* A member in a line of its own: of this node what it knows itself, of the others what it heard; match_index and lag
 * are known to the leader. */
static void put_members(struct info *info)
{
    const struct hf_node_status *st = info->st;
    bool is_member = st->self_role != NULL && st->self_role[0] != '\0', is_leader = hf_node_is_leader(st);

    put(info, "members", st->n_peers + is_member);
    put_text(info, "member_name", st->name);
    put_text(info, "member_role", is_member ? hf_role_word(st->self_role) : "none");
    put_text(info, "member_address", st->peer_address);
    put(info, "feature_level", st->level);
    put(info, "feature_level_max", st->level_max);
    for (uint32_t i = 0; i < st->n_peers; i++) {
        const struct hf_node_peer_status *peer = &st->peers[i];

        hf_buf_printf(&info->text,
                      "member%" PRIu64 ":name=%s,role=%s,leader=%d,address=%s,client_address=%s,connected=%d,level=%u",
                      peer->id, peer->name, hf_role_word(peer->role), peer->id == st->leader_id, peer->address,
                      peer->client_address, peer->is_connected, peer->level);
        if (is_leader)
            hf_buf_printf(&info->text, ",match_index=%" PRIu64 ",lag=%" PRIu64, peer->match_index,
                          st->last_index > peer->match_index ? st->last_index - peer->match_index : 0);
        hf_buf_printf(&info->text, "\r\n");
    }
}

/* Whole state databases on their way from or to this node. */
static void put_copies(struct info *info)
{
    put(info, "copies", info->st->n_copies);
    for (uint32_t i = 0; i < info->st->n_copies; i++) {
        const struct hf_node_copy_status *copy = &info->st->copies[i];

        hf_buf_printf(&info->text,
                      "copy%" PRIu32 ":member=%" PRIu64 ",direction=%s,phase=%s,index=%" PRIu64 ",done_bytes=%" PRIu64
                      ",total_bytes=%" PRIu64 ",bytes_per_second=%" PRIu64 "\r\n",
                      i, copy->member, copy->is_sending ? "out" : "in", copy->phase, copy->index, copy->done_bytes,
                      copy->total_bytes, copy->bytes_per_second);
    }
}

static void put_errorstats(struct info *info)
{
    struct hf_error_stats errors = hf_error_stats(info->st->stats);

    for (uint32_t i = 0; i < HF_ERROR_WORDS; i++) {
        uint64_t n = hf_counter_since_mark(errors.of[i]);

        if (n != 0)
            hf_buf_printf(&info->text, "errorstat_%s:count=%" PRIu64 "\r\n", hf_error_word(i), n);
    }
}

/* ---- INFO ---------------------------------------------------------------------------------------- */

/* In the order of output. is_default: part of INFO without arguments. */
static const struct info_section {
    const char *name, *title;
    bool is_default;
    void (*put)(struct info *info);
} sections[] = {
    {"server", "Server", true, put_server},
    {"clients", "Clients", true, put_clients},
    {"memory", "Memory", true, put_memory},
    {"persistence", "Persistence", true, put_persistence},
    {"stats", "Stats", true, put_stats},
    {"replication", "Replication", true, put_replication},
    {"cpu", "CPU", true, put_cpu},
    {"modules", "Modules", true, put_modules},
    {"commandstats", "Commandstats", false, put_commandstats},
    {"errorstats", "Errorstats", true, put_errorstats},
    {"latencystats", "Latencystats", false, put_latencystats},
    {"cluster", "Cluster", true, put_cluster},
    {"keyspace", "Keyspace", true, put_keyspace},
    {"store", "Store", true, put_store},
    {"raft", "Raft", true, put_raft},
    {"members", "Members", true, put_members},
    {"copies", "Copies", true, put_copies},
};

static bool is_all(struct hf_slice word)
{
    return hf_slice_is(word, "all") || hf_slice_is(word, "everything");
}

void hf_read_info(struct hf_read_ctx *cx, const struct hf_args *args, struct hf_reply *out)
{
    struct info info = {.cx = cx, .st = cx->status};

    if (info.st == NULL || info.st->stats == NULL) {
        hf_reply_error(out, "ERR INFO is not available here");
        return;
    }
    for (size_t s = 0; s < sizeof(sections) / sizeof(sections[0]); s++) {
        bool is_named = false, is_wanted = args->n == 1 && sections[s].is_default;

        for (uint32_t i = 1; i < args->n; i++) {
            is_named = is_named || hf_slice_is(args->at[i], sections[s].name);
            is_wanted = is_wanted || is_all(args->at[i]) || (hf_arg_is(args, i, "default") && sections[s].is_default);
        }
        if (!is_named && !is_wanted)
            continue;
        if (info.text.len != 0)
            hf_buf_printf(&info.text, "\r\n");
        hf_buf_printf(&info.text, "# %s\r\n", sections[s].title);
        if (is_named && sections[s].put == put_raft)
            put_raft_fields(&info, true);
        else
            sections[s].put(&info);
    }
    hf_reply_verbatim(out, hf_buf_slice(&info.text));
    hf_buf_free(&info.text);
}
