/* The HTTP pages, asked over real sockets: what each answers, and when the node is not ready or does not answer. */
#include "admin/admin.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static atomic_bool is_ready, is_answering;

static bool fill_metrics(void *data, struct hf_buf *out)
{
    (void)data;
    hf_buf_printf(out, "holdfast_up 1\n");
    return is_answering;
}

static bool fill_status(void *data, struct hf_buf *out)
{
    (void)data;
    hf_buf_printf(out, "{\"id\":1}\n");
    return is_answering;
}

static bool fill_ready(void *data, struct hf_buf *out)
{
    (void)data;
    if (!is_ready && is_answering)
        hf_buf_printf(out, "no leader");
    return is_ready;
}

static const struct hf_admin_ops ops = {.metrics = fill_metrics, .status_json = fill_status, .is_ready = fill_ready};
static struct hf_admin *admin;
static char address[64], why[256], reply[4096];
static uint16_t port;

/* A port that was free a moment ago. */
static uint16_t free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    close(fd);
    return ntohs(at.sin_port);
}

static void open_admin(void)
{
    is_ready = is_answering = true;
    for (int tries = 0; tries < 10; tries++) {
        port = free_port();
        snprintf(address, sizeof address, "127.0.0.1:%u", port);
        if (hf_admin_open(address, &ops, &admin, why, sizeof why) == 0)
            return;
    }
    ck_abort_msg("%s", why);
}

static void close_admin(void)
{
    hf_admin_close(admin);
    admin = NULL;
}

/* Sends a request and reads to the end of the connection. */
static const char *request(const char *text)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 20};
    size_t len = 0;
    ssize_t got;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    while (len < sizeof reply - 1 && (got = recv(fd, reply + len, sizeof reply - 1 - len, 0)) > 0)
        len += (size_t)got;
    reply[len] = 0;
    close(fd);
    return reply;
}

static const char *get(const char *page)
{
    char text[256];

    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", page);
    return request(text);
}

static void ck_answer(const char *got, const char *status, const char *part)
{
    ck_assert_msg(strncmp(got, status, strlen(status)) == 0, "not '%s': %s", status, got);
    ck_assert_msg(strstr(got, part) != NULL, "no '%s' in: %s", part, got);
}

START_TEST(test_pages_answer)
{
    ck_answer(get("/healthz"), "HTTP/1.1 200 ", "\r\n\r\nok\n");
    ck_answer(get("/readyz"), "HTTP/1.1 200 ", "\r\n\r\nready\n");
    ck_answer(get("/metrics"), "HTTP/1.1 200 ", "\r\n\r\nholdfast_up 1\n");
    ck_answer(get("/metrics"), "HTTP/1.1 200 ", "text/plain; version=0.0.4");
    ck_answer(get("/status"), "HTTP/1.1 200 ", "\r\n\r\n{\"id\":1}\n");
    ck_answer(get("/status"), "HTTP/1.1 200 ", "application/json");
    ck_answer(get("/"), "HTTP/1.1 200 ", "/metrics\n");
    ck_answer(get("/status?pretty=1"), "HTTP/1.1 200 ", "{\"id\":1}");
}
END_TEST

START_TEST(test_a_node_that_is_not_ready_says_why)
{
    is_ready = false;
    ck_answer(get("/readyz"), "HTTP/1.1 503 ", "\r\n\r\nno leader\n");
    ck_answer(get("/healthz"), "HTTP/1.1 200 ", "ok\n");
    ck_answer(get("/metrics"), "HTTP/1.1 200 ", "holdfast_up 1\n");
}
END_TEST

START_TEST(test_a_loop_that_does_not_answer_is_told_from_a_dead_process)
{
    is_ready = is_answering = false;
    ck_answer(get("/readyz"), "HTTP/1.1 503 ", "\r\n\r\nthe node does not answer\n");
    /* Half a page is not shown. */
    ck_answer(get("/metrics"), "HTTP/1.1 503 ", "\r\n\r\nthe node does not answer\n");
    ck_answer(get("/status"), "HTTP/1.1 503 ", "\r\n\r\nthe node does not answer\n");
    ck_answer(get("/healthz"), "HTTP/1.1 200 ", "ok\n");
}
END_TEST

START_TEST(test_everything_else_is_refused)
{
    ck_answer(get("/metrics/"), "HTTP/1.1 404 ", "not found\n");
    ck_answer(get("/../etc/passwd"), "HTTP/1.1 404 ", "not found\n");
    ck_answer(request("POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"),
              "HTTP/1.1 405 ", "Allow: GET, HEAD\r\n");
    ck_answer(request("DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), "HTTP/1.1 405 ", "only GET");
    ck_assert_ptr_null(strstr(request("no http at all\r\n\r\n"), "200 OK"));
    /* Still there. */
    ck_answer(get("/healthz"), "HTTP/1.1 200 ", "ok\n");
}
END_TEST

START_TEST(test_head_gives_no_body)
{
    ck_answer(request("HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), "HTTP/1.1 200 ",
              "Content-Length: 3\r\n");
    ck_assert_ptr_null(strstr(reply, "\r\n\r\nok"));
}
END_TEST

START_TEST(test_a_taken_port_and_a_bad_address_are_named)
{
    struct hf_admin *other = NULL;

    ck_assert_int_eq(hf_admin_open(address, &ops, &other, why, sizeof why), HF_E_ADDRINUSE);
    ck_assert_ptr_nonnull(strstr(why, address));
    ck_assert_ptr_nonnull(strstr(why, "already in use"));
    ck_assert_int_eq(hf_admin_open("8379", &ops, &other, why, sizeof why), HF_E_INVALID);
    ck_assert_ptr_nonnull(strstr(why, "host:port"));
    ck_assert_int_eq(hf_admin_open("no host:1", &ops, &other, why, sizeof why), HF_E_INVALID);
    ck_assert_ptr_null(other);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("admin");
    TCase *tc = tcase_create("admin");
    SRunner *runner;
    int failed;

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, open_admin, close_admin);
    tcase_add_test(tc, test_pages_answer);
    tcase_add_test(tc, test_a_node_that_is_not_ready_says_why);
    tcase_add_test(tc, test_a_loop_that_does_not_answer_is_told_from_a_dead_process);
    tcase_add_test(tc, test_everything_else_is_refused);
    tcase_add_test(tc, test_head_gives_no_body);
    tcase_add_test(tc, test_a_taken_port_and_a_bad_address_are_named);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
