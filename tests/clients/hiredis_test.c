/* hiredis against a cluster, through the death of the leader. Usage: hiredis_test PORT...; the runner kills the
 * leader when this prints READY. */
#include <hiredis/hiredis.h>
#include <holdfast/errors.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static redisContext *dial(int port)
{
    struct timeval patience = {.tv_sec = 10};
    redisContext *c = redisConnectWithTimeout("127.0.0.1", port, patience);

    if (c && c->err) {
        redisFree(c);
        return NULL;
    }
    if (c)
        redisSetTimeout(c, patience);
    return c;
}

static void need(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "hiredis_test: %s\n", what);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    long long acked = 0, unknown = 0, refused = 0, after = 0, value;
    int turn = 0, is_killed = 0, n = argc - 1;
    redisContext *c[8] = {0};
    redisReply *r;
    time_t until = time(NULL) + 60;

    need(n >= 1 && n <= 8, "give one to eight ports");
    for (int i = 0; i < n; i++)
        need((c[i] = dial(atoi(argv[i + 1]))) != NULL, "cannot connect");
    r = redisCommand(c[0], "SET hr:bin %b", "a\0b\r\nc", (size_t)6);
    need(r && r->type == REDIS_REPLY_STATUS, "SET of a binary value");
    freeReplyObject(r);
    for (int i = 0; i < n; i++) {
        r = redisCommand(c[i], "GET hr:bin");
        need(r && r->type == REDIS_REPLY_STRING && r->len == 6 && memcmp(r->str, "a\0b\r\nc", 6) == 0, "GET it back");
        freeReplyObject(r);
    }
    for (int i = 0; i < 1000; i++)
        redisAppendCommand(c[n - 1], "INCR hr:pipe");
    for (int i = 0; i < 1000; i++) {
        need(redisGetReply(c[n - 1], (void **)&r) == REDIS_OK && r->type == REDIS_REPLY_INTEGER, "pipelined INCR");
        freeReplyObject(r);
    }
    while (after < 300 && time(NULL) < until) {
        int i = turn++ % n;

        if (!c[i]) {
            c[i] = dial(atoi(argv[i + 1]));
            if (!c[i])
                continue;
        }
        r = redisCommand(c[i], "INCR hr:n");
        if (!r) {
            unknown++;
            redisFree(c[i]);
            c[i] = NULL;
            continue;
        }
        if (r->type == REDIS_REPLY_INTEGER) {
            acked++;
            after += is_killed;
        } else if (holdfast_may_have_happened(r->str)) {
            unknown++;
        } else {
            refused++;
        }
        freeReplyObject(r);
        if (acked == 200 && !is_killed) {
            is_killed = 1;
            printf("READY\n");
            fflush(stdout);
        }
    }
    need(after >= 300, "too few increments after the failover");
    for (int i = 0; i < n; i++) {
        if (!c[i])
            continue;
        r = redisCommand(c[i], "GET hr:n");
        need(r && r->type == REDIS_REPLY_STRING, "GET of the counter");
        value = atoll(r->str);
        freeReplyObject(r);
        printf("hiredis: counter %lld, acknowledged %lld, unknown %lld, refused %lld\n", value, acked, unknown,
               refused);
        need(value >= acked && value <= acked + unknown, "the counter does not add up");
        break;
    }
    for (int i = 0; i < n; i++)
        if (c[i])
            redisFree(c[i]);
    return 0;
}
