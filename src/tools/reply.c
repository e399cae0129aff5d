/* reply.c: replies as people read them (the layout of redis-cli), raw, or as JSON. See tools.h. */
#include "tools/tools.h"

#include <stdio.h>
#include <string.h>

static void put_quoted(struct hf_buf *out, const char *text, size_t n)
{
    hf_buf_put_u8(out, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        const char *escape = strchr("\n\r\t\a\b", c);

        if (c == '"' || c == '\\')
            hf_buf_printf(out, "\\%c", c);
        else if (c != 0 && escape)
            hf_buf_printf(out, "\\%c", "nrtab"[escape - "\n\r\t\a\b"]);
        else if (c >= 32 && c < 127)
            hf_buf_put_u8(out, c);
        else
            hf_buf_printf(out, "\\x%02x", c);
    }
    hf_buf_put_u8(out, '"');
}

static void put_readable(struct hf_buf *out, const redisReply *r, unsigned indent)
{
    unsigned width = 1;

    switch (r->type) {
    case REDIS_REPLY_STRING:
        put_quoted(out, r->str, r->len);
        break;
    case REDIS_REPLY_STATUS:
        hf_buf_put(out, r->str, r->len);
        break;
    case REDIS_REPLY_ERROR:
        hf_buf_printf(out, "(error) %.*s", (int)r->len, r->str);
        break;
    case REDIS_REPLY_INTEGER:
        hf_buf_printf(out, "(integer) %lld", r->integer);
        break;
    case REDIS_REPLY_NIL:
        hf_buf_printf(out, "(nil)");
        break;
    case REDIS_REPLY_ARRAY:
        if (r->elements == 0) {
            hf_buf_printf(out, "(empty array)");
            break;
        }
        for (size_t n = r->elements; n >= 10; n /= 10)
            width++;
        for (size_t i = 0; i < r->elements; i++) {
            hf_buf_printf(out, "%*s%*zu) ", i == 0 ? 0 : (int)indent, "", (int)width, i + 1);
            put_readable(out, r->element[i], indent + width + 2);
        }
        return; /* the last element has ended the line */
    default:
        hf_buf_printf(out, "(a reply of type %d, which this tool does not know)", r->type);
    }
    hf_buf_put_u8(out, '\n');
}

static void put_raw(struct hf_buf *out, const redisReply *r)
{
    if (r->type == REDIS_REPLY_ARRAY) {
        for (size_t i = 0; i < r->elements; i++)
            put_raw(out, r->element[i]);
        return;
    }
    if (r->type == REDIS_REPLY_INTEGER)
        hf_buf_printf(out, "%lld", r->integer);
    else if (r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS || r->type == REDIS_REPLY_ERROR)
        hf_buf_put(out, r->str, r->len);
    hf_buf_put_u8(out, '\n');
}

/* Length of the valid UTF-8 sequence at text (RFC 3629), or 0. */
static size_t utf8_length(const unsigned char *text, size_t n)
{
    static const struct {
        unsigned char first_low, first_high, second_low, second_high, length;
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };

    if (text[0] < 0x80)
        return 1;
    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
        if (text[0] < forms[f].first_low || text[0] > forms[f].first_high)
            continue;
        if (forms[f].length > n || text[1] < forms[f].second_low || text[1] > forms[f].second_high)
            return 0;
        for (size_t i = 2; i < forms[f].length; i++)
            if (text[i] < 0x80 || text[i] > 0xbf)
                return 0;
        return forms[f].length;
    }
    return 0;
}

void hf_tool_print_json_text(struct hf_buf *out, const char *text, size_t n)
{
    hf_buf_put_u8(out, '"');
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)text[i];
        size_t length = utf8_length((const unsigned char *)text + i, n - i);

        if (c == '"' || c == '\\')
            hf_buf_printf(out, "\\%c", c);
        else if (c == '\n')
            hf_buf_printf(out, "\\n");
        else if (c == '\r')
            hf_buf_printf(out, "\\r");
        else if (c == '\t')
            hf_buf_printf(out, "\\t");
        else if (c < 32 || length == 0)
            hf_buf_printf(out, "\\u%04x", c);
        else
            hf_buf_put(out, text + i, length);
        i += length ? length : 1;
    }
    hf_buf_put_u8(out, '"');
}

static void put_json(struct hf_buf *out, const redisReply *r)
{
    switch (r->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        hf_tool_print_json_text(out, r->str, r->len);
        break;
    case REDIS_REPLY_ERROR:
        hf_buf_printf(out, "{\"error\":");
        hf_tool_print_json_text(out, r->str, r->len);
        hf_buf_put_u8(out, '}');
        break;
    case REDIS_REPLY_INTEGER:
        hf_buf_printf(out, "%lld", r->integer);
        break;
    case REDIS_REPLY_ARRAY:
        hf_buf_put_u8(out, '[');
        for (size_t i = 0; i < r->elements; i++) {
            if (i)
                hf_buf_put_u8(out, ',');
            put_json(out, r->element[i]);
        }
        hf_buf_put_u8(out, ']');
        break;
    default:
        hf_buf_printf(out, "null");
    }
}

void hf_tool_print_reply(struct hf_buf *out, const redisReply *reply, enum hf_tool_style style)
{
    switch (style) {
    case HF_TOOL_AUTO:
    case HF_TOOL_READABLE:
        put_readable(out, reply, 0);
        break;
    case HF_TOOL_RAW:
        put_raw(out, reply);
        break;
    case HF_TOOL_JSON:
        put_json(out, reply);
        hf_buf_put_u8(out, '\n');
        break;
    }
}
