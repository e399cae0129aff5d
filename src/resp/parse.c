/* parse.c: the incremental request parser: bytes of a client to the words of one command.
 *
 * Two forms, told apart by the first byte:
 *   "*<count>\r\n" then count times "$<length>\r\n<bytes>\r\n"     count <= 0 is an empty command
 *   anything else: one line of words ending in \n or \r\n, with the quoting rules of redis-cli's input:
 *     "..." knows \n \r \t \b \a \xHH and \<char>; '...' knows only \'; a closing quote ends the word.
 * Like Redis, the two bytes after a number and after a bulk are not looked at.
 *
 * Nothing is copied but quoted inline words. Between calls the parser keeps offsets only (the input may move): `line`
 * is where the line in progress begins, `pos` up to where it was searched, spans[] where the finished words are.
 * What is allocated follows what has arrived, never what a header promises. */
#include "resp/resp.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/util.h"

#include <stdio.h>

#define WORDS_AT_FIRST 8

void hf_resp_parser_init(struct hf_resp_parser *p, const struct hf_resp_limits *limits)
{
    memset(p, 0, sizeof *p);
    p->limits = limits;
    p->bulk_len = -1;
}

void hf_resp_parser_free(struct hf_resp_parser *p)
{
    const struct hf_resp_limits *limits = p->limits;

    hf_free(p->args.at);
    hf_free(p->spans);
    hf_buf_free(&p->scratch);
    hf_resp_parser_init(p, limits);
}

static void restart(struct hf_resp_parser *p)
{
    p->pos = 0;
    p->line = 0;
    p->words_left = 0;
    p->bulk_len = -1;
    p->needed = 0;
}

static enum hf_resp_status fail(struct hf_resp_parser *p, const char *what)
{
    snprintf(p->error, sizeof p->error, "ERR Protocol error: %s", what);
    return HF_RESP_ERROR;
}

static void grow_words(struct hf_resp_parser *p)
{
    p->cap = p->cap == 0 ? WORDS_AT_FIRST : p->cap * 2;
    p->spans = hf_realloc(p->spans, p->cap * sizeof *p->spans);
    p->args.at = hf_realloc(p->args.at, p->cap * sizeof *p->args.at);
}

/* Find the number line that begins at p->line, past its type byte. MORE, COMMAND (*out is the number, *end the
 * offset after the line) or ERROR (not a number: *too_long tells which error it is). */
static inline enum hf_resp_status read_number(struct hf_resp_parser *p, struct hf_slice input, int64_t *out,
                                              bool *too_long)
{
    const uint8_t *line = input.ptr + p->line;
    size_t left = input.len - p->line;
    size_t window, from;
    const uint8_t *cr;

    /* One and two digits are nearly all there is: no search. */
    if (left >= 5 && line[1] >= '1' && line[1] <= '9') {
        if (line[2] == '\r') {
            *out = line[1] - '0';
            p->line += 4;
            p->pos = p->line;
            return HF_RESP_COMMAND;
        }
        if (line[2] >= '0' && line[2] <= '9' && line[3] == '\r') {
            *out = (line[1] - '0') * 10 + (line[2] - '0');
            p->line += 5;
            p->pos = p->line;
            return HF_RESP_COMMAND;
        }
    }

    /* A line may have at most inline_bytes_max bytes before its CR, whether or not the CR is already here: the answer
     * must not depend on how the input was cut. */
    *too_long = false;
    from = p->pos - p->line;
    window =
        (uint64_t)left > (uint64_t)p->limits->inline_bytes_max + 1 ? (size_t)p->limits->inline_bytes_max + 1 : left;
    cr = from < window ? memchr(line + from, '\r', window - from) : NULL;
    if (cr == NULL) {
        p->pos = p->line + window;
        if (window > p->limits->inline_bytes_max) {
            *too_long = true;
            return HF_RESP_ERROR;
        }
        return HF_RESP_MORE;
    }
    p->pos = (size_t)(cr - input.ptr);
    if (p->pos + 2 > input.len)
        return HF_RESP_MORE;
    if (!hf_parse_int64(hf_slice(line + 1, (size_t)(cr - line) - 1), out))
        return HF_RESP_ERROR;
    p->line = p->pos + 2;
    p->pos = p->line;
    return HF_RESP_COMMAND;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static uint8_t unescape(uint8_t c)
{
    switch (c) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return c;
    }
}

/* One word that contains a quote, from *at on, unquoted into scratch (which has room). False: a quote is not closed,
 * or something stands right behind a closing one. */
static bool unquote_word(struct hf_resp_parser *p, const uint8_t **at, const uint8_t *end)
{
    const uint8_t *s = *at;
    uint8_t *out = p->scratch.data + p->scratch.len;
    uint8_t quote = 0;

    for (;; s++) {
        if (s == end) {
            if (quote != 0)
                return false;
            break;
        }
        if (quote == '"' && *s == '\\' && end - s >= 4 && s[1] == 'x' && hex_value(s[2]) >= 0 && hex_value(s[3]) >= 0) {
            *out++ = (uint8_t)(hex_value(s[2]) << 4 | hex_value(s[3]));
            s += 3;
        } else if (quote == '"' && *s == '\\' && end - s >= 2) {
            *out++ = unescape(*++s);
        } else if (quote == '\'' && *s == '\\' && end - s >= 2 && s[1] == '\'') {
            *out++ = *++s;
        } else if (quote != 0 && *s == quote) {
            s++;
            if (s != end && !is_space(*s))
                return false;
            break;
        } else if (quote == 0 && (*s == ' ' || *s == '\n' || *s == '\r' || *s == '\t')) {
            break;
        } else if (quote == 0 && (*s == '"' || *s == '\'')) {
            quote = *s;
        } else {
            *out++ = *s;
        }
    }
    p->scratch.len = (size_t)(out - p->scratch.data);
    *at = s;
    return true;
}

static enum hf_resp_status split_line(struct hf_resp_parser *p, struct hf_slice line)
{
    const uint8_t *s = line.ptr, *end = line.ptr + line.len;

    p->args.n = 0;
    p->scratch.len = 0;
    for (;;) {
        const uint8_t *start;
        bool is_quoted = false;

        while (s != end && is_space(*s))
            s++;
        if (s == end)
            return HF_RESP_COMMAND;
        if (p->args.n == p->limits->args_max)
            return fail(p, "invalid multibulk length");
        if (p->args.n == p->cap)
            grow_words(p);
        for (start = s; s != end && *s != ' ' && *s != '\n' && *s != '\r' && *s != '\t'; s++) {
            if (*s == '"' || *s == '\'') {
                is_quoted = true;
                break;
            }
        }
        if (is_quoted) {
            size_t before;

            /* Unquoting only shortens: with room for the whole line the words written so far do not move. */
            if (p->scratch.len == 0)
                hf_buf_reserve(&p->scratch, line.len + 1);
            before = p->scratch.len;
            s = start;
            if (!unquote_word(p, &s, end))
                return fail(p, "unbalanced quotes in request");
            p->args.at[p->args.n++] = hf_slice(p->scratch.data + before, p->scratch.len - before);
        } else {
            p->args.at[p->args.n++] = hf_slice(start, (size_t)(s - start));
        }
    }
}

static enum hf_resp_status parse_inline(struct hf_resp_parser *p, struct hf_slice input, size_t *consumed)
{
    size_t max = p->limits->inline_bytes_max, len;
    size_t window = input.len > max + 1 ? max + 1 : input.len;
    const uint8_t *lf = p->pos < window ? memchr(input.ptr + p->pos, '\n', window - p->pos) : NULL;
    enum hf_resp_status status;

    if (lf == NULL) {
        p->pos = window;
        if (window > max)
            return fail(p, "too big inline request");
        return HF_RESP_MORE;
    }
    len = (size_t)(lf - input.ptr);
    *consumed = len + 1;
    if (len != 0 && input.ptr[len - 1] == '\r')
        len--;
    status = split_line(p, hf_slice(input.ptr, len));
    restart(p);
    return status;
}

static enum hf_resp_status parse_words(struct hf_resp_parser *p, struct hf_slice input, size_t *consumed)
{
    while (p->words_left > 0) {
        if (p->bulk_len < 0) {
            size_t line = p->line;
            bool too_long = false;
            int64_t n;

            if (line >= input.len)
                return HF_RESP_MORE;
            switch (read_number(p, input, &n, &too_long)) {
            case HF_RESP_MORE:
                return HF_RESP_MORE;
            case HF_RESP_ERROR:
                if (too_long)
                    return fail(p, "too big bulk count string");
                n = -1;
                break;
            case HF_RESP_COMMAND:
                break;
            }
            if (input.ptr[line] != '$') {
                snprintf(p->error, sizeof p->error, "ERR Protocol error: expected '$', got '%c'", input.ptr[line]);
                if (input.ptr[line] < ' ' || input.ptr[line] > '~') /* the text must stay one printable line */
                    return fail(p, "expected '$', got '?'");
                return HF_RESP_ERROR;
            }
            if (n < 0 || (uint64_t)n > p->limits->bulk_bytes_max || (uint64_t)n > HF_RESP_BULK_BYTES_LIMIT)
                return fail(p, "invalid bulk length");
            if (p->line + (uint64_t)n + 2 > p->limits->query_bytes_max)
                return fail(p, "too big request");
            p->bulk_len = n;
        }
        if (input.len - p->line < (size_t)p->bulk_len + 2) {
            p->needed = p->line + (size_t)p->bulk_len + 2;
            return HF_RESP_MORE;
        }
        if (p->args.n == p->cap)
            grow_words(p);
        p->spans[p->args.n].offset = p->line;
        p->spans[p->args.n].len = (size_t)p->bulk_len;
        p->args.n++;
        p->line += (size_t)p->bulk_len + 2;
        p->pos = p->line;
        p->bulk_len = -1;
        p->needed = 0;
        p->words_left--;
    }
    for (uint32_t i = 0; i < p->args.n; i++)
        p->args.at[i] = hf_slice(input.ptr + p->spans[i].offset, p->spans[i].len);
    *consumed = p->line;
    restart(p);
    return HF_RESP_COMMAND;
}

enum hf_resp_status hf_resp_parse(struct hf_resp_parser *p, struct hf_slice input, size_t *consumed)
{
    bool too_long = false;
    int64_t n;

    *consumed = 0;
    if (p->words_left > 0)
        return parse_words(p, input, consumed);
    if (input.len == 0)
        return HF_RESP_MORE;
    if (input.ptr[0] != '*')
        return parse_inline(p, input, consumed);

    switch (read_number(p, input, &n, &too_long)) {
    case HF_RESP_MORE:
        return HF_RESP_MORE;
    case HF_RESP_ERROR:
        return fail(p, too_long ? "too big mbulk count string" : "invalid multibulk length");
    case HF_RESP_COMMAND:
        break;
    }
    if (n > (int64_t)p->limits->args_max)
        return fail(p, "invalid multibulk length");
    p->args.n = 0;
    if (n <= 0) {
        *consumed = p->line;
        restart(p);
        return HF_RESP_COMMAND;
    }
    p->words_left = n;
    return parse_words(p, input, consumed);
}
