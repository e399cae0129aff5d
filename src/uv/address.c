/* address.c: "host:port" to socket addresses and back. */
#include "uv/internal.h"

#include "base/util.h"

#include <arpa/inet.h>
#include <stdio.h>

bool hf_uv_address_split(const char *address, char host[HF_UV_HOST_MAX], uint16_t *port)
{
    const char *colon = strrchr(address, ':');
    const char *from = address, *to = colon;
    int64_t number;

    if (colon == NULL || !hf_parse_int64(hf_slice_str(colon + 1), &number) || number < 0 || number > UINT16_MAX)
        return false;
    if (*from == '[') {
        if (to - from < 2 || to[-1] != ']')
            return false;
        from++;
        to--;
    } else if (memchr(from, ':', (size_t)(to - from)) != NULL) {
        return false; /* a bare IPv6 address: where its port begins is a guess */
    }
    if (to - from >= HF_UV_HOST_MAX)
        return false;
    memcpy(host, from, (size_t)(to - from));
    host[to - from] = '\0';
    *port = (uint16_t)number;
    return true;
}

bool hf_uv_address_numeric(const char *host, uint16_t port, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    return uv_ip4_addr(host, port, (struct sockaddr_in *)(void *)out) == 0 ||
           uv_ip6_addr(host, port, (struct sockaddr_in6 *)(void *)out) == 0;
}

void hf_uv_address_format(const struct sockaddr_storage *addr, char *out, size_t cap)
{
    char host[INET6_ADDRSTRLEN] = "?";

    if (addr->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)addr;

        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        snprintf(out, cap, "%s:%u", host, ntohs(in->sin_port));
    } else if (addr->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)addr;

        /* An IPv4 client of a dual-stack listener. */
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
            inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host, sizeof(host));
            snprintf(out, cap, "%s:%u", host, ntohs(in6->sin6_port));
        } else {
            inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
            snprintf(out, cap, "[%s]:%u", host, ntohs(in6->sin6_port));
        }
    } else {
        snprintf(out, cap, "?:0");
    }
}
